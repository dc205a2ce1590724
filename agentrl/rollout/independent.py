"""G independent plays of every task, all of them advancing together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.course import advance
from agentrl.rollout.play import Play, refuse_failures, refuse_mute
from agentrl.types import Group, Task


@dataclass(frozen=True)
class Independent:
    """The plain rollout: every member plays its episode from the start, without looking at its siblings."""

    group_size: int
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float
    pool: int

    @property
    def most_episodes(self) -> int:
        return self.group_size

    @property
    def gives(self) -> frozenset[str]:
        return frozenset()

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """One group of ``group_size`` members for each task; a task that comes twice is sampled anew.

        Raises EnvError when too many episodes failed, ConfigError when none could begin.
        """
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        size = self.group_size
        before: Counter[str] = Counter()
        plays = []
        for task in tasks:
            plays += [Play(stage, task, i, limits, draw=(before[task.id] * size + i,)) for i in range(size)]
            before[task.id] += 1
        advance(stage, plays, self.temperature, seed, step)
        records = [play.record() for play in plays]
        refuse_failures(records, self.max_failed)
        refuse_mute(records, limits)
        return [Group(task, tuple(records[i * size : (i + 1) * size])) for i, task in enumerate(tasks)]
