"""Builds everything a composed config names: the one place where configs become objects."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.checkpoint import Checkpoints, folders
from agentrl.config import Config
from agentrl.distributed.member import serve
from agentrl.distributed.team import Team
from agentrl.endpoint import untrainable
from agentrl.engine.recorded import Recorded
from agentrl.evaluate import Evaluate
from agentrl.fits import at_once, require_best, require_weights, require_work
from agentrl.learner import AdamW
from agentrl.log.files import cut
from agentrl.measure import Clock
from agentrl.methods.base import Method
from agentrl.model import IMPORT_S, Policy
from agentrl.panel import panel, require_disjoint
from agentrl.provenance import noted, provenance
from agentrl.rollout.base import Rollout, Stage
from agentrl.rollout.supply import TaskOrder
from agentrl.run.run import Player, Run
from agentrl.seeds import derive
from agentrl.warmstart import Start
from agentrl.watchdog import patience

WORLD_S, ENGINE_S = 600.0, 600.0  # in which data must be read, and an engine be up (vLLM compiles on a GPU)


@patience("setup", "setting up what plays", IMPORT_S)
def player(cfg: Config, team: Team | None = None) -> Player:
    """Everything evaluation needs, built from a checked config; ``team``: who learns, None where nobody does.

    Raises ConfigError, EnvError, DataError, TeamError.
    """
    clock = Clock()
    with clock.phase("setup"):
        folder = Path(cfg.run_dir)
        with patience("setup", "building the environment", WORLD_S):
            env = config.build(cfg.env)
            splits = require_disjoint(env)
            evaluate: Evaluate = config.build(cfg.eval)
            chosen = panel(env, evaluate.panel_split, evaluate.tasks)
        pretrained = config.build(cfg.model)
        seed = derive(int(cfg.seed), "model")
        if team is None:
            policy: Policy = pretrained.build(str(cfg.device), seed)
        else:
            policy = config.build(cfg.parallel).policy(pretrained, str(cfg.device), seed, team)
        with patience("setup", "starting the engine", ENGINE_S):
            engine = config.build(cfg.cluster).start(config.build(cfg.engine), pretrained, str(cfg.device))
        stage = Stage(env, engine, policy.chat, config.build(cfg.context), config.build(cfg.schedule))
    facts = {
        "env": dict(env.fingerprint),
        "splits": splits,
        "panel": {"split": chosen.split, "tasks": len(chosen.tasks), "hash": chosen.hash},
        "model": {
            "path": pretrained.path,
            "place": policy.place.describe(),
            "parameters": policy.parameters_count,
            "trained": sum(p.numel() for p in policy.parameters()),
        },
        "provenance": provenance(),
    }
    return Player(cfg, folder, stage, policy, evaluate, chosen, clock, facts)


@patience("setup", "setting up what learns", IMPORT_S)
def training_run(cfg: Config, start: Start | None = None) -> Run:
    """Everything training needs, the policy with the weights of the warm start ``start``.

    Raises ConfigError also when ``steps`` does not divide into whole batches.
    """
    rollout: Rollout = config.build(cfg.rollout)
    learning = config.build(cfg.learner)
    learning.batches(int(cfg.steps))  # refused now, not after the start of an engine
    method: Method = config.build(cfg.method)
    require_work(cfg, rollout, learning.minibatches, method)
    require_weights(cfg, method)
    team: Team = config.build(cfg.parallel).start(serve, str(cfg.device), config.build(cfg.cluster))
    try:
        return _run(cfg, start, team, rollout, learning, method)
    except BaseException:
        team.close()
        raise


def _run(cfg: Config, start: Start | None, team: Team, rollout: Rollout, learning: AdamW, method: Method) -> Run:
    """What is left to build once there is a team."""
    checkpoints: Checkpoints = config.build(cfg.checkpoint)
    base = player(cfg, team)
    if not base.policy.parameters():
        raise untrainable(str(cfg.choices.model))
    require_best(checkpoints, base.evaluate)
    if base.evaluate.every:
        panel(base.stage.env, "val", base.evaluate.val_tasks, "eval.val_tasks")  # refused now, not after hours
    base.facts["method"] = config.plain(cfg.method)
    base.stage = replace(base.stage, engine=Recorded(base.engine, base.folder, at_once(cfg)))
    about: dict[str, Any] = {
        "temperature": rollout.temperature,
        "steps": learning.batches(int(cfg.steps)),
        "seed": base.seed,
    }
    team.others("member.learner", learning, about)
    run = Run(
        **{name: getattr(base, name) for name in Player.__dataclass_fields__},
        rollout=rollout,
        reward=config.build(cfg.reward),
        method=method,
        learner=learning.build(base.policy, **about, team=team),
        sync=config.build(cfg.sync),
        checkpoints=checkpoints,
        tasks=TaskOrder(base.stage.env.tasks("train"), base.seed, rollout.pool),
        updates=learning.updates,
        start=start,
        team=team,
        guard=config.build(cfg.guards).begin(base.folder),
        past=deque(maxlen=method.past_batches * int(cfg.tasks_per_step)),
    )
    if cfg.resume and folders(run.folder):
        run.restore()
        run.guard.take_up(run.step)
    else:
        run.begin()
        cut(run.folder, {})  # of a run that was killed before its first checkpoint
    if run.start:
        run.facts["warmstart"] = asdict(run.start)
    run.facts["provenance"] |= noted(run.folder, bool(cfg.resume))
    run.log = run.open_log(run.steps, run.step)
    config.save(cfg, run.folder / "config.yaml")  # last: a folder that has it holds a run
    return run
