"""The patient: a run as ``agentrl train`` builds it, a small batch that it played, and trials of its learner."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from agentrl.engine.base import Completion, Engine, Request, Sampling, Stream
from agentrl.engine.wrapped import Wrapped
from agentrl.errors import ConfigError
from agentrl.ranges import require_positive, require_shares
from agentrl.rollout.supply import LiveSupply
from agentrl.run import Run
from agentrl.types import Group, Trajectory

FAMILIES = ("mask", "boundary", "loss", "sampling", "groups", "sync", "resume", "forecast")
KEPT = 20_000_000  # numbers of a gradient that are compared at most, evenly taken


@dataclass(frozen=True)
class Doctor:
    """The schema of the node ``doctor`` of conf/doctor.yaml, where every threshold has its unit and source."""

    tasks: int
    draws: int
    step_lr: float
    mismatch: float
    mismatch_bias: float
    mismatch_kl: float
    normaliser: float
    normaliser_low: float
    kl: float
    chance: float
    memory_share: float
    skip: list[str]

    def __post_init__(self) -> None:
        require_positive(self, "doctor", "tasks", "draws", "step_lr", "chance", "normaliser", "normaliser_low", "kl")
        require_shares(self, "doctor", "memory_share")
        unknown = [name for name in self.skip if name not in FAMILIES]
        if unknown:
            raise ConfigError(f"doctor.skip: got {', '.join(unknown)}, expected some of {', '.join(FAMILIES)}")


class Heard(Wrapped):
    """An engine whose answers are remembered as they left it: ``(prompt ids, sampled ids)``."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.answers: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        found = self._engine.generate(requests, sampling)
        self.answers |= {(r.prompt_ids, c.ids) for r, c in zip(requests, found, strict=True)}
        return found

    def stream(self, sampling: Sampling) -> Stream:
        return HeardStream(self._engine.stream(sampling), self)


class HeardStream:
    """A stream of such an engine."""

    def __init__(self, stream: Stream, engine: Heard) -> None:
        self._stream = stream
        self._engine = engine
        self._asked: dict[int, tuple[int, ...]] = {}

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        self._asked |= {key: request.prompt_ids for key, request in new}
        found = self._stream.advance(new, dropped, wait_s)
        self._engine.answers |= {(self._asked[key], completion.ids) for key, completion in found}
        return found

    def close(self) -> None:
        self._stream.close()


@dataclass
class Case:
    """``played``: the groups as the rollout gave them; ``used``: what the method learns from. Groups whose members all
    earned the same got invented rewards (``invented`` of them), so that there is a gradient to look at."""

    doctor: Doctor
    run: Run
    heard: Heard
    played: list[Group]
    used: list[Group]
    invented: int
    play_s: float
    seconds: dict[str, float] = field(default_factory=dict)  # of the learner's first trial and of the push

    @property
    def plays(self) -> list[Trajectory]:
        """Every play of the small batch that did not fail and has turns."""
        return [play for group in self.played for play in group.valid if play.turns]

    @property
    def exact(self) -> bool:
        """Do engine and learner both compute in float32?"""
        return self.run.engine.dtype == self.run.policy.compute_dtype == torch.float32

    @property
    def tolerance(self) -> float:
        """Largest gap allowed in a logprob, nats: that of the run's own sync."""
        return self.run.sync.tolerance if self.exact else self.run.sync.tolerance_low


def admit(run: Run, doctor: Doctor) -> Case:
    """Play the small batch: ``doctor.tasks`` tasks in groups as configured, scored and refilled as in training."""
    heard = Heard(run.stage.engine)
    run.stage = replace(run.stage, engine=heard)
    run.sync.push(run.policy, heard, 0, None, run.sync.look(heard, ()))
    tasks = run.tasks.draw(doctor.tasks)
    begin = time.perf_counter()
    played = run.play(tasks)
    took = time.perf_counter() - begin
    lively = [with_spread(group) for group in played]
    supply = LiveSupply(run.tasks, run.past, run.seed, run.step, run.play)
    used = run.method.refill(lively, supply)
    invented = sum(a is not b for a, b in zip(played, lively, strict=True))
    return Case(doctor, run, heard, list(played), list(used), invented, took)


def with_spread(group: Group) -> Group:
    """The group, with invented rewards from 1 down to 0 where all members earned the same."""
    count = len(group.valid)
    values = tuple(1.0 - i / (count - 1) for i in range(count)) if count > 1 else ()
    if group.explored is not None:
        step = group.explored
        if len(set(step.values)) > 1 or len(step.values) != count or count < 2:
            return group
        return replace(group, explored=replace(step, values=values, kept=0, rose=True))
    if count < 2 or len(set(group.rewards)) > 1:
        return group
    rewards = iter(values)
    valid = {id(play) for play in group.valid}
    plays = tuple(replace(p, reward=next(rewards)) if id(p) in valid else p for p in group.trajectories)
    return replace(group, trajectories=plays)


@dataclass(frozen=True)
class Trial:
    """One optimiser step that was taken back: its metrics, its gradient (evenly taken numbers of it, float32, before
    clipping) and whether it moved the weights."""

    metrics: Mapping[str, float]
    gradient: torch.Tensor
    moved: bool


def trial(case: Case, groups: Sequence[Group], policy: Any = None, **changes: Any) -> Trial:
    """Learn from the groups in one optimiser step by a fresh learner (``changes``: of its settings), then put the
    weights back. ``policy`` may be a wrapper around the run's."""
    run = case.run
    parameters = run.policy.parameters()
    before = [p.detach().clone() for p in parameters]
    seen: dict[int, torch.Tensor] = {}
    stride = max(1, sum(p.numel() for p in parameters) // KEPT)

    def keep(p: torch.Tensor) -> None:
        assert p.grad is not None
        seen[id(p)] = p.grad.detach().flatten()[::stride].float().clone()

    hooks = [p.register_post_accumulate_grad_hook(keep) for p in parameters]  # type: ignore[no-untyped-call]
    try:
        learner = fresh_learner(case, policy, **changes)
        metrics = learner.learn(groups, run.method, run.step)
        moved = learner.moved
    finally:
        for hook in hooks:
            hook.remove()
        put(parameters, before)
        for p in parameters:
            p.grad = None
    blank = [
        seen.get(id(p), torch.zeros_like(q.flatten()[::stride]).float())
        for p, q in zip(parameters, before, strict=True)
    ]
    return Trial(metrics, torch.cat([part.cpu() for part in blank]), moved)


def fresh_learner(case: Case, policy: Any = None, **changes: Any) -> Any:
    """A learner as the run has one, but of one optimiser step a batch; its own gates are left to the doctor."""
    run = case.run
    config = replace(run.learner.config, **{"minibatches": 1, "epochs": 1, "mismatch_limit": 0.0} | changes)
    return config.build(policy or run.policy, temperature=run.rollout.temperature, steps=1, seed=run.seed)


@torch.no_grad()
def put(parameters: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    """Copy the values into the parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def nothing(case: Case) -> str:
    """Why there is nothing to learn from in the sample; empty if there is."""
    if not any(play.tokens for group in case.used for play in group.valid):
        return "the method took no group of the sample; raise doctor.tasks"
    return ""
