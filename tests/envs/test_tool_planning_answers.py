"""Answers in the planning world: what the expert writes, what compact words say, and that planners are left alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from agentrl.completeness import Call
from agentrl.envs.check import check_env
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.envs.tool_planning.answers import told
from agentrl.errors import ConfigError
from agentrl.judges import Rules
from agentrl.rewards.judge import own_answer
from agentrl.types import Message, Stop, Task, Trajectory, Turn

SMALL = {"size": 500, "per_region": 12}


@cache
def env(view: str = "text", **changes: Any) -> ToolPlanning:
    return ToolPlanning(view=view, **{**SMALL, "answers": True, **changes})


def play(world: ToolPlanning, task: Task, noise: float, seed: int = 0) -> Trajectory:
    expert, episode, turns, stop = world.expert(noise, seed), world.start(task), [], Stop.max_turns
    for _ in range(world.max_turns):
        action = expert(episode)
        step = episode.step(action)
        turns.append(Turn((), (), (), action, step.observation, step.reward, step.parsed, info=step.info))
        if step.done:
            stop = Stop.done
            break
    return Trajectory(task, 0, tuple(turns), stop, success=step.reward >= 1.0)


def match(play: Trajectory) -> float:
    data = play.task.data
    return Rules().verdict(data["query"], data["reference"], own_answer(play)).score


@pytest.mark.parametrize("view", ["text", "compact"])
def test_the_contract_is_kept(view: str) -> None:
    assert check_env(env(view), tasks=4) == []


@pytest.mark.parametrize("view", ["text", "compact"])
def test_a_careful_expert_writes_the_reference(view: str) -> None:
    plays = [play(env(view), task, 0.0) for task in env(view).tasks("test")[:60]]
    assert all(p.success for p in plays)
    assert [match(p) for p in plays] == [1.0] * 60
    ends = {p.turns[-1].action.content.split()[0] for p in plays}
    assert ends == ({"answer"} if view == "compact" else {"<answer>The"})


@pytest.mark.parametrize("view", ["text", "compact"])
def test_a_hasty_expert_answers_with_what_it_has_or_makes_it_up(view: str) -> None:
    """At noise 1 six of ten first actions end the play: with a number, which no call supports."""
    plays = [play(env(view), task, 1.0, seed) for seed, task in enumerate(env(view).tasks("test")[:80])]
    at_once = [p for p in plays if len(p.turns) == 1 and p.stop is Stop.done]
    assert len(at_once) > 30
    assert all(own_answer(p).removeprefix("The answer is ").removesuffix(".").isdecimal() for p in at_once)
    assert sum(match(p) for p in at_once) < 5
    later = [p for p in plays if p.stop is Stop.done and any(c["ok"] for t in p.turns for c in t.info["calls"])]
    assert later
    for p in later:
        words = p.turns[-1].action.content.split()
        assert words[-1].startswith("item") if view == "compact" else own_answer(p).startswith("The answer is ")


def test_what_compact_words_say() -> None:
    world = env("compact").world
    (city, *_) = [e for e in world.encyclopedia.entities.values() if e.kind == "city"]
    calls = [
        Call("weather", {"city": city.name}, {"celsius": 23, "sky": "rain"}),
        Call("weather", {"city": "nowhere"}, {"error": "unknown"}, ok=False),
        Call("lookup", {"entity": city.name, "relation": "population"}, {"value": 120500}),
        Call("email", {"person": "x", "body": "23"}, {"sent": True}),
    ]
    for words, text in (
        ("item1", "23"),
        ("item2", "120500"),  # a call that failed has no label; the page shows `number`
        ("item3", "done"),
        ("item4", "item4"),
        (city.short, city.name),
        ("17", "17"),
        ("", ""),
    ):
        assert told(words.split(), calls, world) == text


def test_an_answer_ends_the_play_and_never_pays() -> None:
    """The return counts calls; what the answer says is the judge's business."""
    world = env("compact")
    task = world.tasks("test")[0]
    for said, text in (("answer 23", "23"), ("answer", ""), ("  answer   item1 ", "item1")):
        step = world.start(task).step(Message("assistant", said))
        assert (step.done, step.parsed, step.reward, step.info["answer"]) == (True, True, 0.0, text)
    planner = env("compact", answers=False).start(task)
    assert not planner.step(Message("assistant", "answer 23")).parsed
    step = planner.step(Message("assistant", "answer"))
    assert step.done
    assert "answer" not in step.info
    assert planner.actions()[-1] == "answer"


def test_the_text_view_asks_for_an_answer_or_for_none() -> None:
    task = env().tasks("test")[0]
    whole, planner = env().start(task), env(answers=False).start(task)
    assert "between <answer> and </answer>" in whole.goal[0].content
    assert "write <answer> alone and nothing behind it" in planner.goal[0].content
    mute = whole.step(Message("assistant", "hm")).observation[0].content
    assert mute.endswith("write <answer>, your answer and </answer>")
    assert planner.step(Message("assistant", "hm")).observation[0].content.endswith("write <answer>")
    step = whole.step(Message("assistant", "<answer>It is 23.</answer>"))
    assert (step.done, step.parsed) == (True, True)


def test_plays_of_both_kinds_make_the_same_calls() -> None:
    """So that end-to-end and planner rows learn from the same demonstrations, but for the answer."""
    for seed, task in enumerate(env("compact").tasks("train")[:40]):
        one, other = (play(env("compact", answers=both), task, 0.5, seed) for both in (True, False))
        assert [t.info["calls"] for t in one.turns] == [t.info["calls"] for t in other.turns]


def test_only_the_bundled_queries_have_answers() -> None:
    with pytest.raises(ConfigError, match=r"env\.answers is true but env\.data is 'folder'"):
        ToolPlanning(data="folder", answers=True)
    assert env().fingerprint["answers"] is True
