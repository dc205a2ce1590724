from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ConfigError
from agentrl.rewards.expert_match import said
from agentrl.types import Group, Message, Stop, ToolCall, Trajectory
from tests.learning import make, play, turn


def reply(text: str, parsed: bool = True, **state: Any) -> Trajectory:
    told = {"expert": ["move bun1"], "optimal": ["move bun1", "move bun2"], "valid": True, **state}
    one = turn((1,), (2,), parsed=parsed, info={"state": told})
    return play([type(one)(**{**_fields(one), "action": Message("assistant", text)})])


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def score(p: Trajectory, **changes: Any) -> Trajectory:
    (group,) = make("reward", "expert_match", **changes).score([Group(p.task, (p,))], 0, 1)
    return group.trajectories[0]


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Move  bun1", "move bun1"),
        ("Reasoning: the bun.\nAction: Move bun1", "move bun1"),
        ("Reasoning: x\n  ACTION :  Move bun1  \nObservation: done", "move bun1"),
        ("Action: Move bun1\nAction: Move bun2", "action: move bun1 action: move bun2"),  # which one?
        ("Action:\n```sql\nSELECT 1\n```", "```sql select 1 ```"),
        ("my action: Move bun1", "my action: move bun1"),  # no line of its own
        ("", ""),
        ("Action:", ""),
    ],
)
def test_what_a_reply_says(text: str, action: str) -> None:
    assert said(Message("assistant", text)) == action


def test_calls_are_compared_as_calls() -> None:
    one = Message("assistant", "I look it up", (ToolCall("search", {"a": 1, "b": [2]}),))
    two = Message("assistant", "", (ToolCall("search", {"b": [2], "a": 1}),))
    other = Message("assistant", "", (ToolCall("search", {"b": [2], "a": 2}),))
    assert said(one) == said(two) != said(other)


def test_match_with_the_expert_and_with_any_optimal_action() -> None:
    assert [score(reply(text)).reward for text in ("move bun1", "move bun2", "move bun3")] == [1.0, 0.0, 0.0]
    found = [score(reply(text), match="optimal").reward for text in ("move bun1", "move bun2", "move bun3")]
    assert found == [1.0, 1.0, 0.0]
    assert score(reply("move bun2", valid=True)).reward_parts == {"match": 0.0, "format": 1.0, "valid": 1.0}


def test_the_format_has_its_share() -> None:
    react = "Reasoning: it is first\nAction: move bun1"
    assert score(reply(react), w_format=0.1, format="react").reward == 1.0
    assert score(reply("move bun1"), w_format=0.1, format="react").reward == pytest.approx(0.9)
    assert score(reply(react.replace("bun1", "bun3")), w_format=0.1, format="react").reward == pytest.approx(0.1)
    assert score(reply("move bun3", parsed=False), w_format=0.1).reward == 0.0
    for bad in ("Reasoning:\nAction: move bun1", "Reasoning: x\nAction:", "Reasoning: x Action: move bun1"):
        assert score(reply(bad), w_format=1.0, format="react").reward == 0.0, bad


def test_an_empty_play_and_a_failed_one() -> None:
    assert score(play([], stop=Stop.max_tokens)).reward == 0.0
    failed = play([], stop=Stop.env_error)
    assert score(failed) is failed


def test_what_it_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="use rollout=single_turn"):
        score(play([turn((1,), (2,))]))
    with pytest.raises(ConfigError, match=r"reward\.match=expert"):
        score(reply("move bun1", optimal=None), match="optimal")
    with pytest.raises(ConfigError, match=r"reward\.w_format: got 1\.5"):
        make("reward", "expert_match", w_format=1.5)
