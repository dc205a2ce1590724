from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from agentrl.errors import ConfigError
from agentrl.types import Group, Task
from tests.learning import group, method


class Shelf:
    """A supply whose fresh groups are given beforehand."""

    def __init__(self, *fresh: list[float], past: Sequence[Group] = (), seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.past = past
        self.asked: list[int] = []
        self._fresh = list(fresh)

    def tasks(self, count: int) -> list[Task]:
        self.asked.append(count)
        return [Task(f"new{i}", "train", "f") for i in range(count)]

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        return [group(self._fresh.pop(0), task.id) for task in tasks]


def test_dynamic_sampling_plays_until_the_batch_is_full() -> None:
    batch = [group([1, 0], "a"), group([0, 0], "b"), group([1, 1], "c")]
    shelf = Shelf([0, 0], [1, 0], [0, 1])
    found = method("dapo").refill(batch, shelf)
    assert shelf.asked == [2, 1]
    assert [g.rewards for g in found] == [(1, 0), (1, 0), (0, 1)]


def test_dynamic_sampling_gives_up_after_max_rounds_and_keeps_the_divisor() -> None:
    batch = [group([1, 0], "a"), group([0, 0], "b")]
    shelf = Shelf([0, 0], [0, 0])
    found = method("dapo", max_rounds=2).refill(batch, shelf)
    assert shelf.asked == [1, 1]
    assert [g.task.id for g in found] == ["a", "b"]


def test_overlong_penalty_by_hand() -> None:
    dapo = method("dapo", overlong_max=100, overlong_cache=20)
    np.testing.assert_allclose(dapo.overlong(np.array([10.0, 80, 90, 100, 500])), [0, 0, -0.5, -1, -1])


def test_overlong_penalty_enters_the_advantages() -> None:
    dapo = method("dapo", overlong_max=3, overlong_cache=2, std_eps=0.0)
    same = group([1, 1], tokens=2)
    long = group([1, 1], tokens=3).trajectories[1]
    found = dapo.advantages(Group(same.task, (same.trajectories[0], long)))
    assert [a[0] for a in found] == [1.0, -1.0]


def test_an_impossible_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"overlong_cache: got 0"):
        method("dapo", overlong_cache=0)
