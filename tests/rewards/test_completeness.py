"""RLTR's reward by hand: the worked value, its bounds, the invented temperature, judges that keep silent."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.completeness import Call
from agentrl.completeness.checkers import Verdict
from agentrl.errors import ConfigError, JudgeError
from agentrl.rewards.completeness import Completeness
from agentrl.types import Group, Message, Stop, Task, Trajectory
from tests.learning import play, turn


@dataclass(frozen=True)
class Votes:
    """A checker that votes as it is told."""

    votes: tuple[int, ...]
    abstained: int = 0

    def check(self, task: Task, calls: Any) -> Verdict:
        return Verdict(self.votes, self.abstained)


def reward(checker: Any, **changes: Any) -> Completeness:
    from agentrl.completeness import Exact

    settings = {"repeat_penalty": 0.1, "error_penalty": 0.1, "clip_total": False} | changes
    return Completeness(checker=checker if checker is not None else Exact(), **settings)


def a_call(tool: str, ok: bool = True, result: Any = None, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments, "result": result or {}, "ok": ok, "turn": 0}


def a_play(*calls: dict[str, Any], data: Any = None, answers: bool = True, **more: Any) -> Trajectory:
    turns = [turn((1,), (2,), info={"calls": [call]}) for call in calls]
    turns += [turn((1,), (2,), info={"calls": []})] if answers else []
    task = Task("t", "train", "t", {"requirements": [], "query": "?"} if data is None else data)
    more.setdefault("stop", Stop.done if answers else Stop.max_turns)
    return Trajectory(task, 0, tuple(turns), **more)


def score(by: Completeness, *plays: Trajectory) -> list[Trajectory]:
    groups = by.score([Group(p.task, (p,)) for p in plays], 0, 1)
    return [group.trajectories[0] for group in groups]


def test_the_worked_value() -> None:
    """Votes (1, 1, 0), one repeat, one error: 2/3 - .1 - .1."""
    calls = [a_call("search", q="a"), a_call("search", q="a"), a_call("search", ok=False, q="b")]
    (found,) = score(reward(Votes((1, 1, 0))), a_play(*calls))
    assert found.reward == pytest.approx(0.4667, abs=1e-4)
    parts = found.reward_parts
    assert (parts["repeats"], parts["errors"], parts["calls"], parts["format"]) == (1.0, 1.0, 3.0, 1.0)


def test_equal_calls_that_are_not_neighbours_are_no_repeats() -> None:
    calls = [a_call("search", q="a"), a_call("code", x=1), a_call("search", q="a"), a_call("search", q="b")]
    (found,) = score(reward(Votes((1,))), a_play(*calls))
    assert (found.reward, found.reward_parts["repeats"]) == (1.0, 0.0)
    twice = turn((1,), (2,), info={"calls": [calls[0], calls[2]]})  # both in one message
    whole = a_play()
    (found,) = score(reward(Votes((1,))), Trajectory(whole.task, 0, (twice, *whole.turns), Stop.done))
    assert found.reward_parts["repeats"] == 1.0


@pytest.mark.parametrize(
    "broken",
    [
        a_play(a_call("search", q="a"), answers=False),  # never answers
        a_play(a_call("search", q="a"), answers=False, stop=Stop.max_tokens),
        Trajectory(Task("t", "train", "t", {"requirements": []}), 0, (), Stop.max_tokens),
        Trajectory(
            Task("t", "train", "t", {"requirements": []}),
            0,
            (turn((1,), (2,), parsed=False, info={"calls": []}), turn((1,), (2,), info={"calls": []})),
            Stop.done,
        ),  # one reply says nothing
    ],
)
def test_an_invalid_format_costs_everything(broken: Trajectory) -> None:
    (found,) = score(reward(Votes((1, 1, 1))), broken)
    assert (found.reward, found.reward_parts["format"], found.reward_parts["completeness"]) == (-1.0, 0.0, 1.0)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=12),
    st.lists(st.integers(0, 1), min_size=1, max_size=5),
)
def test_bounds(made: list[tuple[str, bool]], votes: list[int]) -> None:
    """-lambda (T - 1) - mu T <= R <= 1; below -1 only from six calls on that are all repeats and errors."""
    p = a_play(*(a_call("search", ok=ok, q=q) for q, ok in made))
    (open_,), (clipped,) = (score(reward(Votes(tuple(votes)), clip_total=clip), p) for clip in (False, True))
    length = len(made)
    low = -0.1 * max(length - 1, 0) - 0.1 * length
    assert low - 1e-9 <= open_.reward <= 1.0
    assert clipped.reward == max(open_.reward, -1.0)
    assert open_.reward_parts["below"] == float(open_.reward < -1.0)
    if open_.reward < -1.0:
        assert length >= 6


def test_the_share_below_minus_one_needs_six_wrong_repeats() -> None:
    wrong = a_call("search", ok=False, q="a")
    five, six = score(reward(Votes((0,))), a_play(*[wrong] * 5), a_play(*[wrong] * 6))
    assert (five.reward, five.reward_parts["below"]) == (pytest.approx(-0.9), 0.0)
    assert (six.reward, six.reward_parts["below"]) == (pytest.approx(-1.1), 1.0)


def one(name: str, tool: str, after: list[str] | None = None, **arguments: Any) -> dict[str, Any]:
    rules = {key: {"values": [value]} for key, value in arguments.items()}
    return {"id": name, "any": [{"tool": tool, "arguments": rules}], "after": after or []}


def test_the_invented_temperature_of_shanghai_is_not_complete() -> None:
    """The paper's case: one city is searched, the other made up. The exact check says what is missing counts."""
    difference = {
        "id": "d",
        "any": [{"tool": "code", "open": True, "result": {"number": 5.0}}],
        "after": ["b", "s"],
    }
    data = {
        "query": "temperature difference between Beijing and Shanghai",
        "requirements": [one("b", "search", city="Beijing"), one("s", "search", city="Shanghai"), difference],
    }
    beijing = a_call("search", city="Beijing", result={"celsius": 4})
    shanghai = a_call("search", city="Shanghai", result={"celsius": 9})
    code = a_call("code", result={"output": "5"}, program="9 - 4")
    made_up, whole = score(reward(None), a_play(beijing, data=data), a_play(beijing, shanghai, code, data=data))
    assert (made_up.reward, made_up.reward_parts["complete"]) == (0.0, 0.0)
    assert (whole.reward, whole.reward_parts["complete"]) == (1.0, 1.0)


def test_worlds_without_requirements_judge_themselves() -> None:
    """Actions count as calls: a repeated and an ineffective one."""
    plain = [turn((1,), (2,), info={"valid": ok}) for ok in (True, True, False)]
    named = [type(t)(**{n: getattr(t, n) for n in t.__dataclass_fields__} | {"action": Message("assistant", text)})
             for t, text in zip(plain, ("click a", "Click  a", "click b"), strict=True)]  # fmt: skip
    p = play(named, success=True)
    (found,) = score(reward(Votes((0,))), p)
    assert found.reward == pytest.approx(1 - 0.1 - 0.1)
    assert score(reward(Votes((1,))), play(named, success=False))[0].reward == pytest.approx(-0.2)


def test_no_verdict_is_no_credit_and_no_verdict_at_all_stops() -> None:
    class Moody(Votes):
        def check(self, task: Task, calls: list[Call]) -> Verdict:
            if not calls:
                raise JudgeError("the endpoint is asleep")
            return Verdict((1,)) if calls[0].tool == "search" else Verdict((), 3)

    plays = a_play(), a_play(a_call("code")), a_play(a_call("search"))
    silent, unread, judged = score(reward(Moody(())), *plays)
    assert silent.stop is unread.stop is Stop.env_error
    assert silent.error == "JudgeError: the endpoint is asleep"
    assert "none of its 3 answers" in (unread.error or "")
    assert judged.reward == 1.0
    with pytest.raises(JudgeError, match="asleep"):
        score(reward(Moody(())), a_play(), a_play())


def test_plays_are_judged_side_by_side_and_stay_in_order() -> None:
    meeting = threading.Barrier(2)

    class Slow(Votes):
        def check(self, task: Task, calls: list[Call]) -> Verdict:
            meeting.wait(timeout=10)  # for another one
            return Verdict((int(calls[0].arguments["n"]) % 2,))

    found = score(reward(Slow(())), *(a_play(a_call("search", n=n)) for n in range(16)))
    assert [p.reward for p in found] == [float(n % 2) for n in range(16)]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"reward\.error_penalty: got -1"):
        reward(Votes((1,)), error_penalty=-1)
    with pytest.raises(ConfigError, match="choose checker="):
        reward("exact")
