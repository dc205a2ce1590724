"""Resampling of runs and tasks: bootstrap intervals, the interquartile mean, chances of improvement, sign flips.

A method's plays are a matrix ``[runs, tasks]``: each run (a seed) plays every task of one panel; NaN where a play
failed. Runs are a sample of what training may give and tasks of what may be asked, so both are drawn anew, each by
itself, within an environment (the stratum): the bootstrap of crossed causes (Owen 2007, "The pigeonhole bootstrap"), of
which the one of Agarwal et al. (2021, "Deep reinforcement learning at the edge of the statistical precipice") is the
half without tasks. What is compared on one panel is drawn with the same tasks. Pure functions over numpy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def matrix(seeds: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> Floats:
    """``seeds[s][task]`` as ``[runs, tasks]``, NaN where a run has no value of a task."""
    return np.array([[values.get(task, np.nan) for task in tasks] for values in seeds], dtype=np.float64)


def weights(tasks: int, draws: int, rng: np.random.Generator) -> Floats:
    """How often each task comes in a draw of as many with replacement: ``[draws, tasks]``, rows sum to ``tasks``."""
    return rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=draws).astype(np.float64)


def bootstrap(plays: Floats, drawn: Floats, rng: np.random.Generator) -> Floats:
    """The means of the runs that each draw took, over the tasks that it took: ``[draws, runs]``.

    ``plays`` ``[runs, tasks]``; ``drawn`` ``[draws, tasks]`` from :func:`weights`.
    """
    there = np.isfinite(plays)
    sums, counts = drawn @ np.where(there, plays, 0.0).T, drawn @ there.T
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    took = rng.integers(0, len(plays), size=(len(drawn), len(plays)))
    return np.take_along_axis(means, took, axis=1)


def interval(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of the draws of a statistic."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def variances(plays: Floats) -> tuple[float, float, float]:
    """Variance of the runs' means, of the tasks beyond noise, and of the noise: two-way analysis of variance.

    ``plays`` ``[runs, tasks]``, at least two of each; plays that failed count as what their run and task make likely.
    """
    of_runs, of_tasks = np.nanmean(plays, axis=1), np.nanmean(plays, axis=0)
    rest = np.nan_to_num(plays - of_runs[:, None] - of_tasks[None, :] + np.nanmean(plays))
    noise = float((rest**2).sum() / ((len(of_runs) - 1) * (len(of_tasks) - 1)))
    return float(of_runs.var(ddof=1)), max(0.0, float(of_tasks.var(ddof=1)) - noise / len(of_runs)), noise


def iqm(values: Any) -> Any:
    """Interquartile mean over the last axis: a quarter of the values' weight is left out at each end.

    Where the number of values is no multiple of 4, the outermost that stay count by the part that is inside, so that
    three values count 1/4, 1, 1/4. Equal to scipy's ``trim_mean(values, .25)`` for multiples of 4.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n = ordered.shape[-1]
    edges = np.arange(n + 1)
    inside = np.clip(np.minimum(edges[1:], 0.75 * n) - np.maximum(edges[:-1], 0.25 * n), 0.0, None)
    return ordered @ (inside / inside.sum())


def improvement(ours: Any, theirs: Any) -> Any:
    """Chance that a run of ours is above a run of theirs, ties half: over the last axes, all pairs of runs."""
    a, b = np.asarray(ours)[..., :, None], np.asarray(theirs)[..., None, :]
    return ((a > b) + 0.5 * (a == b)).mean(axis=(-2, -1))


def profile(plays: Floats, at: Floats) -> Floats:
    """Share of tasks whose mean over the runs is at least each value of ``at``: ``[at]``."""
    every: Floats = _shares(plays, np.ones(len(plays)), np.ones((1, plays.shape[1])), at)[0]
    return every


def profile_band(plays: Floats, at: Floats, drawn: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """95 % band of :func:`profile`, runs and tasks drawn anew: low and high ``[at]``."""
    runs = len(plays)
    took = rng.multinomial(runs, np.full(runs, 1 / runs), size=len(drawn))
    drawn_shares = [_shares(plays, one, tasks[None, :], at)[0] for one, tasks in zip(took, drawn, strict=True)]
    low, high = np.nanquantile(np.array(drawn_shares), [0.025, 0.975], axis=0)
    return low, high


def _shares(plays: Floats, took: Floats, drawn: Floats, at: Floats) -> Floats:
    """``profile`` with runs counted ``took`` ``[runs]`` times and tasks ``drawn`` ``[draws, tasks]`` times."""
    there = np.isfinite(plays)
    counts = took @ there
    known = counts > 0
    means = (took @ np.where(there, plays, 0.0))[known] / counts[known]
    above = means[:, None] >= at[None, :] - 1e-12
    shares: Floats = drawn[:, known] @ above / drawn[:, known].sum(axis=1, keepdims=True)
    return shares


def signs(tasks: int, draws: int, rng: np.random.Generator) -> Floats:
    """Random signs ``[draws, tasks]`` for :func:`flipped`."""
    return rng.integers(0, 2, size=(draws, tasks)).astype(np.float64) * 2 - 1


def flipped(differences: Floats, by: Floats) -> float:
    """Two-sided p of the paired test over tasks: how often random signs give a mean difference as large as the real.

    ``differences`` ``[tasks]``, NaN where a pair is incomplete; ``by`` ``[draws, tasks]`` from :func:`signs`. If the
    two do not differ, each difference is as likely to come with the other sign. The real signs count as one of the
    draws, so that p is never 0.
    """
    known = np.nan_to_num(differences)
    got = np.abs(by @ known)
    return float((1 + np.sum(got >= abs(known.sum()) - 1e-9)) / (1 + len(by)))
