"""Success or nothing: the sparse reward, which cannot be gained by halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.rewards.base import scored
from agentrl.types import Group


@dataclass(frozen=True)
class Binary:
    """``reward = 1`` for a play that succeeded as the environment defines it, else 0."""

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward 0 or 1; its one part is ``success``."""
        return scored(groups, lambda play: (float(play.success), {"success": float(play.success)}))
