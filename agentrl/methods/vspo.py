"""VSPO: value-based sampling policy optimisation, with PRS rewards. arXiv:2512.07478 (v1 12/2025, v2 01/2026).

GRPO on a batch in which groups that teach nothing are replaced by valuable ones. For a task with rewards r_1..r_G::

    V = (R_max - mean(r)) * std(r)                                      value
    D = groups with std(r) = 0 (v2), or with a low V (v1)               replaced, each by a draw with P ~ V^(1/T)
    A' = clip(A * w_k, -a_max, a_max),  w_k = clip(gamma^k, w_min, 1)   value smoothing of the k-th copy of a group

Differs from the paper, which gives V and the idea of smoothing in words only:
- R_max is 1, the highest attainable reward, or the group's best (``r_max: group``); V with a variance is
  ``v_spread: var``;
- replacements come from the batch itself or from a buffer of recent batches, re-using their plays or, with
  ``fresh_rollouts``, playing the drawn tasks again (counted as episodes);
- the smoothing formulas are ours (:mod:`agentrl.methods.smoothing`);
- a batch in which no group has V > 0 stays as it is (a step without gradient);
- what :mod:`agentrl.methods.grpo` lists; the paper's kl_coef is .001.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentrl.methods.base import Supply
from agentrl.methods.choices import Ceiling, Draw, Replace, Source, Spread
from agentrl.methods.grpo import GRPO
from agentrl.methods.smoothing import Smoothing, smoothed
from agentrl.ops import spread
from agentrl.ranges import require_positive, require_shares
from agentrl.types import Group


@dataclass(frozen=True)
class VSPO(GRPO):
    """GRPO plus value, refill and smoothing."""

    v_spread: Spread
    r_max: Ceiling
    replace: Replace
    low_quantile: float
    sampling: Draw
    value_temperature: float
    source: Source
    buffer_batches: int
    fresh_rollouts: bool
    smoothing: Smoothing
    smoothing_gamma: float
    w_min: float
    a_max: float

    def __post_init__(self) -> None:
        require_positive(self, "method", "value_temperature", "a_max", "buffer_batches")
        require_shares(self, "method", "low_quantile", "smoothing_gamma", "w_min")

    @property
    def past_batches(self) -> int:
        return self.buffer_batches if self.source == Source.buffer else 0

    def value(self, group: Group) -> float:
        """V of a group: high where there is much to gain and the plays differ; 0 where they do not."""
        rewards = self.scores(group)
        sigma = spread(rewards)
        if sigma == 0.0:
            return 0.0
        ceiling = 1.0 if self.r_max == Ceiling.one else float(rewards.max())
        sigma = sigma**2 if self.v_spread == Spread.var else sigma
        return max(ceiling - float(rewards.mean()), 0.0) * sigma

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """As many groups as before: the ones worth keeping, and drawn copies in place of the others."""
        kept, missing = self._keep(groups)
        pool = [group for group in (*kept, *supply.past) if self.value(group) > 0.0]
        if not missing or not pool:
            return list(groups)
        drawn = supply.rng.choices(pool, self._odds(pool), k=missing)
        plays = supply.play([group.task for group in drawn]) if self.fresh_rollouts else drawn
        lots = [(id(group), group) for group in kept]
        lots += [(id(origin), play) for origin, play in zip(drawn, plays, strict=True)]
        return smoothed(lots, self.smoothing, self.smoothing_gamma, self.w_min)

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """GRPO's, bounded so that with the group's weight they stay within ``a_max``."""
        bound = self.a_max / group.weight if group.weight else math.inf
        return [np.clip(a, -bound, bound) for a in super().advantages(group)]

    def _keep(self, groups: Sequence[Group]) -> tuple[list[Group], int]:
        """The groups that stay, and how many are to be replaced."""
        if self.replace == Replace.none:
            return list(groups), 0
        values = [self.value(group) for group in groups]
        low = float(np.quantile(values, self.low_quantile)) if self.replace == Replace.low_value else 0.0
        flat = [spread(self.scores(group)) == 0.0 for group in groups]
        kept = [g for g, v, is_flat in zip(groups, values, flat, strict=True) if not is_flat and v >= low]
        return kept, len(groups) - len(kept)

    def _odds(self, pool: Sequence[Group]) -> list[float]:
        """How likely each group of the pool is drawn (unnormalised; the most valuable has 1)."""
        if self.sampling == Draw.at_random:
            return [1.0] * len(pool)
        values = [self.value(group) for group in pool]
        top = max(values)
        return [float((v / top) ** (1.0 / self.value_temperature)) for v in values]
