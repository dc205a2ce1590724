"""Value-smoothing clipping, the second half of VSPO: copies of one group fade, so that none can dominate a batch.

The paper (arXiv:2512.07478) names it and gives no formula; these are ours. The k-th of n copies weighs::

    w_k = clip(f(k, n), w_min, 1)      f: gamma^k (geometric) | 1/n (inverse) | 1/sqrt n (sqrt) | 1 (none)

so a single copy weighs 1, weights never rise with k, and under ``geometric`` all copies of a group together weigh less
than 1 / (1 - gamma) + w_min n.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum, auto

from agentrl.types import Group


class Smoothing(StrEnum):
    """How the weight of a group falls with its copies; see :data:`SMOOTHING`."""

    geometric = auto()
    inverse = auto()
    sqrt = auto()
    none = auto()


#: (copy k = 0, 1, ..; copies n; gamma) -> weight before the floor.
SMOOTHING: Mapping[Smoothing, Callable[[int, int, float], float]] = {
    Smoothing.geometric: lambda k, _n, gamma: gamma**k,
    Smoothing.inverse: lambda _k, n, _gamma: 1.0 / n,
    Smoothing.sqrt: lambda _k, n, _gamma: 1.0 / math.sqrt(n),
    Smoothing.none: lambda _k, _n, _gamma: 1.0,
}


def smoothed(lots: Sequence[tuple[int, Group]], how: Smoothing, gamma: float, w_min: float) -> list[Group]:
    """The groups of (origin, group) with ``copy`` and ``weight`` set; groups of one origin are copies."""
    total = Counter(origin for origin, _ in lots)
    seen: Counter[int] = Counter()
    found = []
    for origin, group in lots:
        copy = seen[origin]
        seen[origin] += 1
        weight = min(max(SMOOTHING[how](copy, total[origin], gamma), w_min), 1.0)
        found.append(replace(group, weight=weight, copy=copy))
    return found
