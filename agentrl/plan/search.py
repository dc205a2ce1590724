"""Batches, learner and pushes on one timeline; the split of some GPUs that makes a step shortest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from agentrl.plan.profile import Batch, Placement, Profile
from agentrl.plan.simulate import SCHEDULES, Played

SHARES = (0.0, 1 / 16, *(i / 8 for i in range(1, 8)), 1.0)  # of the GPUs for sampling, tried first; 0: one engine
BESIDE = 1 / 16  # and then this far from the best of them


@dataclass(frozen=True)
class Split:
    """GPUs that sample, GPUs that learn; colocated ones do both in turn."""

    placement: Placement
    sampling: int
    learning: int


@dataclass(frozen=True)
class Step:
    """A step, one batch and its push, as a mean over the simulated ones. ``parts``: seconds by what they are spent on;
    of steps that overlap, the parts add up to more than ``seconds``. ``idle_*``: share of their GPUs' time in which
    these do nothing; ``bound`` names the part that a step is bound by."""

    gpus: int
    split: Split
    seconds: float
    rollout_s: float
    tokens_per_s: float
    idle_engines: float
    idle_learner: float
    bound: str
    parts: Mapping[str, float]

    def gpu_hours(self, steps: int) -> float:
        """Cost of so many steps."""
        return self.gpus * self.seconds * steps / 3600


@dataclass(frozen=True)
class Phases:
    """Seconds of each batch: sampling, learning, one push, and what comes with a step beside them."""

    rollout: Sequence[float]
    learner: Sequence[float]
    push: float
    other: float


def timeline(phases: Phases, max_staleness: int) -> float:
    """Seconds per step. With staleness k, the sampling of batch n begins once batch n - k - 1 has been learned from
    and pushed; a push takes the time of engines and learner alike, and the engines take it between two batches. At
    least ``max_staleness`` + 2 batches."""
    if not max_staleness:
        return float(np.mean(phases.rollout) + np.mean(phases.learner)) + phases.push + phases.other
    sampled, learned = [0.0], [0.0]  # ends, from batch 0 on; their first entry is the start
    pushed = 0
    for batch, (rollout, learner) in enumerate(zip(phases.rollout, phases.learner, strict=True)):
        begin = max(sampled[-1], learned[max(0, batch - max_staleness)])
        ready = sum(end <= begin for end in learned[1:])
        if ready > pushed:
            begin, pushed = begin + phases.push, ready
        sampled.append(begin + rollout)
        learned.append(max(sampled[-1], learned[-1] + phases.push * (batch > 0)) + learner + phases.other)
    settled = max(max_staleness + 1, len(learned) // 2)  # before, engines may be ahead of the learner
    return (learned[-1] - learned[settled]) / (len(learned) - 1 - settled)


class Planner:
    """Simulates steps of one profile; equal draws for every split, so that splits differ in nothing else."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        rng = np.random.default_rng(seed)
        loop = profile.loop
        count = loop.batches * (2 * (loop.max_staleness + 2) if loop.max_staleness else 1)
        drawn = [profile.source.draw(rng, profile.tasks, profile.world) for _ in range(loop.batches)]
        self._batches: list[Batch] = (drawn * count)[:count]
        self._distinct = drawn
        self.played = lru_cache(maxsize=None)(self._play)

    def _play(self, engines: int) -> list[Played]:
        """The sampling of each distinct batch by so many engines."""
        one = self.profile
        play = SCHEDULES[one.loop.schedule]
        return [play(batch, engines, one.engine, one.world) for batch in self._distinct]

    def step(self, split: Split) -> Step:
        """One step with this split of the GPUs."""
        one, loop = self.profile, self.profile.loop
        colocated = split.placement is Placement.colocated
        engines = split.sampling // one.engine.gpus
        found = self.played(min(engines, len(self._distinct[0].turns)))
        rollout = [found[i % len(found)].seconds for i in range(len(self._batches))]
        learner = [one.learner.seconds(batch.tokens, split.learning) for batch in self._batches]
        phases = Phases(rollout, learner, one.push.seconds, loop.other_s + loop.switch_s * colocated)
        seconds = timeline(phases, 0 if colocated else loop.max_staleness)
        busy = float(np.mean([played.busy_s for played in found])) * one.engine.gpus
        learning = float(np.mean(learner)) * split.learning
        gpus = split.sampling if colocated else split.sampling + split.learning
        sampling_idle = 1 - (busy + learning * colocated) / (seconds * split.sampling)
        learning_idle = 1 - (learning + busy * colocated) / (seconds * split.learning)
        parts = self._parts(found, engines, phases)
        return Step(
            gpus,
            split,
            seconds,
            float(np.mean(rollout)),
            float(np.mean([batch.tokens for batch in self._batches])) / seconds,
            max(0.0, sampling_idle),
            max(0.0, learning_idle),
            _bound(parts, overlap=bool(loop.max_staleness) and not colocated),
            parts,
        )

    def _parts(self, found: Sequence[Played], engines: int, phases: Phases) -> dict[str, float]:
        """Mean seconds of a step by what they are spent on. ``long tail`` is all sampling beyond full engines."""
        rollout = float(np.mean([played.seconds for played in found]))
        full = float(np.mean([self.profile.engine.full_s(batch, engines) for batch in self._distinct]))
        world = float(np.mean([played.world_s for played in found]))
        full = min(full, rollout - world)
        return {
            "sampling": full,
            "long tail": rollout - world - full,
            "environment": world,
            "push": phases.push,
            "learner": float(np.mean(phases.learner)),
            "other": phases.other,
        }

    def best(self, gpus: int) -> Step | None:
        """The fastest step on so many GPUs, of those tried; None where nothing fits on them."""
        one, loop = self.profile, self.profile.loop
        found: dict[Split, Step] = {}

        def attempt(sampling: float) -> None:
            engines = max(1, round(sampling / one.engine.gpus)) * one.engine.gpus
            engines = min(engines, (gpus - one.learner.gpus) // one.engine.gpus * one.engine.gpus)
            if engines > 0:
                split = Split(Placement.separate, engines, gpus - engines)
                found[split] = found.get(split) or self.step(split)

        if Placement.separate in loop.placements:
            for share in SHARES:
                attempt(gpus * share)
            if found:
                middle = min(found.values(), key=_seconds).split.sampling
                for aside in (-gpus * BESIDE, gpus * BESIDE):
                    attempt(middle + aside)
        if Placement.colocated in loop.placements and gpus >= max(one.engine.gpus, one.learner.gpus):
            split = Split(Placement.colocated, gpus, gpus)
            found[split] = self.step(split)
        return min(found.values(), key=_seconds, default=None)


def _seconds(step: Step) -> float:
    return step.seconds


def _bound(parts: Mapping[str, float], overlap: bool) -> str:
    """The largest part; where sampling and learning overlap, the largest of the longer of the two chains."""
    if overlap:
        chains = [["sampling", "long tail", "environment", "push"], ["learner", "push", "other"]]
        longer = max(chains, key=lambda names: math.fsum(parts[name] for name in names))
        parts = {name: parts[name] for name in longer}
    return max(parts, key=lambda name: parts[name])
