"""Long answers: the tags, the bundled questions and their rubric, both views, a user's records, the judge's part."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import build, check, compose
from agentrl.encyclopedia import RELATIONS
from agentrl.envs.base import Step
from agentrl.envs.long_qa import LongQA
from agentrl.envs.long_qa.env import LongQAEpisode
from agentrl.envs.long_qa.records import Record
from agentrl.envs.long_qa.views import COMPACT_WORDS, NO_PICTURE, NOTHING, REMINDER
from agentrl.envs.long_qa.world import ASKED
from agentrl.errors import ConfigError, DataError, EnvError, JudgeError
from agentrl.judges import Rules
from agentrl.judges.asking import Grammar
from agentrl.judges.openai import OpenAI
from agentrl.panel import require_disjoint
from agentrl.types import Message, Task
from tests.judges.endpoint import says, serving


@pytest.fixture(scope="module")
def text() -> LongQA:
    return LongQA(size=1000)


@pytest.fixture(scope="module")
def compact() -> LongQA:
    return LongQA(size=1000, view="compact")


def act(episode: LongQAEpisode, reply: str) -> Step:
    return episode.step(Message("assistant", reply))


def task_of(env: LongQA, kind: str, place: int = 0) -> Task:
    return [task for task in env.tasks("train") if task.data["type"] == kind][place]


def shown(step: Step) -> str:
    return "".join(message.content for message in step.observation)


def played(env: LongQA, task: Task, noise: float | None, seed: int) -> float:
    """The return of the expert, or of random valid actions (noise None)."""
    expert, rng, episode, total = env.expert(noise or 0.0, seed), random.Random(seed), env.start(task), 0.0
    for _ in range(env.max_turns):
        message = expert(episode) if noise is not None else Message("assistant", rng.choice(list(episode.actions())))
        step = episode.step(message)
        total += step.reward
        if step.done:
            break
    return total


def test_a_whole_text_episode(text: LongQA) -> None:
    task = task_of(text, "simple")
    episode = text.start(task)
    part = episode.record.parts[0]
    article = next(p for p in text.world.encyclopedia.passages if p.title == part.subject)
    (goal,) = episode.goal
    assert goal.role == "user"
    assert goal.content.endswith(f"\nQuestion: {task.data['question']}")
    assert "within 8 replies" in goal.content
    assert episode.observation == ()
    step = act(episode, f"<think>Who?</think><search> {part.subject} </search> and <answer>cut away</answer>")
    assert (step.reward, step.done, step.parsed) == (0.0, False, True)
    first = f'\n\n<information>Doc 1(Title: "{article.title}") {article.text}\nDoc 2(Title: "'
    assert shown(step).startswith(first)
    assert shown(step).endswith("</information>\n\n")
    assert "Doc 3" in shown(step)
    assert "Doc 4" not in shown(step)
    step = act(episode, f"<answer>{task.data['reference']}</answer>")
    assert (step.reward, step.done, step.observation) == (1.0, True, ())
    assert step.info["reward_parts"] == {
        "coverage": 1.0,
        "questions": 1.0,
        "contradicted": 0.0,
        "invented": 0.0,
        "match": 1.0,
    }
    assert act(episode, f"<answer>{task.data['reference']}</answer>") == Step((), 0.0, True)


def test_pictures_are_seen_by_their_captions(text: LongQA) -> None:
    task = task_of(text, "media")
    ((url, caption),) = task.data["media"].items()
    subject = task.data["parts"][0][0]
    assert url in task.data["question"]
    assert subject not in task.data["question"]
    assert subject in caption
    episode = text.start(task)
    assert shown(act(episode, f"<view>{url}</view>")) == f"\n\n<information>{caption}</information>\n\n"
    assert NO_PICTURE in shown(act(episode, "<view>https://elsewhere.example/x.jpg</view>"))


@pytest.mark.parametrize("reply", ["", "Paris", "<search>x", "<answer>", "<lookup>x</lookup>", "<Search>x</Search>"])
def test_replies_outside_the_grammar(reply: str, text: LongQA) -> None:
    step = act(text.start(text.tasks("train")[0]), reply)
    assert (shown(step), step.parsed, step.done, step.reward) == (REMINDER, False, False, 0.0)


@pytest.mark.parametrize("query", ["", "zzzz", "\ud800", "the of a"])
def test_searches_that_find_nothing(query: str, text: LongQA) -> None:
    step = act(text.start(text.tasks("train")[0]), f"<search>{query}</search>")
    assert step.parsed
    assert NOTHING in shown(step)


def test_what_is_shown_is_cut(text: LongQA) -> None:
    short = replace(text, shown_chars=50, top_k=1)
    step = act(short.start(short.tasks("train")[0]), "<search>mayor</search>")
    assert len(shown(step)) == 50 + len("\n\n<information></information>\n\n")


def test_several_sub_questions(text: LongQA) -> None:
    for place in range(20):
        data = task_of(text, "multi", place).data
        assert " ".join(data["sub_questions"]) == data["question"]
        assert len(data["sub_questions"]) == len(data["parts"]) == len({fact["part"] for fact in data["facts"]}) > 1
        relations = [relation for _, names in data["parts"] for relation in names]
        assert len(relations) == len(set(relations)) == len(data["facts"]) <= 3


def test_half_of_the_sub_questions(text: LongQA) -> None:
    task = next(t for t in text.tasks("train") if [len(names) for _, names in t.data["parts"]] == [1, 1])
    sentence = task.data["reference"].split(". ")[0]
    step = act(text.start(task), f"<answer>{sentence}.</answer>")
    assert step.reward == 0.5
    assert step.info["reward_parts"]["questions"] == 0.5
    assert step.info["reward_parts"]["match"] == 0.0


def test_every_reference_is_right_and_every_damaged_one_is_not(text: LongQA, compact: LongQA) -> None:
    rng = random.Random(0)
    for env in (text, compact):
        tasks = rng.sample([*env.tasks("train"), *env.tasks("test")], 200)
        for task, other in zip(tasks, tasks[1:] + tasks[:1], strict=True):
            record = env.start(task).record
            _, reference = env.shown.asked(record)
            assert env.judged(record, reference).score == 1.0, reference
            lacking = reference.rsplit(" ", 4)[0] if env is compact else ". ".join(reference.split(". ")[:-1])
            foreign = env.shown.asked(env.start(other).record)[1]
            assert env.judged(record, lacking).score < 1.0
            assert env.judged(record, f"{reference} {foreign}").score < 1.0 or task.family == other.family
            assert env.judged(record, foreign).score < 0.7


def test_values_of_other_facts_contradict(text: LongQA) -> None:
    """Birth and founding years, names of spouses and mayors: exchanging two values of a kind is never right."""
    checked = 0
    for task in text.tasks("train")[:300]:
        record = text.start(task).record
        numbers = [fact.values[0] for fact in record.facts if fact.values[0][0].isdigit()]
        if len(numbers) == 2 and numbers[0] != numbers[1]:
            swapped = record.reference.replace(numbers[0], "@").replace(numbers[1], numbers[0]).replace("@", numbers[1])
            assert text.judged(record, swapped).score < 0.5, swapped
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("view", ["text", "compact"])
def test_players(view: str, text: LongQA, compact: LongQA) -> None:
    env = text if view == "text" else compact
    tasks = env.tasks("train")[:150]
    rates = {
        noise: sum(played(env, task, noise, n) >= 1.0 for n, task in enumerate(tasks)) / len(tasks)
        for noise in (0.0, 0.5, None)
    }
    assert rates[0.0] == 1.0
    assert 0.1 <= rates[0.5] <= 0.45
    assert rates[None] < 0.1


def test_a_whole_compact_episode(compact: LongQA) -> None:
    task = task_of(compact, "media")
    episode = compact.start(task)
    record = episode.record
    entity = compact.world.encyclopedia.entities[record.parts[0].subject]
    goal = episode.goal[0].content
    photo = " ".join(goal.split()[-2:])
    assert goal == f"find {' '.join(record.parts[0].relations)} of {photo}"
    assert photo.split()[0] in COMPACT_WORDS
    assert episode.observation == (Message("user", "seen none"),)
    assert shown(act(episode, f"look {photo}")) == f"seen {photo} {entity.short}"
    facts = " ".join(f"{fact.relation} {fact.short}" for fact in entity.facts.values())
    assert shown(act(episode, f"search {entity.short}")) == f"seen {photo} {entity.short} | {entity.short} {facts}"
    wanted = " ".join(f"{name} {entity.facts[name].short}" for name in record.parts[0].relations)
    step = act(episode, f"answer {wanted}")
    assert (step.reward, step.done, shown(step)) == (1.0, True, "done")


@pytest.mark.parametrize("reply", ["", "look", "search", "answer ", "find x", "Search x", "click x"])
def test_compact_replies_outside_the_grammar(reply: str, compact: LongQA) -> None:
    step = act(compact.start(compact.tasks("train")[0]), reply)
    assert (step.parsed, shown(step)) == (False, "seen none")


def test_notes_are_kept_once_and_not_for_ever(compact: LongQA) -> None:
    episode = compact.start(compact.tasks("train")[0])
    names = [entity.short for entity in list(compact.world.encyclopedia.entities.values())[:8]]
    for name in [*names, names[-1]]:
        step = act(episode, f"search {name}")
    notes = shown(step).removeprefix("seen ").split(" | ")
    assert [" ".join(note.split()[:2]) for note in notes] == names[-4:]


def test_splits_and_other_seeds(text: LongQA) -> None:
    facts = require_disjoint(text)
    assert min(split["tasks"] for split in facts.values()) > 100
    kinds = [task.data["type"] for task in text.tasks("test")]
    assert {kinds.count(kind) * 3 // len(kinds) for kind in ("simple", "multi", "media")} <= {0, 1}
    other = replace(text, seed=1)
    assert not {task.data["question"] for task in other.tasks("train")} & {
        t.data["question"] for t in text.tasks("train")
    }
    with pytest.raises(DataError, match="is of another encyclopedia"):
        text.start(other.tasks("train")[0])


def test_every_relation_can_be_asked() -> None:
    assert set(ASKED) == set(RELATIONS)


def test_panels_are_the_same_in_every_process() -> None:
    code = (
        "from agentrl.envs.long_qa import LongQA; from agentrl.types import panel_hash;"
        "e = LongQA(size=1000); print(panel_hash(e.tasks('test')), e.retriever.fingerprint['corpus'])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_building_and_travelling_are_light(text: LongQA) -> None:
    assert set(vars(LongQA())) == set(LongQA.__dataclass_fields__)
    text.tasks("train")
    assert len(pickle.dumps(text)) < 1000
    assert pickle.loads(pickle.dumps(text)) == text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"view": "rich"}, "env.view is 'rich'; expected one of text, compact"),
        ({"judge": "rules"}, "choose one with judge=rules"),
        ({"success": 0.0}, "env.success is 0.0"),
        ({"top_k": 0}, "env.top_k is 0; expected at least 1"),
        ({"data": "x.jsonl"}, "env.corpus is 'bundled', which knows nothing of it"),
        ({"data": "x.jsonl", "corpus": "none", "view": "compact"}, "only the bundled questions have"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LongQA(**settings)
    with pytest.raises(EnvError, match="expert noise is 2"):
        LongQA().expert(2.0, 0)


RECORDS = [
    {
        "id": n,
        "question": f"Who made bridge {n}?",
        "reference": f"Mira Tosk{n} made it in 18{n:02}.",
        "family": f"f{n // 2}",
    }
    for n in range(20)
]


def written(path: Path, records: list[Any]) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", encoding="utf-8")
    return path


def test_a_users_records_and_corpus(tmp_path: Path) -> None:
    data = written(tmp_path / "questions.jsonl", RECORDS)
    lines = [{"id": str(n), "contents": f'"Bridge {n}"\n{r["reference"]}'} for n, r in enumerate(RECORDS)]
    corpus = written(tmp_path / "corpus.jsonl", lines)
    env = LongQA(data=str(data), corpus=str(corpus), index=str(tmp_path / "index"))
    facts = require_disjoint(env)
    assert {split: fact["tasks"] for split, fact in facts.items()} == {"train": 14, "val": 2, "test": 4}
    task = env.tasks("test")[0]
    episode = env.start(task)
    assert task.data["reference"] in shown(act(episode, f"<search>{task.data['question']}</search>"))
    assert act(episode, f"<answer>{task.data['reference']}</answer>").reward == 1.0
    assert played(env, task, 0.0, 0) == 1.0
    assert act(env.start(task), "<answer>Ori Venn made it.</answer>").reward == 0.0
    closed = replace(env, corpus="none")
    assert NOTHING in shown(act(closed.start(task), "<search>bridge</search>"))
    assert closed.fingerprint["corpus"] == "none"


def test_own_splits_facts_and_pictures(tmp_path: Path) -> None:
    url = "https://pictures.example/1.jpg"
    records = [
        {
            "id": split,
            "question": f"What is at {url}? And when was it made?",
            "reference": "A vase. It was made in 1900.",
            "type": "media",
            "media": {url: "A vase."},
            "sub_questions": [f"What is at {url}?", "When was it made?"],
            "facts": [{"values": ["vase", "pot"]}, {"values": ["1900"], "cues": ["made"], "part": 1}],
            "split": split,
        }
        for split in ("train", "val", "test")
    ]
    env = LongQA(data=str(written(tmp_path / "own.jsonl", records)), corpus="none")
    assert [env.tasks(split)[0].id for split in ("train", "val", "test")] == [
        "long_qa/media/train",
        "long_qa/media/val",
        "long_qa/media/test",
    ]
    episode = env.start(env.tasks("val")[0])
    assert "A vase." in shown(act(episode, f"<view>{url}</view>"))
    assert act(episode, "<answer>It is a pot made in 1900.</answer>").reward == 1.0


def test_the_id_of_a_task_tells_its_kind_and_the_last_step_what_was_answered() -> None:
    env = LongQA(size=300)
    assert all(task.id.split("/")[:2] == ["long_qa", task.data["type"]] for task in env.tasks("train"))
    task = env.tasks("train")[0]
    info = act(env.start(task), "<answer>It is unknown.</answer>").info
    assert (info["answer"], info["golds"]) == ("It is unknown.", [task.data["reference"]])


GOOD = {"id": 1, "question": "q", "reference": "r"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no record"),
        (["{"], "line 1: not JSON"),
        (["[" * 10_000], "line 1: not JSON"),
        ([[1]], "expected an object with 'id'"),
        ([{"question": "q", "reference": "r"}], "expected an object with 'id'"),
        ([{"id": 1, "question": "", "reference": "r"}], "line 1: 'question' is ''; expected a text"),
        ([{"id": 1, "question": "q"}], "'reference' is None"),
        ([GOOD | {"answer": "x"}], "unknown key 'answer'; known: facts, family"),
        ([GOOD, GOOD], "line 2: the id '1' occurs twice"),
        ([GOOD | {"type": "audio"}], "'type' is 'audio'; expected one of simple, multi, media"),
        ([GOOD | {"sub_questions": "x"}], "'sub_questions' is 'x'; expected a list"),
        ([GOOD | {"media": ["x"]}], "'media' is"),
        ([GOOD | {"facts": [{"values": []}]}], "line 1: a fact of a rubric is"),
        ([GOOD | {"facts": 3}], "line 1: "),
        ([GOOD | {"split": "dev"}], "'split' is 'dev'"),
        ([GOOD], "leaves no task for train, val"),
    ],
)
def test_broken_records_are_told_by_line(lines: list[Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "broken.jsonl", lines)
    with pytest.raises(DataError, match=words):
        LongQA(data=str(path), corpus="none").tasks("train")


def test_a_missing_file() -> None:
    with pytest.raises(DataError, match=r"env\.data=nowhere\.jsonl: cannot be read"):
        LongQA(data="nowhere.jsonl", corpus="none").tasks("train")


def test_a_model_as_judge(text: LongQA) -> None:
    cfg = compose("env_tool", ["env=long_qa", "judge=openai", "judge.cache=''", "judge.retries=0", "env.size=1000"])
    env = build(cfg.env)
    assert isinstance(env.judge, OpenAI)
    assert env.judge.grammar is Grammar.match
    with serving(lambda *_: says("Match")) as endpoint:
        judged = replace(text, judge=replace(env.judge, base_url=endpoint.url))
        step = act(judged.start(judged.tasks("train")[0]), "<answer>Anything.</answer>")
        assert (step.reward, step.done) == (1.0, True)
        assert judged.fingerprint["judge"]["judge"] == "openai"
    with serving(lambda *_: (503, {}, b"")) as endpoint:
        judged = replace(text, judge=replace(env.judge, base_url=endpoint.url))
        episode = judged.start(judged.tasks("train")[0])
        with pytest.raises(JudgeError):  # the rollout makes it an episode without credit, never a reward of 0
            act(episode, "<answer>Anything.</answer>")


def test_the_default_judge_is_built_from_the_config() -> None:
    env = build(compose("env_tool", ["env=long_qa", "judge.invention=0.5"]).env)
    assert env.judge == Rules(invention=0.5)
    numbers = {"contradiction": 0.5, "invention": 0.5, "overlap": 0.6}
    assert env.fingerprint["judge"] == {"judge": "rules-1", **numbers, "match_only": False}


def test_a_wrong_judge_is_told_once() -> None:
    cfg = compose("env_tool", ["env=long_qa", "judge.invention=2", "env.top_k=0"])
    with pytest.raises(ConfigError, match=r"^config: 1 problem:\n  env\.judge: judge\.invention: got 2, expected"):
        build(cfg.env)
    cfg.env.judge = "${judge}"
    with pytest.raises(
        ConfigError, match=r"^config: 1 problem:\n  judge\.invention: got 2, expected a number from 0 to 1$"
    ):
        check(cfg)
    cfg.env.judge = "rules"
    with pytest.raises(ConfigError, match=r"env\.judge is 'rules'; choose one with judge=rules or judge=openai"):
        build(cfg.env)


def test_a_record_survives_the_round_trip(text: LongQA) -> None:
    for task in text.tasks("val")[:20]:
        assert Record.of(json.loads(json.dumps(task.data)), "x").to_data() == task.data


def test_bench(compact: LongQA) -> None:
    got = compact.bench(0.2)
    assert got["steps_per_s"] > 0
    assert got["verdicts_per_s"] > 0
