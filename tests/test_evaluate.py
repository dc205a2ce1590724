"""Numbers of an evaluation: success, and steps with failures at their cap (ASAT and ASST of arXiv:2509.20616)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.evaluate import block, flat
from agentrl.log.metrics import defined
from agentrl.types import Group, Stop, Task, Trajectory
from tests.learning import play, turn


def a_play(turns: int, success: bool, **more: Any) -> Trajectory:
    return play([turn((1,), (2,)) for _ in range(turns)], success=success, env_return=float(success), **more)


def alone(*plays: Trajectory) -> list[Group]:
    return [Group(p.task, (p,)) for p in plays]


def test_steps_by_hand() -> None:
    """The cheeseburger row of the paper's table: seven of ten succeed, in 12.7 steps on average, cap 23."""
    wins = [a_play(n, True) for n in (12, 12, 12, 13, 13, 13, 14)]
    found = block(alone(*wins, a_play(23, False), a_play(4, False), a_play(23, False)), 23)
    assert found["success"] == 0.7
    assert found["steps_success"] == pytest.approx(12.714, abs=1e-3)
    assert found["steps"] == pytest.approx(15.8)
    assert found["turns"] == pytest.approx((89 + 50) / 10)


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=12), st.integers(12, 40))
def test_identity_of_steps(plays: list[tuple[int, bool]], cap: int) -> None:
    found = block(alone(*(a_play(n, won) for n, won in plays)), cap)
    rate, wins = found["success"], found["steps_success"] or 0.0
    assert found["steps"] == pytest.approx(rate * wins + (1 - rate) * cap)
    assert (found["steps_success"] is None) == (rate == 0.0)


def test_tasks_may_have_caps_of_their_own() -> None:
    failed, won = a_play(9, False), a_play(5, True)
    capped = [replace(p, task=Task("t", "test", "t", {"cap": 15})) for p in (failed, won)]
    assert block(alone(*capped), 35)["steps"] == 10.0
    walked = [turn((1,), (2,), info={"steps": n}) for n in (2, 4, 6)]  # actions that are two steps each
    assert block(alone(replace(won, turns=tuple(walked))), 35)["steps"] == 3.0
    assert block(alone(replace(capped[1], turns=tuple(walked)), capped[0]), 35)["steps_success"] == 6.0


def test_failed_episodes_and_parts_of_the_reward() -> None:
    broken = play([], stop=Stop.env_error)
    last = turn((1,), (2,), info={"reward_parts": {"complete": 0.5}})
    found = block(alone(play([turn((1,), (2,)), last]), a_play(2, False), broken, play([], stop=Stop.max_tokens)), 8)
    assert (found["n"], found["failed"]) == (3, 1)
    assert found["parts"] == {"complete": 0.5}
    assert found["steps_success"] is None


def test_metrics_leave_out_what_is_not_known() -> None:
    blocks = {"greedy": block(alone(a_play(2, True)), 5), "sampled": block(alone(a_play(2, False)), 5)}
    metrics = flat("after", blocks)
    assert metrics["after/greedy_steps_success"] == 2.0
    assert metrics["after/sampled_steps"] == 5.0
    assert "after/sampled_steps_success" not in metrics
    assert all(defined(name) for name in metrics)
