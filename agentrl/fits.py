"""Settings of which each is right and which do not fit together: refused before anything is loaded."""

from __future__ import annotations

from agentrl.checkpoint import Checkpoints
from agentrl.config import Config, nearest
from agentrl.errors import ConfigError
from agentrl.evaluate import Evaluate
from agentrl.log.metrics import METRICS, defined
from agentrl.methods.base import Method
from agentrl.rollout.base import Rollout

#: what only some rollouts give (``Rollout.gives``) and some methods cannot do without -> the choices that give it.
GIFTS = {
    "steps": "rollout=rising, fixed_size or along_expert",
    "expert": "rollout=against_expert or along_expert",
    "labels": "rollout=single_turn",
}


def require_weights(cfg: Config, method: Method) -> None:
    """Refuse to learn from older plays without importance weights; pairs are compared, whoever played them. Raises
    ConfigError."""
    if int(cfg.max_staleness) and not cfg.learner.tis_cap and "pairs" not in method.needs:
        raise ConfigError(
            f"max_staleness={cfg.max_staleness}: plays are then one batch older than the policy that learns from them, "
            "and nothing makes up for it; set learner.old_logprobs=recompute learner.tis_cap=2.0, or max_staleness=0"
        )


def require_work(cfg: Config, rollout: Rollout, minibatches: int, method: Method) -> None:
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


def require_best(checkpoints: Checkpoints, evaluate: Evaluate) -> None:
    """Refuse a ``checkpoint.best`` that no checkpoint could be chosen by. Raises ConfigError."""
    name, every = checkpoints.best, checkpoints.every
    if name is None:
        return
    if not defined(name):
        raise ConfigError(f"checkpoint.best={name}: no such metric; {nearest(name, METRICS)}")
    if not every:
        raise ConfigError(
            f"checkpoint.best={name}: with checkpoint.every=0 there is only the last one; set checkpoint.every"
        )
    if name.startswith("val/") and (not evaluate.every or every % evaluate.every):
        raise ConfigError(
            f"checkpoint.best={name}: it is measured every eval.every={evaluate.every} steps, and checkpoints are made "
            f"every {every}; set eval.every, and checkpoint.every to a multiple of it"
        )


def at_once(cfg: Config) -> int:
    """Requests that the engine computes together: the parts of rollout workers, else its own batch."""
    return int(cfg.cluster.get("part") or cfg.engine.get("max_batch") or 2**31)
