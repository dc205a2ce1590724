"""Plays made by hand that try to cheat each stage of PRS, against honest plays of the same questions.

What is shown: no cheat pays more than the honest play that knows as much. What is not caught is written down, too.
"""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.answers import bleu, exact
from agentrl.envs.base import Env
from agentrl.envs.long_qa import LongQA
from agentrl.envs.search_qa import SearchQA
from agentrl.errors import ConfigError
from agentrl.types import Group, Message, Stop, Task, Trajectory
from tests.learning import make, turn

TURNS = 5
FORMS = ("prs_short", "prs_scheduled")


@pytest.fixture(scope="module")
def search() -> SearchQA:
    return SearchQA(view="text", entities=300, max_turns=TURNS, compat=False)


@pytest.fixture(scope="module")
def prose() -> LongQA:
    return LongQA(view="text", size=300, max_turns=TURNS)


def played(env: Env, task: Task, replies: list[str]) -> Trajectory:
    """What the rollout records of these replies."""
    episode, turns, rewards, done = env.start(task), [], 0.0, False
    for reply in replies:
        step = episode.step(Message("assistant", reply))
        turns.append(turn((1,), (2,), parsed=step.parsed, info=step.info))
        rewards, done = rewards + step.reward, step.done
        if done:
            break
    stop = Stop.done if done else Stop.max_turns
    return Trajectory(task, 0, tuple(turns), stop, rewards, rewards >= env.success_return)


def worth(name: str, play: Trajectory, step: int = 0, **changes: Any) -> float:
    if name == "prs_scheduled":
        changes = {"quality": "short"} | changes
    (group,) = make("reward", name, **changes).score([Group(play.task, (play,))], step, 3)
    return group.trajectories[0].reward


def answer(text: str) -> str:
    return f"<answer>{text}</answer>"


def search_for(text: str) -> str:
    return f"<search>{text}</search>"


def one_hop(env: SearchQA) -> Task:
    return next(t for t in env.tasks("train") if "/1-hop/" in t.id and len(t.data["answers"][0].split()) == 2)


CHEATS: dict[str, list[str]] = {
    "empty calls": [search_for("")] * TURNS,
    "endless search": [search_for("the same again")] * TURNS,
    "tags without content": [answer("")],
    "blank answer": [answer(" \n ")],
    "answer outside the tags": ["It is Paris."],
    "open tags": ["<answer>" * 20],
    "never ends": [search_for("x")],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("cheat", CHEATS)
def test_plays_without_an_answer_earn_less_than_a_wrong_one(search: SearchQA, form: str, step: int, cheat: str) -> None:
    task = one_hop(search)
    wrong = played(search, task, [search_for("somebody"), answer("Nobody")])
    right = played(search, task, [search_for("somebody"), answer(task.data["answers"][0])])
    assert worth(form, played(search, task, CHEATS[cheat]), step) < worth(form, wrong, step) < worth(form, right, step)
    assert worth(form, right, step) == pytest.approx(1.0)


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_stuffed_with_candidates_earns_less_than_a_guess_among_them(search: SearchQA, form: str) -> None:
    """Of equally long candidates; a short one beside a long gold answer costs less, which is not caught (below)."""
    task = one_hop(search)
    gold = task.data["answers"][0]
    others = [t.data["answers"][0] for t in search.tasks("train")[:60]]
    others = [name for name in others if len(name.split()) == 2 and not set(name.split()) & set(gold.split())]
    names = [gold, *dict.fromkeys(others)][:6]
    assert len(names) == 6
    guesses = [worth(form, played(search, task, [answer(name)])) for name in names]
    for stuffing in (", ".join(names), " or ".join(names), " ".join(names * 5)):
        assert worth(form, played(search, task, [answer(stuffing)])) < sum(guesses) / len(guesses)
    both = answer("Nobody") + answer(gold)  # a second tag in one reply is not read
    assert worth(form, played(search, task, [both])) == worth(form, played(search, task, [answer("Nobody")]))


def test_a_short_candidate_beside_a_long_right_one_costs_less_than_a_wrong_guess() -> None:
    """Not caught: LBLEU is a soft precision, so naming both pays .67 where a guess between the two pays .5 on average;
    exact match pays neither."""
    assert bleu("north star of elvara, ash", ["north star of elvara"]) > 0.5
    assert exact("north star of elvara, ash", ["north star of elvara"]) == 0.0


def test_the_copied_question_is_a_wrong_answer(search: SearchQA) -> None:
    for task in search.tasks("train")[:200]:
        copied = played(search, task, [answer(task.data["question"])])
        guess = 0.5 if "/comparison/" in task.id else 0.1  # of the two that a comparison names, or of many
        assert worth("prs_short", copied) <= 0.2 + 0.8 * guess


@pytest.mark.parametrize("count", range(TURNS - 1))
def test_calls_that_are_not_needed_pay_nothing(search: SearchQA, count: int) -> None:
    task = one_hop(search)
    gold = answer(task.data["answers"][0])
    for reply in (gold, answer("Nobody")):
        padded = played(search, task, [search_for("")] * count + [reply])
        assert worth("prs_short", padded) == pytest.approx(worth("prs_short", played(search, task, [reply])))


def test_padding_can_raise_the_share_of_parsed_actions_but_never_past_its_gate(search: SearchQA) -> None:
    """Not caught: once an action was malformed, further valid ones raise s1. All of it stays below w_parse."""
    task = one_hop(search)
    gold = answer(task.data["answers"][0])
    found = [worth("prs_short", played(search, task, ["oops", *[search_for("")] * n, gold])) for n in range(4)]
    assert found == sorted(found)
    assert max(found) < 0.1 < worth("prs_short", played(search, task, [answer("Nobody")]))


def test_with_search_r1s_quirk_the_prompts_example_answers_for_a_play_that_never_does() -> None:
    """Not caught: env.compat=true reads the answer from the prompt, too, so endless search finishes well-formed."""
    quirk = SearchQA(view="text", entities=300, max_turns=TURNS)
    task = one_hop(quirk)
    endless = played(quirk, task, CHEATS["endless search"])
    assert worth("prs_short", endless) == worth("prs_short", played(quirk, task, [answer("Nobody")]))


def test_long_answers_are_worth_what_the_judge_says(prose: LongQA) -> None:
    task = next(t for t in prose.tasks("train") if "/simple/" in t.id and len(t.data["facts"]) == 2)
    first, second = (fact["values"][0] for fact in task.data["facts"])
    reference = task.data["reference"]
    world = prose.world.encyclopedia
    everything = " ".join(fact.statement for entity in world.regions[task.family] for fact in entity.facts.values())

    def pays(text: str) -> float:
        return worth("prs_long", played(prose, task, [search_for("somebody"), answer(text)]))

    half = pays(reference.split(". ")[0] + ".")
    assert pays(reference) == pytest.approx(1.0)
    assert 0.2 < half < 1.0
    assert pays(task.data["question"]) == pytest.approx(0.2)
    assert pays(everything) < half
    assert pays(f"It is {first} or {second} or 1 or 2 or 3 or Nobody.") < half
    assert pays(" ") < 0.2
    assert worth("prs_long", played(prose, task, CHEATS["endless search"])) == pytest.approx(0.1)


def test_the_judges_share_is_blended_with_the_likeness(prose: LongQA) -> None:
    task = prose.tasks("train")[0]
    words = task.data["reference"].split()
    play = played(prose, task, [answer(" ".join(words[: len(words) // 2]))])
    judge, likeness = (worth("prs_long", play, judge_weight=weight) for weight in (1.0, 0.0))
    assert judge != pytest.approx(likeness)
    assert worth("prs_long", play, judge_weight=0.25) == pytest.approx(0.25 * judge + 0.75 * likeness)
    with pytest.raises(ConfigError, match=r"reward\.judge_weight: got 2, expected a number from 0 to 1"):
        make("reward", "prs_long", judge_weight=2.0)


def test_a_world_without_gold_answers_is_refused() -> None:
    play = Trajectory(Task("t", "train", "t"), 0, (turn((1,), (2,)),), Stop.done)
    with pytest.raises(
        ConfigError, match=r"quality=short and long compare an answer with gold ones, and task t has none"
    ):
        worth("prs_short", play)


@pytest.mark.parametrize("quality", [0.0, 0.3, 1.0])
def test_the_gates_put_every_stage_above_the_one_before(quality: float) -> None:
    def play(parsed: list[bool], stop: Stop) -> Trajectory:
        return Trajectory(
            Task("t", "train", "t"), 0, tuple(turn((1,), (2,), parsed=ok) for ok in parsed), stop, env_return=quality
        )

    def pays(parsed: list[bool], stop: Stop) -> float:
        return worth("prs", play(parsed, stop), quality="env_return")

    malformed = [pays([True] * n + [False], stop) for n in range(9) for stop in (Stop.done, Stop.max_turns)]
    assert max(malformed) < pays([True], Stop.max_turns) == pytest.approx(0.1)
    assert pays([True], Stop.max_turns) < pays([True], Stop.done) == pytest.approx(0.2 + 0.8 * quality)
