"""The end-to-end reward: whose answer is judged, and how judges are made unreliable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentrl.completeness import Call
from agentrl.errors import ConfigError, JudgeError
from agentrl.judges import Rules, Verdict
from agentrl.overrides import review
from agentrl.rewards.judge import Answer, JudgeReward, own_answer
from agentrl.summarizer import Rules as Summarizer
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn
from tests.rewards.test_completeness import a_call


def a_play(said: str, *calls: dict[str, Any], task: str = "t", **data: Any) -> Trajectory:
    record = {"query": "How warm is Oslo?", "reference": "12"} | data
    made = [Turn((1,), (2,), (), Message("assistant", "call"), (), info={"calls": [call]}) for call in calls]
    last = Turn((1,), (2,), (), Message("assistant", said), (), info={"calls": []})
    return Trajectory(Task(task, "train", "f", record), 0, (*made, last), Stop.done)


def reward(**changes: Any) -> JudgeReward:
    settings = {
        "judge": Rules(),
        "summarizer": Summarizer(invents=True),
        "answer": Answer.own,
        "flip": 0.0,
        "credulity": 0.0,
        "seed": 0,
    } | changes
    return JudgeReward(**settings)


def score(by: JudgeReward, *plays: Trajectory) -> list[Trajectory]:
    return [group.trajectories[0] for group in by.score([Group(p.task, (p,)) for p in plays], 0, 1)]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<answer> 12 </answer>", "12"),
        ("I think <answer>12", "12"),
        ("<answer>9</answer> no: <answer>12</answer> done", "12"),
        ("It is 12.", "It is 12."),
        ("<answer>", ""),
    ],
)
def test_the_policy_s_own_answer(said: str, answer: str) -> None:
    assert own_answer(a_play(said)) == answer


def test_own_answers_and_summaries() -> None:
    oslo = a_call("weather", city="Oslo", result={"celsius": 12})
    wrong = a_call("weather", ok=False, city="Olso", result={"error": "no such city"})
    right, off = score(reward(), a_play("<answer>It is 12 degrees.</answer>"), a_play("<answer>It is 9.</answer>"))
    assert (right.reward, off.reward) == (1.0, 0.0)
    by = reward(answer=Answer.summary)
    looked, failed, lazy = score(by, a_play("<answer>", oslo), a_play("<answer>", wrong), a_play("<answer>"))
    assert (looked.reward, failed.reward, lazy.reward) == (1.0, 0.0, 0.0)
    assert looked.reward_parts == {"judged": 1.0, "match": 1.0, "helpful": 1.0, "format": 1.0, "calls": 1.0}


def test_an_environment_may_say_what_an_action_answers() -> None:
    play = a_play("answer item1")
    last = replace(play.turns[-1], info={"calls": [], "answer": "12"})
    assert own_answer(replace(play, turns=(last,))) == "12"
    assert own_answer(replace(play, turns=(last,), stop=Stop.max_turns)) == ""


def test_a_summarizer_of_one_s_own() -> None:
    class Wordy:
        def answer(self, task: Task, calls: Sequence[Call]) -> str:
            return f"{len(calls)} calls about {task.data['query']}: 12"

    (play,) = score(reward(answer=Answer.summary, summarizer=Wordy()), a_play("<answer>9</answer>"))
    assert play.reward_parts["match"] > 0.0
    with pytest.raises(ConfigError, match=r"reward\.summarizer: it writes no answers"):
        reward(summarizer=Rules())


def test_a_choice_of_summarizer_comes_with_the_reward() -> None:
    """The group is known as soon as a choice before it brings it along, and to no other command line."""
    words = ["reward=judge", "summarizer@reward.summarizer=written"]
    assert review("train", words) == []
    (line,) = review("train", ["reward=judge", "summarizer@reward.summarizer=writen"])
    assert "did you mean 'written'" in line
    (line,) = review("train", ["summarizer@reward.summarizer=written"])
    assert "no group summarizer" in line


def test_helpful_answers_state_what_a_call_returned() -> None:
    oslo = a_call("weather", city="Oslo", result={"celsius": 12})
    failed = a_call("weather", ok=False, city="Oslo", result={"celsius": 9})
    done = a_call("email", person="Ada", result={"sent": True})
    for said, calls, expected in (
        ("It is 12 degrees.", (oslo,), 1.0),
        ("It is 9.", (oslo,), 0.0),
        ("It is 112.", (oslo,), 0.0),
        ("It is 9.", (failed,), 0.0),
        ("It is 12.", (), 0.0),
        ("Done.", (oslo, done), 1.0),
        ("", (oslo,), 0.0),
    ):
        (play,) = score(reward(), a_play(f"<answer>{said}</answer>", *calls))
        assert play.reward_parts["helpful"] == expected, said


def test_relevant_calls_are_those_that_the_query_required() -> None:
    needed = [{"id": "r0", "any": [{"tool": "weather", "arguments": {"city": {"values": ["Oslo"]}}}]}]
    oslo = a_call("weather", city="Oslo", result={"celsius": 12})
    rome = a_call("weather", city="Rome", result={"celsius": 20})
    for calls, share in (((oslo,), 1.0), ((oslo, rome, oslo), 1 / 3), ((rome,), 0.0), ((), 0.0)):
        (play,) = score(reward(), a_play("<answer>12", *calls, requirements=needed))
        assert play.reward_parts["relevant"] == pytest.approx(share)


def test_match_is_measured_whatever_the_format() -> None:
    play = a_play("<answer>It is 12.</answer>", a_call("weather", city="Oslo", result={"celsius": 12}))
    odd = replace(play, turns=(replace(play.turns[0], parsed=False), play.turns[1]))
    (found,) = score(reward(), odd)
    assert (found.reward, found.reward_parts["match"], found.reward_parts["judged"]) == (-1.0, 1.0, 0.0)


def test_a_play_without_an_answer_costs_everything() -> None:
    cut = a_play("<answer>12")
    cut = Trajectory(cut.task, 0, cut.turns, Stop.max_turns)
    assert score(reward(), cut)[0].reward == -1.0
    assert score(reward(), Trajectory(cut.task, 0, (), Stop.max_tokens))[0].reward == -1.0


def test_spoilt_verdicts_come_at_their_rates_and_stay_the_same() -> None:
    plays = [a_play("<answer>12", task=f"t{i}") for i in range(2000)]
    flipped = [p.reward for p in score(reward(flip=0.35), *plays)]
    assert sum(flipped) / 2000 == pytest.approx(0.65, abs=0.04)
    assert flipped == [p.reward for p in score(reward(flip=0.35), *plays[::-1])][::-1]
    assert flipped != [p.reward for p in score(reward(flip=0.35, seed=1), *plays)]
    lies = [a_play("<answer>9", task=f"t{i}") for i in range(2000)]
    believed = [p.reward for p in score(reward(credulity=0.5), *lies)]
    assert sum(believed) / 2000 == pytest.approx(0.5, abs=0.04)
    supported = [a_play("<answer>9", a_call("weather", city="Oslo"), task=f"t{i}") for i in range(50)]
    assert {p.reward for p in score(reward(credulity=1.0), *supported)} == {0.0}  # the loophole is for inventions


def test_what_it_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="states no question and reference"):
        score(reward(), Trajectory(Task("t", "train", "f"), 0, a_play("<answer>").turns, Stop.done))
    with pytest.raises(ConfigError, match=r"reward\.flip: got 2"):
        reward(flip=2.0)
    with pytest.raises(ConfigError, match="choose judge="):
        reward(judge="rules")

    class Asleep:
        def verdict(self, *_: Any) -> Verdict:
            raise JudgeError("asleep")

    with pytest.raises(JudgeError, match="asleep"):
        score(reward(judge=Asleep()), a_play("<answer>12"))
