"""``agentrl replay RUN step=N``: learn once more from what the learner was given, and compare bit for bit.

The learner starts from the newest checkpoint before the step (or from where the run started) and learns from the kept
batches up to it; neither environment nor engine is built. Equal bits are promised on the device, the number of
processes and the versions of the run; on a GPU as far as its kernels are deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentrl import checkpoint, config
from agentrl.config import Config
from agentrl.digest import weights_digest
from agentrl.errors import ConfigError, DivergedError
from agentrl.kept import Kept, load, path_of, steps_kept
from agentrl.learner import Learner
from agentrl.methods.base import Method
from agentrl.model import Policy
from agentrl.seeds import derive
from agentrl.warmstart import Start


@dataclass(frozen=True)
class Found:
    """One batch learned from once more: what is not as it was, by name: (then, now)."""

    step: int
    numbers: int
    differ: Mapping[str, tuple[Any, Any]]

    def __str__(self) -> str:
        if not self.differ:
            return f"step {self.step}: equal; weights and {self.numbers} metrics, bit for bit"
        told = "; ".join(f"{name}: was {then}, is {now}" for name, (then, now) in self.differ.items())
        return f"step {self.step}: DIFFERENT; {told}"


def replay(cfg: Config) -> dict[str, Any]:
    """The job of the command: print a line for each batch; ``equal`` tells whether all are as they were.

    Raises ConfigError, DataError, CheckpointError.
    """
    folder = Path(cfg.run or "")
    if not cfg.run:
        raise ConfigError("agentrl replay: got no run; name its folder: agentrl replay RUN_DIR step=N")
    of_run = config.load(folder / "config.yaml")
    step = int(cfg.step or 0) or max(steps_kept(folder), default=0)
    updates = config.build(of_run.learner).updates
    base, steps = way(folder, step, updates)
    learner, method = learns(of_run, folder, base, load(folder, steps[0]))
    print(f"replaying {folder} from {f'the checkpoint of step {base}' if base else 'its start'} to step {step}")
    found = []
    for number in steps:
        found.append(again(load(folder, number), learner, method))
        print(found[-1], flush=True)
    return {
        "equal": not any(one.differ for one in found),
        "from": base,
        "steps": [one.step for one in found],
        "differ": {one.step: dict(one.differ) for one in found if one.differ},
    }


def way(folder: Path, step: int, updates: int) -> tuple[int, list[int]]:
    """The step of the newest checkpoint before ``step`` (0: the run's start), and the steps of the batches from there
    to ``step``. Raises ConfigError when one of them was not kept."""
    known = steps_kept(folder)
    if not known:
        raise ConfigError(
            f"{folder} keeps no batches; a run keeps them with checkpoint.batches=true, back to the oldest of the "
            "checkpoint.keep newest checkpoints"
        )
    if step not in known:
        raise ConfigError(f"step={step}: {folder} keeps no batch of this step; it has {known[0]} to {known[-1]}")
    base = max((saved for saved in checkpoint.steps_saved(folder) if saved < step), default=0)
    steps = list(range(base + updates, step + 1, updates))
    if missing := [number for number in steps if number not in known]:
        begin = f"checkpoint {base}" if base else "the start"
        raise ConfigError(
            f"step={step}: {path_of(folder, missing[0])} is missing, between {begin} and this step; continue a copy of "
            "the run from there with checkpoint.batches=true, and replay that"
        )
    return base, steps


def learns(cfg: Config, folder: Path, base: int, first: Kept) -> tuple[Learner, Method]:
    """The run's learner as it was after ``base`` optimiser steps, and its method. Raises CheckpointError."""
    pretrained = config.build(cfg.model)
    policy: Policy = pretrained.build(str(cfg.device), seed=derive(int(cfg.seed), "model"))
    settings, method = config.build(cfg.learner), config.build(cfg.method)
    rollout = config.build(cfg.rollout)
    batches = settings.batches(int(cfg.steps))
    learner: Learner = settings.build(policy, temperature=rollout.temperature, steps=batches, seed=int(cfg.seed))
    if first.start:
        start = Start(**first.start)
        start.verify()
        policy.restore(start.model)
    if "ref_logprobs" in method.needs:
        learner.anchor()
    if base:
        saved = checkpoint.load(checkpoint.folder_of(folder, base))
        policy.restore(saved.model)
        learner.load_state_dict(saved.parts["learner"])
    return learner, method


def again(kept: Kept, learner: Learner, method: Method) -> Found:
    """Learn from a batch once more and compare."""
    was, now = kept, replace(kept, metrics={}, digest="", error="")
    try:
        metrics = learner.learn(kept.groups, method, kept.version)
        now = replace(now, metrics=metrics, digest=str(weights_digest(learner.policy.named_weights())))
    except DivergedError as error:
        now = replace(now, error=str(error))
    names = [*dict.fromkeys([*was.metrics, *now.metrics])]
    pairs: dict[str, tuple[Any, Any]] = {name: (was.metrics.get(name), now.metrics.get(name)) for name in names}
    pairs |= {"weights": (was.digest, now.digest), "error": (was.error, now.error)}
    return Found(kept.step, len(names), {name: pair for name, pair in pairs.items() if repr(pair[0]) != repr(pair[1])})
