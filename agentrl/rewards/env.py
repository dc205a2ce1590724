"""The environment's own return as the reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.rewards.base import scored
from agentrl.types import Group


@dataclass(frozen=True)
class EnvReward:
    """``reward = env_return``, the sum of the environment's step rewards."""

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward in the environment's units; its one part is ``return``."""
        return scored(groups, lambda play: (play.env_return, {"return": play.env_return}))
