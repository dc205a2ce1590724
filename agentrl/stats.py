"""Small statistics of results, without torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a success rate (95 % by default); (0, 1) without observations.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if n <= 0:
        return 0.0, 1.0
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return min(low, rate), max(high, rate)  # rounding would leave a rate of 0 or 1 out


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval; ``half`` is None where one observation says nothing of the spread."""

    mean: float
    half: float | None

    @property
    def low(self) -> float:
        return self.mean - self.half if self.half is not None else -math.inf

    @property
    def high(self) -> float:
        return self.mean + self.half if self.half is not None else math.inf


def over_seeds_and_tasks(seeds: Sequence[Mapping[str, float]]) -> Interval:
    """The mean of ``seeds[s][task]`` over seeds and tasks, as sure as both allow.

    Runs differ by their seed, and a panel is a sample of tasks; each is a cause of its own. With s the standard
    deviation of the n seeds' means (Student's t, n - 1 degrees of freedom) and u that of the m tasks' means over the
    seeds::

        half^2 = (t_{.975, n-1} s / sqrt n)^2 + (z_{.975} u / sqrt m)^2

    Both spreads hold the noise of single plays, so the interval errs on the wide side. Without tasks (one value per
    seed) only the first term is left; with one seed only the second. Seeds count alike, whatever they lack.
    """
    filled = [values for values in seeds if values]
    if not filled:
        return Interval(math.nan, None)
    means = [statistics.fmean(values.values()) for values in filled]
    tasks = sorted({task for values in filled for task in values})
    columns = [statistics.fmean(values[task] for values in filled if task in values) for task in tasks]
    parts = []
    if len(means) > 1:
        parts.append(student(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means)))
    if len(columns) > 1:
        parts.append(Z95 * statistics.stdev(columns) / math.sqrt(len(columns)))
    return Interval(statistics.fmean(means), math.hypot(*parts) if parts else None)


def difference(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> Interval:
    """The mean of ours - theirs, paired by seed and task; what only one of them has is left out."""
    pairs = zip(ours, theirs, strict=False)
    return over_seeds_and_tasks([{task: a[task] - b[task] for task in a.keys() & b.keys()} for a, b in pairs])


def student(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: those below .05 are false together with a chance below .05.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted, worst = [0.0] * len(ps), 0.0
    for done, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        worst = max(worst, min(1.0, (len(ps) - done) * ps[index]))
        adjusted[index] = worst
    return adjusted


def tasks_needed(variance: float, effect: float, power: float = 0.8) -> int:
    """Tasks with which a two-sided test at 5 % finds ``effect`` with chance ``power`` (normal approximation).

    ``variance`` is that of what is averaged over tasks: of the paired differences where both arms play the same tasks;
    the sum of both arms' where each has tasks of its own (then so many for each arm).
    """
    z = Z95 + statistics.NormalDist().inv_cdf(power)
    return math.ceil(z * z * variance / effect**2 - 1e-9)


@dataclass(frozen=True, slots=True)
class Spread:
    """Why differences of single plays, paired by seed and task, differ from each other: variances.

    ``seeds``: of the seeds' means over the panel; ``tasks``: of the tasks' true differences; ``noise``: what is left of
    a play; ``panel``: number of tasks.
    """

    seeds: float
    tasks: float
    noise: float
    panel: int


def seeds_needed(spread: Spread, effect: float, power: float = 0.8, most: int = 1000) -> int | None:
    """Pairs of runs on the same panel with which :func:`difference` leaves out 0 with chance ``power``.

    None where ``most`` are too few, as where the panel itself is too small. The half of the interval that n seeds will
    get is taken from the spread; the mean difference is normal around ``effect``.
    """
    z = statistics.NormalDist().inv_cdf(power)
    for n in range(2, most + 1):
        of_tasks = (spread.tasks + spread.noise / n) / spread.panel
        half = math.hypot(student(n - 1) * math.sqrt(spread.seeds / n), Z95 * math.sqrt(of_tasks))
        if effect >= half + z * math.sqrt(spread.seeds / n + spread.tasks / spread.panel):
            return n
    return None
