"""Builds everything a composed config names: the one place where configs become objects."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.ahead import Ahead
from agentrl.checkpoint import Checkpoints, latest
from agentrl.config import Config
from agentrl.distributed.member import serve
from agentrl.distributed.team import Team
from agentrl.endpoint import untrainable
from agentrl.engine.base import Engine
from agentrl.engine.recorded import Recorded
from agentrl.errors import ConfigError
from agentrl.evaluate import Evaluate
from agentrl.learner import AdamW, Learner
from agentrl.log.base import Many, RunFacts, open_logs
from agentrl.measure import Clock
from agentrl.methods.base import Method
from agentrl.model import DISK, IMPORT_S, Policy
from agentrl.panel import Panel, panel, require_disjoint
from agentrl.provenance import provenance
from agentrl.records import group_from_json, group_to_json
from agentrl.rewards.base import Reward
from agentrl.rollout.base import Rollout, Stage
from agentrl.rollout.supply import TaskOrder
from agentrl.seeds import derive
from agentrl.sync import Sync
from agentrl.types import Group, Task
from agentrl.warmstart import Start
from agentrl.watchdog import beat, patience

#: what only some rollouts give (``Rollout.gives``) and some methods cannot do without -> the choices that give it.
GIFTS = {
    "steps": "rollout=rising, fixed_size or along_expert",
    "expert": "rollout=against_expert or along_expert",
    "labels": "rollout=single_turn",
}


#: seconds in which an environment must have read its data, and an engine be up (vLLM compiles on a GPU).
WORLD_S, ENGINE_S = 600.0, 600.0


@dataclass
class Player:
    """What evaluation needs: a stage, a panel and a log. Training builds on it."""

    cfg: Config
    folder: Path
    stage: Stage
    policy: Policy
    evaluate: Evaluate
    panel: Panel
    clock: Clock
    facts: dict[str, Any]

    @property
    def engine(self) -> Engine:
        return self.stage.engine

    @property
    def seed(self) -> int:
        return int(self.cfg.seed)

    def open_log(self, steps: int, first_step: int = 0) -> Many:
        """The logs that the config names, writing into the run's folder."""
        sinks = [config.build(node) for _, node in config.targets(self.cfg.log)]
        return open_logs(sinks, RunFacts(self.folder, steps, config.plain(self.cfg), first_step))

    def close(self) -> None:
        """Free engine and environment."""
        self.engine.close()
        self.stage.env.close()


@dataclass
class Run(Player):
    """All that one training run owns. ``step`` counts optimiser steps, ``episodes`` everything that was played."""

    rollout: Rollout
    reward: Reward
    method: Method
    learner: Learner
    sync: Sync
    checkpoints: Checkpoints
    tasks: TaskOrder
    updates: int  # optimiser steps that one batch makes
    past: deque[Group]  # of the last batches, as many as the method draws from
    start: Start | None  # the warm start, if there is one
    team: Team  # the processes that learn together
    ahead: Ahead = field(default_factory=Ahead)
    log: Many = field(default_factory=lambda: Many(()))
    step: int = 0
    episodes: int = 0
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return int(self.cfg.steps)

    def play(self, tasks: Sequence[Task], call: int = 0) -> list[Group]:
        """Scored groups of these tasks by the current policy; ``call`` tells repeated plays of one step apart."""
        return self._counted(self._scored(tasks, self.step, call))

    def next_batch(self) -> list[Group]:
        """Scored groups of the next tasks of the training order: played now, unless they were played ahead."""
        return self._counted(self.ahead.take(lambda: self._scored(self._draw(), self.step)))

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """What the engine does while the learner learns: with ``max_staleness=1`` it plays the next batch by the
        weights that it has, else it rests."""
        step = self.step + self.updates
        if not int(self.cfg.max_staleness) or step >= self.steps:
            self.engine.rest()
            yield
            return
        tasks = self._draw()
        with self.ahead.meanwhile(lambda: self._scored(tasks, step), self.clock):
            yield

    def _draw(self) -> list[Task]:
        return self.tasks.draw(int(self.cfg.tasks_per_step))

    def _scored(self, tasks: Sequence[Task], step: int, call: int = 0) -> list[Group]:
        groups = self.rollout.play(self.stage, tasks, seed=derive(self.seed, "play", call), step=step)
        beat("reward", "scoring the plays")
        return self.reward.score(groups, step // self.updates, self.steps // self.updates)

    def _counted(self, groups: list[Group]) -> list[Group]:
        self.episodes += sum(group.spent.episodes for group in groups)
        return groups

    def save(self) -> Path:
        """A checkpoint from which the run continues exactly."""
        state = {
            "step": self.step,
            "episodes": self.episodes,
            "position": self.tasks.position,
            "results": self.results,
            "seconds": self.clock.summary(),
            "ahead": None if self.ahead.ready is None else [group_to_json(group) for group in self.ahead.ready],
            "past": [group_to_json(group) for group in self.past],
            "panel": self.panel.hash,
            "start": asdict(self.start) if self.start else None,
        }
        parts = {"learner": self.learner.state_dict(), "run": state}
        with self.clock.phase("save"), patience("disk", "writing a checkpoint", writing_s(self.policy)):
            return self.checkpoints.save(self.folder, self.step, parts, self.policy.save)

    def close(self) -> None:
        """Free engine, environment and the other learner processes."""
        try:
            super().close()
        finally:
            self.team.close()

    def begin(self) -> None:
        """Take the weights the run starts from; a KL term is measured from them. Raises CheckpointError."""
        if self.start is not None:
            self.policy.restore(self.start.model)
        if "ref_logprobs" in self.method.needs:
            self.learner.anchor()

    def restore(self) -> None:
        """Continue from the newest good checkpoint of the run's folder. Raises CheckpointError, ConfigError."""
        found = latest(self.folder, lambda text: print(f"agentrl: {text}"))
        state = found.parts["run"]
        if state["panel"] != self.panel.hash:
            raise ConfigError(
                f"resume={self.folder}: the run was measured on panel {state['panel']}, this environment now makes "
                f"panel {self.panel.hash}; "
                "its data or settings changed, so results could not be compared. Restore them, or start a new run"
            )
        self.start = Start(**state["start"]) if state["start"] else None
        if "ref_logprobs" in self.method.needs:
            if self.start:
                self.start.verify()
            self.begin()
        self.policy.restore(found.model)
        self.learner.load_state_dict(found.parts["learner"])
        self.step, self.episodes, self.results = state["step"], state["episodes"], state["results"]
        self.tasks.position = state["position"]
        self.clock.resume(state["seconds"])
        self.past.extend(group_from_json(group) for group in state["past"])
        if state["ahead"] is not None:
            self.ahead.ready = [group_from_json(group) for group in state["ahead"]]


def writing_s(policy: Policy) -> float:
    """Seconds in which a checkpoint must be written: weights and two moments of the trained ones, in float32."""
    trained = sum(p.numel() for p in policy.parameters())
    return (4 * policy.parameters_count + 8 * trained) / DISK


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


def _require_weights(cfg: Config, method: Method) -> None:
    """Refuse to learn from older plays without importance weights; pairs are compared, whoever played them. Raises
    ConfigError."""
    if int(cfg.max_staleness) and not cfg.learner.tis_cap and "pairs" not in method.needs:
        raise ConfigError(
            f"max_staleness={cfg.max_staleness}: plays are then one batch older than the policy that learns from them, "
            "and nothing makes up for it; set learner.old_logprobs=recompute learner.tis_cap=2.0, or max_staleness=0"
        )


def _require_work(cfg: Config, rollout: Rollout, minibatches: int, method: Method) -> None:
    """Refuse batches in which a step would have nothing to learn from. Raises ConfigError."""
    if int(cfg.tasks_per_step) < minibatches:
        raise ConfigError(
            f"tasks_per_step={cfg.tasks_per_step}: got fewer tasks than learner.minibatches={minibatches}, so some "
            "optimiser steps would have no data; ask for more tasks or fewer minibatches"
        )
    for thing in sorted(method.needs & GIFTS.keys()):
        if thing not in rollout.gives:
            raise ConfigError(
                f"rollout={cfg.choices.rollout}: it gives no {thing}, which method={cfg.choices.method} learns from; "
                f"take {GIFTS[thing]}"
            )
    if "siblings" in method.needs and rollout.group_size < 2:
        raise ConfigError(
            f"rollout: got groups of {rollout.group_size} play, but method={cfg.choices.method} compares the plays "
            "of a task with each other, expected at least 2; raise rollout.group_size, or use rollout=independent"
        )


def at_once(cfg: Config) -> int:
    """Requests that the engine computes together: the parts of rollout workers, else its own batch."""
    return int(cfg.cluster.get("part") or cfg.engine.get("max_batch") or 2**31)


@patience("setup", "setting up what learns", IMPORT_S)
def training_run(cfg: Config, start: Start | None = None) -> Run:
    """Everything training needs, the policy with the weights of the warm start ``start``.

    Raises ConfigError also when ``steps`` does not divide into whole batches.
    """
    rollout: Rollout = config.build(cfg.rollout)
    learning = config.build(cfg.learner)
    learning.batches(int(cfg.steps))  # refused now, not after the start of an engine
    method: Method = config.build(cfg.method)
    _require_work(cfg, rollout, learning.minibatches, method)
    _require_weights(cfg, method)
    team: Team = config.build(cfg.parallel).start(serve, str(cfg.device), config.plain(cfg.cluster))
    try:
        return _run(cfg, start, team, rollout, learning, method)
    except BaseException:
        team.close()
        raise


def _run(cfg: Config, start: Start | None, team: Team, rollout: Rollout, learning: AdamW, method: Method) -> Run:
    """What is left to build once there is a team."""
    base = player(cfg, team)
    if not base.policy.parameters():
        raise untrainable(str(cfg.choices.model))
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
        checkpoints=config.build(cfg.checkpoint),
        tasks=TaskOrder(base.stage.env.tasks("train"), base.seed, rollout.pool),
        updates=learning.updates,
        start=start,
        team=team,
        past=deque(maxlen=method.past_batches * int(cfg.tasks_per_step)),
    )
    if cfg.resume:
        run.restore()
    else:
        run.begin()
    if run.start:
        run.facts["warmstart"] = asdict(run.start)
    run.log = run.open_log(run.steps, run.step)
    config.save(cfg, run.folder / "config.yaml")  # last: a folder that has it holds a run
    return run
