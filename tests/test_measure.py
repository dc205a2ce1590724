from __future__ import annotations

import time

import pytest

from agentrl.log.metrics import defined
from agentrl.measure import Clock, rollout_metrics
from agentrl.types import Group, Stop
from tests.learning import play, turn


def test_a_resumed_clock_goes_on_but_its_laps_do_not_count_the_past() -> None:
    clock = Clock()
    with clock.phase("setup"):
        pass
    clock.resume({"setup": 100.0, "rollout": 50.0, "all": 200.0, "cpu": 180.0})
    lap = clock.lap()
    assert lap["setup"] < 1.0
    assert lap["rollout"] == 0.0
    whole = clock.summary()
    assert whole["rollout"] == 50.0
    assert whole["setup"] >= 100.0
    assert whole["all"] >= 200.0
    assert whole["cpu"] >= 180.0


def test_the_cpu_seconds_of_a_clock_are_its_own() -> None:
    """Runs of a sweep are in one process: what came before counts for none of them."""
    before = time.process_time()
    while time.process_time() < before + 0.2:
        pass
    assert Clock().summary()["cpu"] < 0.1


def test_parts_of_the_reward_are_averaged_over_the_plays_that_have_them() -> None:
    plays = [
        play([turn((1,), (2,))], member=i, reward_parts={"match": float(i)} | ({"rare": 1.0} if i else {}))
        for i in range(2)
    ]
    failed = play([], stop=Stop.env_error, member=2, reward_parts={"match": 9.0})
    metrics = rollout_metrics([Group(plays[0].task, (*plays, failed))], [])
    assert metrics["reward/match"] == pytest.approx(0.5)
    assert metrics["reward/rare"] == 1.0
    assert all(defined(name) for name in metrics)
    assert not defined("rewards/match")
