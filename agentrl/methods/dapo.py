"""DAPO: GRPO with four changes. Yu et al. 2025, "DAPO: an open-source LLM RL system at scale", arXiv:2503.14476.

1. Clip higher: clip_low .2, clip_high .28 (numbers of the YAML).
2. Dynamic sampling: groups whose rewards are all equal are dropped and more tasks are played until the batch is full.
3. Token-level mean over the batch (``aggregation: token``), no KL.
4. Overlong shaping, added to the reward of a play of L sampled tokens::

    0                                        L <= L_max - L_cache
    ((L_max - L_cache) - L) / L_cache        up to L_max
    -1                                       beyond

Differs from the paper: dynamic sampling stops after ``max_rounds`` extra rounds; the batch is then filled with the
dropped groups, which give no gradient (but that of overlong shaping) and keep the divisor of the token mean. L counts
all sampled tokens of a play.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentrl.errors import ConfigError
from agentrl.methods.base import Supply
from agentrl.methods.grpo import GRPO
from agentrl.ops import spread
from agentrl.types import Group


@dataclass(frozen=True)
class DAPO(GRPO):
    """GRPO plus dynamic sampling and overlong shaping."""

    max_rounds: int
    overlong_max: int
    overlong_cache: int

    def __post_init__(self) -> None:
        if not 0 < self.overlong_cache <= self.overlong_max:
            raise ConfigError(
                f"method.overlong_cache: got {self.overlong_cache}, expected 1 to "
                f"overlong_max={self.overlong_max} tokens; "
                "set overlong_max to the longest play you accept and overlong_cache to the soft part of it"
            )

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """Groups with a spread of rewards, played until the batch is full or ``max_rounds`` are spent."""
        kept = [group for group in groups if _informative(group)]
        dropped = [group for group in groups if not _informative(group)]
        for _ in range(self.max_rounds):
            missing = len(groups) - len(kept)
            if not missing:
                break
            kept += [group for group in supply.play(supply.tasks(missing)) if _informative(group)]
        return (kept + dropped)[: len(groups)]

    def scores(self, group: Group) -> NDArray[np.float64]:
        """Rewards with the overlong term, ``[G]``."""
        lengths = np.array([play.tokens for play in group.valid], np.float64)
        return super().scores(group) + self.overlong(lengths)

    def overlong(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """The penalty of plays of these lengths in sampled tokens, between -1 and 0."""
        soft = self.overlong_max - self.overlong_cache
        penalty: NDArray[np.float64] = np.clip((soft - lengths) / self.overlong_cache, -1.0, 0.0)
        return penalty


def _informative(group: Group) -> bool:
    """Do the plays differ in reward?"""
    return spread(np.array(group.rewards, np.float64)) > 0.0
