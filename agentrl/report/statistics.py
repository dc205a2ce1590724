"""What the plays of the arms come to: means, interquartile means, differences, and how much more is needed.

Every number is over ``values[seed][task]`` on one panel. Two kinds of intervals stand side by side: that of
:mod:`agentrl.stats` (Student's t over seeds, normal over tasks), by which differences are judged, and the bootstrap's
(:mod:`agentrl.resampling`), which assumes no shape and is too narrow for a handful of seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from agentrl import resampling
from agentrl.comparison import Decoding
from agentrl.report.arms import Arm
from agentrl.report.reading import METRICS
from agentrl.report.records import ALL, Advice, Compared, Measured, Pair, Settings, judged, settled
from agentrl.seeds import derive
from agentrl.stats import Interval, Spread, difference, over_seeds_and_tasks, seeds_needed, tasks_needed

AT = np.linspace(0.05, 1, 20)  # where profiles are drawn
PROFILE_DRAWS = 400  # of the band of a profile, which is drawn and not read


class World:
    """The arms of one environment, each play read once, and the draws that they share."""

    def __init__(self, arms: Sequence[Arm], settings: Settings, seed: int) -> None:
        self.arms, self._settings = arms, settings
        self._values = {
            arm.label: {run.seed: run.values(settings.metric, settings.decoding) for run in arm.runs} for arm in arms
        }
        found = self._values.values()
        self.tasks = sorted({task for of_arm in found for values in of_arm.values() for task in values})
        self._rng = np.random.default_rng(derive(seed, "report", arms[0].env))
        self._drawn = resampling.weights(len(self.tasks), settings.draws, self._rng)
        self._signs = resampling.signs(len(self.tasks), settings.draws, self._rng)

    def values(self, arm: Arm, seeds: Sequence[int]) -> list[dict[str, float]]:
        """``[seed][task]`` of some seeds."""
        return [self._values[arm.label][seed] for seed in seeds]

    def plays(self, arm: Arm) -> resampling.Floats:
        """``[runs, tasks]``."""
        return resampling.matrix(self.values(arm, arm.seeds), self.tasks)

    @cached_property
    def draws(self) -> dict[str, resampling.Floats]:
        """label -> ``[draws, runs]``: means of the runs, runs and tasks drawn anew; all arms on the same tasks."""
        return {arm.label: resampling.bootstrap(self.plays(arm), self._drawn, self._rng) for arm in self.arms}

    def differences(self, ours: Arm, theirs: Arm) -> resampling.Floats:
        """Mean difference of each task over the seeds that both have: ``[tasks]``, NaN where a play is missing."""
        seeds = shared(ours, theirs)
        both = [resampling.matrix(self.values(arm, seeds), self.tasks) for arm in (ours, theirs)]
        apart = both[0] - both[1]
        counts = np.isfinite(apart).sum(axis=0)
        sums = np.nansum(apart, axis=0)
        means: resampling.Floats = np.divide(sums, counts, out=np.full(len(self.tasks), np.nan), where=counts > 0)
        return means

    def compared(self) -> Compared:
        """Everything about this environment."""
        judgements = judged([self._pair(a, b) for a, b in combinations(self.arms, 2)])
        measured, pairs = settled([self._measured(arm) for arm in self.arms], judgements)
        return Compared(
            self.arms[0].env,
            self.arms[0].runs[0].panel,
            measured,
            pairs,
            {arm.label: self._profile(arm) for arm in self.arms},
            tuple(self._advice(effect) for effect in self._settings.effects),
        )

    def _measured(self, arm: Arm) -> Measured:
        draws = self.draws[arm.label]
        values = self.values(arm, arm.seeds)
        runs = tuple(statistics.fmean(one.values()) for one in values if one)
        return Measured(
            label=arm.label,
            seeds=arm.seeds,
            tasks=len({task for one in values for task in one}),
            mean=over_seeds_and_tasks(values),
            boot=resampling.interval(draws.mean(axis=1)),
            iqm=float(resampling.iqm(runs)),
            iqm_boot=resampling.interval(resampling.iqm(draws)),
            runs=runs,
            others={name: self._other(arm, *what) for name, what in self.columns().items()},
        )

    def columns(self) -> dict[str, tuple[str, Decoding, str]]:
        """What is told beside the metric: the other metric, the other decoding, the start."""
        metric, decoding = self._settings.metric, self._settings.decoding
        other = Decoding.greedy if decoding is Decoding.sampled else Decoding.sampled
        more = next(name for name in METRICS if name != metric)
        return {
            "before": (metric, decoding, "before"),
            str(other): (metric, other, "after"),
            more: (more, decoding, "after"),
        }

    def _other(self, arm: Arm, metric: str, decoding: Decoding, moment: str) -> Interval:
        return over_seeds_and_tasks([run.values(metric, decoding, moment) for run in arm.runs])

    def _pair(self, ours: Arm, theirs: Arm) -> Pair:
        seeds = shared(ours, theirs)
        draws = resampling.improvement(self.draws[ours.label], self.draws[theirs.label])
        means = [[statistics.fmean(v.values()) for v in self.values(arm, arm.seeds) if v] for arm in (ours, theirs)]
        return Pair(
            ours.label,
            theirs.label,
            len(seeds),
            difference(self.values(ours, seeds), self.values(theirs, seeds)),
            resampling.flipped(self.differences(ours, theirs), self._signs) if seeds else 1.0,
            float(resampling.improvement(*means)),
            resampling.interval(draws),
        )

    def _profile(self, arm: Arm) -> tuple[Any, Any, Any]:
        drawn = self._drawn[:PROFILE_DRAWS]
        low, high = resampling.profile_band(self.plays(arm), AT, drawn, self._rng)
        return resampling.profile(self.plays(arm), AT), low, high

    def _advice(self, effect: float) -> Advice:
        """From the mean variances of all pairs, and of all arms. Where all are equal, no spread is known."""
        own = [float(np.nanvar(self.plays(arm), ddof=1)) for arm in self.arms if len(self.tasks) > 1]
        apart = [self._apart(a, b) for a, b in combinations(self.arms, 2) if shared(a, b)]
        single = [float(np.nanvar(one, ddof=1)) for one in apart if one.size > 1]
        spreads = [resampling.variances(one) for one in apart if min(one.shape) > 1]
        seeds = None
        if seen := any(map(any, spreads)):
            of_seeds, of_tasks, noise = (statistics.fmean(column) for column in zip(*spreads, strict=True))
            seeds = seeds_needed(Spread(of_seeds, of_tasks, noise, len(self.tasks)), effect)
        return Advice(
            effect,
            seeds,
            seen,
            tasks_needed(statistics.fmean(single), effect) if any(single) else None,
            tasks_needed(2 * statistics.fmean(own), effect) if any(own) else None,
        )

    def _apart(self, ours: Arm, theirs: Arm) -> resampling.Floats:
        """Differences of single plays, paired by seed and task: ``[seeds, tasks]``."""
        seeds = shared(ours, theirs)
        both = [resampling.matrix(self.values(arm, seeds), self.tasks) for arm in (ours, theirs)]
        return both[0] - both[1]


def shared(ours: Arm, theirs: Arm) -> list[int]:
    """The seeds that both have."""
    return sorted(set(ours.seeds) & set(theirs.seeds))


def everywhere(worlds: Sequence[World], compared: Sequence[Compared]) -> Compared | None:
    """The arms that every environment has, over all of them, each environment counting alike; None without any.

    The intervals of the environments are of samples that have nothing in common: half^2 is their mean's variance's.
    """
    labels = [label for label in worlds[0].draws if all(label in world.draws for world in worlds)] if worlds else []
    if len(worlds) < 2 or not labels:
        return None
    by_env = [{arm.label: arm for arm in one.arms} for one in compared]
    measured = []
    for label in labels:
        parts = [of_env[label] for of_env in by_env]
        means = np.mean([world.draws[label].mean(axis=1) for world in worlds], axis=0)
        runs = tuple(run for part in parts for run in part.runs)
        every = np.concatenate([world.draws[label] for world in worlds], axis=1)
        measured.append(
            Measured(
                label=label,
                seeds=tuple(sorted({seed for part in parts for seed in part.seeds})),
                tasks=sum(part.tasks for part in parts),
                mean=_mean([part.mean for part in parts]),
                boot=resampling.interval(means),
                iqm=float(resampling.iqm(runs)),
                iqm_boot=resampling.interval(resampling.iqm(every)),
                runs=runs,
                others={name: _mean([part.others[name] for part in parts]) for name in parts[0].others},
            )
        )
    pairs = judged([_over(worlds, compared, a, b) for a, b in combinations(labels, 2)])
    return Compared(ALL, "", *settled(measured, pairs), {}, ())


def _over(worlds: Sequence[World], compared: Sequence[Compared], ours: str, theirs: str) -> Pair:
    """A pair of arms over all environments."""
    parts = [next(pair for pair in one.pairs if (pair.ours, pair.theirs) == (ours, theirs)) for one in compared]
    arms = [{arm.label: arm for arm in world.arms} for world in worlds]
    apart = [world.differences(of[ours], of[theirs]) for world, of in zip(worlds, arms, strict=True)]
    scaled = np.concatenate([one / max(1, np.isfinite(one).sum()) for one in apart])
    signs = np.concatenate([world._signs for world in worlds], axis=1)
    chances = [resampling.improvement(world.draws[ours], world.draws[theirs]) for world in worlds]
    return Pair(
        ours,
        theirs,
        min(part.seeds for part in parts),
        _mean([part.difference for part in parts]),
        resampling.flipped(scaled, signs),
        statistics.fmean(part.improvement for part in parts),
        resampling.interval(np.mean(chances, axis=0)),
    )


def _mean(parts: Sequence[Interval]) -> Interval:
    halves = [part.half for part in parts]
    half = None if any(h is None for h in halves) else math.hypot(*(h for h in halves if h is not None)) / len(parts)
    return Interval(statistics.fmean(part.mean for part in parts), half)
