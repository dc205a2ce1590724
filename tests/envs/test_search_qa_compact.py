"""The compact view of search QA: known words only, all that a player needs, learnable and not trivial."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agentrl.bundled import locate
from agentrl.envs.search_qa import SearchQA
from agentrl.envs.search_qa.compact import COMPACT_WORDS, line_of, parse
from agentrl.envs.search_qa.seeker import Line, Want, decide, progress
from agentrl.types import Message


@pytest.fixture(scope="module")
def env() -> SearchQA:
    return SearchQA()


def say(text: str) -> Message:
    return Message("assistant", text)


def test_the_view_is_compact_by_default(env: SearchQA) -> None:
    assert env.view_name == "compact"
    assert env.kinds == ("chain",)
    assert SearchQA(view="text").kinds == ("chain", "comparison", "arithmetic")


def test_notes_and_results_carry_all_that_was_found(env: SearchQA) -> None:
    task = next(task for task in env.tasks("train") if len(task.data["hops"]) == 3)
    hops = task.data["short"]["hops"]
    episode = env.start(task)
    assert episode.goal[0].content == f"ask {task.data['short']['question']}"
    assert episode.observation[0].content == "seen none | results none | left 4"
    lines = [" ".join(hop) for hop in hops]
    for number, (subject, relation, _) in enumerate(hops):
        step = episode.step(say(f"search {relation} {subject}"))
        seen, _, rest = step.observation[0].content.partition(" | results ")
        assert seen == "seen " + (" | ".join(lines[:number]) or "none")
        assert rest.startswith(lines[number])
        assert rest.endswith(f"| left {3 - number}")
    assert episode.step(say(f"answer {hops[-1][2]}")).reward == 1.0


def test_a_reply_outside_the_grammar_only_costs_a_turn(env: SearchQA) -> None:
    episode = env.start(env.tasks("train")[0])
    for number, text in enumerate(("", "find it", "search", "answer ", "<search>x</search>\n")[:4]):
        step = episode.step(say(text))
        assert not step.parsed
        assert step.observation[0].content == f"seen none | results none | left {3 - number}"
    step = episode.step(say("nonsense"))
    assert (step.done, step.reward, step.parsed) == (True, 0.0, False)


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        (" search  born red ", ("search", "born red")),
        ("answer 31", ("answer", "31")),
        ("search", None),
        ("Search x", None),
        ("search x\nanswer y", None),
        ("look x", None),
    ],
)
def test_the_grammar(reply: str, read: tuple[str, str] | None) -> None:
    assert parse(reply) == read


def test_fact_lines_are_taken_apart_at_the_relation() -> None:
    assert line_of("slim lamp author norwell rug") == Line("slim lamp", "author", "norwell rug")
    assert line_of("glossy bun 2 population 31") == Line("glossy bun 2", "population", "31")
    assert line_of("no relation here") is None
    assert line_of("author x") is None


def test_every_word_is_a_token_or_one_of_the_named_spare_ones(env: SearchQA) -> None:
    tokenizer = json.loads((Path(locate("bundled:tiny")) / "tokenizer.json").read_text(encoding="utf-8"))
    known = set(tokenizer["model"]["vocab"])
    longest, rng, mixed = 0, random.Random(0), SearchQA(questions="mixed", view="compact")

    def read(text: str) -> int:
        first, *rest = text.split(" ")
        unknown = [w for w in rest if f"\u0120{w}" not in known and w not in COMPACT_WORDS]
        assert not unknown, text
        assert first in known
        return len(rest) + 1

    for which in (env, mixed):
        expert = which.expert(0.5, 0)
        for task in which.tasks("train")[:150]:
            episode = which.start(task)
            goal, shown, done = read(episode.goal[0].content), episode.observation[0].content, False
            while not done:
                longest = max(longest, goal + read(shown))
                action = expert(episode) if rng.random() < 0.8 else say(rng.choice(episode.actions()))
                assert read(action.content) <= 10
                step = episode.step(action)
                assert step.parsed
                shown, done = (step.observation[0].content if step.observation else ""), step.done
    assert 40 < longest <= 90
    assert len(COMPACT_WORDS) == len(set(COMPACT_WORDS)) == 14


def test_it_can_be_learnt_and_is_not_trivial(env: SearchQA) -> None:
    def success(noise: float) -> float:
        expert, wins = env.expert(noise, 0), 0
        for task in env.tasks("test")[:200]:
            episode = env.start(task)
            while not (step := episode.step(expert(episode))).done:
                pass
            wins += step.reward == 1.0
        return wins / 200

    assert success(0.0) == 1.0
    assert 0.1 <= success(0.5) <= 0.4


def test_progress_names_the_first_missing_fact() -> None:
    chain = Want("", ("a",), ("author", "born"))
    lines = [Line("a", "author", "b"), Line("c", "born", "9")]
    assert progress(chain, []) == ("a", "author")
    assert progress(chain, lines) == ("b", "born")
    assert progress(chain, [*lines, Line("b", "born", "31")]) == "31"
    numbers = [Line("a", "population", "9,000"), Line("b", "population", "12,000")]
    for op, answer in (("more", "b"), ("less", "a"), ("sum", "21000"), ("subtract", "3000")):
        assert progress(Want(op, ("a", "b"), ("population",)), numbers) == answer
        assert progress(Want(op, ("a", "b"), ("population",)), numbers[:1]) == ("b", "population")


def test_mistakes_are_those_that_are_documented() -> None:
    want, rng = Want("", ("a x",), ("author", "born")), random.Random(0)
    lines = [Line("a x", "author", "b y"), Line("c z", "born", "9")]
    made = {decide(want, lines, False, 1.0, rng) for _ in range(300)}
    assert ("search", "born", "b y") not in made
    assert {verb for verb, _, _ in made} == {"search", "answer"}
    assert ("answer", "", "9") in made
    assert any(verb == "search" and subject == "b y" for verb, _, subject in made)
    assert {verb for verb, _, _ in (decide(want, lines, True, 1.0, rng) for _ in range(50))} == {"answer"}
    assert decide(want, lines, False, 0.0, rng) == ("search", "born", "b y")
