"""The end-to-end reward: whose answer is judged, and how judges are made unreliable."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ConfigError, JudgeError
from agentrl.judges import Rules, Verdict
from agentrl.rewards.judge import Answer, JudgeReward, own_answer
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn
from tests.rewards.test_completeness import a_call


def a_play(said: str, *calls: dict[str, Any], task: str = "t", **data: Any) -> Trajectory:
    record = {"query": "How warm is Oslo?", "reference": "12"} | data
    made = [Turn((1,), (2,), (), Message("assistant", "call"), (), info={"calls": [call]}) for call in calls]
    last = Turn((1,), (2,), (), Message("assistant", said), (), info={"calls": []})
    return Trajectory(Task(task, "train", "f", record), 0, (*made, last), Stop.done)


def reward(**changes: Any) -> JudgeReward:
    settings = {"judge": Rules(), "answer": Answer.own, "flip": 0.0, "credulity": 0.0, "seed": 0} | changes
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
    assert looked.reward_parts == {"judged": 1.0, "match": 1.0, "format": 1.0, "calls": 1.0}


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
