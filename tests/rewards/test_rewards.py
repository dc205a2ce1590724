from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ConfigError
from agentrl.types import Group, Stop, Trajectory
from tests.learning import make, play, turn


def a_play(parsed: list[bool], finish: str = "stop", **more: Any) -> Trajectory:
    turns = [turn((1,), (2,), parsed=ok) for ok in parsed[:-1]]
    return play([*turns, turn((1,), (2,), parsed=parsed[-1], finish=finish)], **more)


def score(name: str, p: Trajectory, step: int = 0, steps: int = 1, **changes: Any) -> Trajectory:
    (group,) = make("reward", name, **changes).score([Group(p.task, (p,))], step, steps)
    return group.trajectories[0]


def test_env_and_binary() -> None:
    p = a_play([True], env_return=0.4, success=False)
    assert score("env", p).reward == 0.4
    assert score("binary", p).reward == 0.0
    assert score("binary", a_play([True], success=True)).reward_parts == {"success": 1.0}


@pytest.mark.parametrize(
    ("p", "reward"),
    [
        (a_play([True, True], success=True), 1.0),
        (a_play([True, True], success=False), 0.2),
        (a_play([True, True], stop=Stop.max_turns, success=True), 0.1),  # no finish: quality does not count
        (a_play([True, True], finish="length", success=True), 0.1),
        (a_play([True, False], success=True), 0.05),  # half of the actions parse: nothing after that counts
        (a_play([False, False], success=True), 0.0),
        (play([], stop=Stop.max_tokens), 0.0),
    ],
)
def test_gated_prs_by_hand(p: Trajectory, reward: float) -> None:
    assert score("prs", p).reward == pytest.approx(reward)


def test_prs_floor_and_quality() -> None:
    assert score("prs", a_play([False]), floor=-1.0).reward == -1.0
    assert score("prs", a_play([True], env_return=0.5), quality="env_return").reward == pytest.approx(0.6)
    assert score("prs", a_play([True], env_return=-3.0), quality="env_return").reward == pytest.approx(0.2)
    assert score("prs", a_play([True, False])).reward_parts == {"parse": 0.5, "finish": 1.0, "quality": 0.0}


def test_scheduled_prs_moves_its_weights() -> None:
    p = a_play([True, False], success=True)  # s1 .5, s2 1, q 1
    found = [score("prs_scheduled", p, step, 3).reward for step in range(3)]
    assert found == pytest.approx([0.2 + 0.4 + 0.2, 0.125 + 0.25 + 0.5, 0.05 + 0.1 + 0.8])


@pytest.mark.parametrize("name", ["prs", "prs_scheduled"])
def test_prs_lies_in_the_unit_interval_and_never_falls_with_quality(name: str) -> None:
    for parsed in ([True], [True, False], [False]):
        for stop in (Stop.done, Stop.max_turns):
            rewards = [
                score(name, a_play(parsed, stop=stop, env_return=q / 4), 1, 3, quality="env_return").reward
                for q in range(5)
            ]
            assert rewards == sorted(rewards)
            assert min(rewards) >= 0.0
            assert max(rewards) <= 1.0


def test_failed_plays_keep_their_place_and_earn_nothing() -> None:
    good, bad = a_play([True], success=True), a_play([True], stop=Stop.env_error, member=1)
    (group,) = make("reward", "prs").score([Group(good.task, (bad, good))], 0, 1)
    assert group.trajectories[0] is bad
    assert group.rewards == (1.0,)


def test_weights_must_be_shares() -> None:
    with pytest.raises(ConfigError, match=r"w_parse, w_finish, w_quality: got 0\.5, 0\.1, 0\.8"):
        make("reward", "prs", w_parse=0.5)
