"""Plays of the policy beside the expert's play of the same task: what ETO compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrl.errors import ConfigError
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.course import advance
from agentrl.rollout.play import Play, demonstrate, refuse_failures, refuse_mute
from agentrl.types import Group, Task


@dataclass(frozen=True)
class AgainstExpert:
    """A group for each task: the expert's play first, then ``plays`` of the policy.

    The expert's play depends on the run's seed and the task alone, as in ``rollout=demonstrations``.
    """

    plays: int
    noise: float
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float
    pool: int

    def __post_init__(self) -> None:
        if self.plays < 1:
            raise ConfigError(f"rollout.plays: got {self.plays}, expected at least 1 play beside the expert's")

    @property
    def group_size(self) -> int:
        return 1 + self.plays

    @property
    def most_episodes(self) -> int:
        return self.group_size

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"expert"})

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """One group for each task; a task that comes twice is sampled anew.

        Raises EnvError when too many episodes failed, ConfigError when none could begin.
        """
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        before: Counter[str] = Counter()
        own = []
        for task in tasks:
            first = before[task.id] * self.plays
            own.append([Play(stage, task, 1 + i, limits, (first + i,)) for i in range(self.plays)])
            before[task.id] += 1
        advance(stage, [play for plays in own for play in plays], self.temperature, seed, step)
        records = []
        for task, plays in zip(tasks, own, strict=True):
            expert, _ = demonstrate(stage, task, limits, self.noise, seed)
            records.append((expert.record(), *(play.record() for play in plays)))
        every = [play for plays in records for play in plays]
        refuse_failures(every, self.max_failed)
        refuse_mute(every, limits)
        return [
            Group(task, tuple(replace(play, member=i) for i, play in enumerate(plays)))
            for task, plays in zip(tasks, records, strict=True)
        ]
