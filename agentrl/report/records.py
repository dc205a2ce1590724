"""The numbers of a report as records, and the two rules that turn intervals into words: who differs, who ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.comparison import Decoding
from agentrl.report.reading import METRICS
from agentrl.stats import Interval, holm

ALL = "all environments"
CHANCE = 0.05  # of an error of the tests over tasks, all comparisons of an environment together


@dataclass(frozen=True)
class Settings:
    """The schema of conf/report.yaml's ``report``.

    metric    success, or score (the environment's return)
    decoding  of the plays after training: sampled or greedy
    panel     hash of the panel that counts where runs of one environment have several; empty: there must be one
    draws     of the bootstrap, and of the tests over tasks
    effects   differences for which the seeds and tasks needed are told
    """

    metric: str
    decoding: Decoding
    panel: str
    draws: int
    effects: list[float]

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"report.metric: got '{self.metric}', expected one of {', '.join(METRICS)}")
        if self.draws < 100:
            raise ValueError(f"report.draws: got {self.draws}, expected at least 100")
        if any(effect <= 0 for effect in self.effects):
            raise ValueError(f"report.effects: got {self.effects}, expected differences above 0")


@dataclass(frozen=True)
class Measured:
    """An arm on its panel. ``runs``: the mean of each run; ``rank`` None where intervals overlap."""

    label: str
    seeds: tuple[int, ...]
    tasks: int
    mean: Interval
    boot: tuple[float, float]
    iqm: float
    iqm_boot: tuple[float, float]
    runs: tuple[float, ...]
    others: Mapping[str, Interval]
    rank: int | None = None

    def above(self, other: Measured) -> bool:
        """Is the interval of the mean above the other's, by either way of making it?"""
        return self.mean.low > other.mean.high and self.boot[0] > other.boot[1]


@dataclass(frozen=True)
class Pair:
    """Two arms on equal tasks and seeds. ``word``: above, below, no difference shown, not compared."""

    ours: str
    theirs: str
    seeds: int
    difference: Interval
    p: float
    improvement: float
    improvement_boot: tuple[float, float]
    word: str = ""
    overlap: bool = False


@dataclass(frozen=True)
class Advice:
    """For one difference: ``seeds`` of each arm on this panel (None: no number of them does, if ``known``); tasks that
    both play, and tasks for each where each has its own, in one run against another."""

    effect: float
    seeds: int | None
    known: bool
    paired: int | None
    unpaired: int | None


@dataclass(frozen=True)
class Compared:
    """An environment (or all of them): its arms, their pairs, profiles ``label -> (share, low, high)``, and advice."""

    env: str
    panel: str
    arms: tuple[Measured, ...]
    pairs: tuple[Pair, ...]
    profiles: Mapping[str, tuple[Any, Any, Any]]
    advice: tuple[Advice, ...]


def judged(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with Holm's p and a word: a difference is shown when its interval leaves out 0 and p is below .05."""
    ps = holm([pair.p for pair in pairs])
    return [replace(pair, p=p, word=_word(pair, p)) for pair, p in zip(pairs, ps, strict=True)]


def _word(pair: Pair, p: float) -> str:
    if pair.seeds == 0 or math.isnan(pair.difference.mean):
        return "not compared: no seed in common"
    if pair.seeds == 1 or pair.difference.half is None:
        return "no difference shown: one seed says nothing of others"
    if p < CHANCE and pair.difference.low > 0:
        return "above"
    if p < CHANCE and pair.difference.high < 0:
        return "below"
    return "no difference shown"


def settled(arms: Sequence[Measured], pairs: Sequence[Pair]) -> tuple[tuple[Measured, ...], tuple[Pair, ...]]:
    """The arms with a rank where one is shown, the pairs told whether the two arms' own intervals overlap.

    An arm has a rank when its intervals overlap no other's and each of its differences is shown.
    """
    by_label = {arm.label: arm for arm in arms}
    over: dict[str, int] = dict.fromkeys(by_label, 1)
    open_: set[str] = set()
    found = []
    for pair in pairs:
        a, b = by_label[pair.ours], by_label[pair.theirs]
        clear = a.above(b) or b.above(a)
        found.append(replace(pair, overlap=not clear))
        if not clear or pair.word not in ("above", "below"):
            open_ |= {a.label, b.label}
        over[(b if pair.word == "above" else a).label] += 1
    ranked = [replace(arm, rank=None if arm.label in open_ or not pairs else over[arm.label]) for arm in arms]
    return tuple(ranked), tuple(found)
