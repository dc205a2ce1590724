"""The training order of tasks, and where a method gets more groups from."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from agentrl.errors import ConfigError
from agentrl.seeds import derive
from agentrl.types import Group, Task


class TaskOrder:
    """Training tasks in epochs, each shuffled by (seed, epoch); ``position`` is all its state."""

    def __init__(self, tasks: Sequence[Task], seed: int, pool: int = 0) -> None:
        if not tasks:
            raise ConfigError("env: it has no training tasks; choose another split or more tasks in conf/env")
        self._tasks = list(tasks)
        if pool:
            random.Random(derive(seed, "pool")).shuffle(self._tasks)
            self._tasks = self._tasks[:pool]
        self._seed = seed
        self._order: tuple[int, list[int]] = (-1, [])
        self.position = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def draw(self, count: int) -> list[Task]:
        """The next ``count`` tasks."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Task:
        epoch, index = divmod(self.position, len(self._tasks))
        if self._order[0] != epoch:
            order = list(range(len(self._tasks)))
            random.Random(derive(self._seed, "epoch", epoch)).shuffle(order)
            self._order = (epoch, order)
        self.position += 1
        return self._tasks[self._order[1][index]]


class LiveSupply:
    """The loop's side of :class:`agentrl.methods.base.Supply`: plays fresh groups with the current policy."""

    def __init__(
        self,
        order: TaskOrder,
        past: deque[Group],
        seed: int,
        step: int,
        play: Callable[[Sequence[Task], int], list[Group]],
    ) -> None:
        self.rng = random.Random(derive(seed, "refill", step))
        self.past: Sequence[Group] = tuple(past)
        self.extra: list[Group] = []
        self._order = order
        self._play = play
        self._calls = 0

    def tasks(self, count: int) -> list[Task]:
        """The next tasks of the training order."""
        return self._order.draw(count)

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        """Fresh, scored groups; they are counted in the run's episodes. A repeated call draws other samples."""
        self._calls += 1
        groups = self._play(tasks, self._calls)
        self.extra.extend(groups)
        return groups
