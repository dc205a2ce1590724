"""Episodes played by the environment's expert instead of the policy: what supervised methods learn from.

A demonstration depends on the run's seed and its task alone, never on the step: drawing a task again gives the
same demonstration, so ``pool`` tasks are a data set of ``pool`` demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.ranges import require_shares
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.play import demonstrate, refuse_failures, refuse_mute
from agentrl.types import Group, Task


@dataclass(frozen=True)
class Demonstrations:
    """One demonstration of each task; failed ones are left out when ``only_success``."""

    noise: float
    slips: float
    only_success: bool
    pool: int
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float

    def __post_init__(self) -> None:
        require_shares(self, "rollout", "slips")

    @property
    def group_size(self) -> int:
        return 1

    @property
    def most_episodes(self) -> int:
        return 1

    @property
    def gives(self) -> frozenset[str]:
        return frozenset()

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """A group of one demonstration for each task whose demonstration is kept."""
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        plays = [demonstrate(stage, task, limits, self.noise, seed, slips=self.slips)[0] for task in tasks]
        records = [play.record() for play in plays]
        refuse_failures(records, self.max_failed)
        refuse_mute(records, limits)
        return [Group(r.task, (r,)) for r in records if r.success or not self.only_success]
