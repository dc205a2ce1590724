"""The best of n demonstrations of each task: the cold start of RLTR. arXiv:2508.19598, section 4.

A teacher plays every task ``samples`` times: the environment's expert with ``noise``, or the policy itself
(``teacher: policy``). Kept is the play with the most completeness votes; of equals the one with fewer repeated and
wrong calls, then with fewer calls, then the earlier one. SFT on what is kept makes a planner.

Differs from the paper: its teacher is a language model (Qwen3-32B) that also does the rejecting; n and the order of
ties are ours. ``only_success`` drops a task of which no play got a majority of the votes; the paper does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from agentrl.errors import ConfigError
from agentrl.ranges import require_shares
from agentrl.rewards.completeness import acts, errors, repeats, votes, well_formed
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.independent import Independent
from agentrl.rollout.play import demonstrate, refuse_failures, refuse_mute
from agentrl.seeds import derive
from agentrl.types import Cost, Group, Stop, Task, Trajectory


class Teacher(StrEnum):
    """Who plays: the environment's ``expert`` with ``noise``, or the ``policy`` as it is at this step."""

    expert = auto()
    policy = auto()


@dataclass(frozen=True)
class Rejection:
    """The schema of conf/rollout/rejection.yaml; ``checker`` is one of :mod:`agentrl.completeness`."""

    teacher: Teacher
    samples: int
    noise: float
    slips: float
    checker: Any
    only_success: bool
    pool: int
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"rollout.samples: got {self.samples}, expected at least 1 play of each task")
        require_shares(self, "rollout", "slips")

    @property
    def group_size(self) -> int:
        return 1

    @property
    def most_episodes(self) -> int:
        return self.samples

    @property
    def gives(self) -> frozenset[str]:
        return frozenset()

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """A group of the best play for each task of which one is kept; its cost is that of all ``samples`` plays.

        The expert's plays depend on seed and task alone: drawing a task again gives the same demonstration.
        """
        by_policy = self.teacher is Teacher.policy
        drawn = self._policy(stage, tasks, seed, step) if by_policy else self._expert(stage, tasks, seed)
        kept = []
        for task, plays in zip(tasks, drawn, strict=True):
            valid = [play for play in plays if play.stop is not Stop.env_error and play.turns]
            ranked = sorted((self._rank(play), index) for index, play in enumerate(valid))
            if ranked and (not self.only_success or -ranked[0][0][0] > 0.5):
                cost = Cost(len(plays), sum(p.stop is Stop.env_error for p in plays), sum(p.tokens for p in plays))
                kept.append(Group(task, (valid[ranked[0][1]],), cost=cost))
        return kept

    def _rank(self, play: Trajectory) -> tuple[float, int, int]:
        """Smaller is better."""
        made = acts(play)
        share = votes(self.checker, play) if well_formed(play) else 0.0
        return -share, repeats(made) + errors(made), len(made)

    def _expert(self, stage: Stage, tasks: Sequence[Task], seed: int) -> list[list[Trajectory]]:
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        seeds = [derive(seed, "teacher", number) for number in range(self.samples)]
        drawn = [
            [demonstrate(stage, task, limits, self.noise, one, slips=self.slips)[0].record() for one in seeds]
            for task in tasks
        ]
        records = [record for records in drawn for record in records]
        refuse_failures(records, self.max_failed)
        refuse_mute(records, limits)
        return drawn

    def _policy(self, stage: Stage, tasks: Sequence[Task], seed: int, step: int) -> list[list[Trajectory]]:
        rollout = Independent(
            group_size=self.samples,
            temperature=self.temperature,
            max_turns=self.max_turns,
            action_tokens=self.action_tokens,
            context_tokens=self.context_tokens,
            max_failed=self.max_failed,
            pool=0,
        )
        return [list(group.trajectories) for group in rollout.play(stage, tasks, seed=seed, step=step)]
