"""Search QA: Search-R1's protocol and scores exactly, the bundled questions, files of questions, hostile replies."""

from __future__ import annotations

import gzip
import json
import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.envs import tags
from agentrl.envs.check import check_env
from agentrl.envs.search_qa import SearchQA
from agentrl.envs.search_qa.bench import bench
from agentrl.envs.search_qa.questions import read_questions
from agentrl.envs.search_qa.replay import replay
from agentrl.envs.search_qa.scoring import Scorer, extract
from agentrl.envs.search_qa.views import asked
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.panel import require_disjoint
from agentrl.retrieval import Document, Hit
from agentrl.types import Message, Task

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "search_qa"
INVALID = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"shared data not found: {DATA.name}/ beside the repository")
    return DATA


@pytest.fixture(scope="module")
def env() -> SearchQA:
    return SearchQA(view="text", entities=500)


def say(text: str) -> Message:
    return Message("assistant", text)


class Shelf:
    """A retriever of two fixed documents that remembers what it was asked."""

    fingerprint: dict[str, Any] = {"retriever": "shelf"}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def search(self, queries: list[str], k: int) -> list[tuple[Hit, ...]]:
        self.asked += [(query, k) for query in queries]
        found = (Hit(Document("a", '"Ada"\nfirst line\nsecond  '), 2.0), Hit(Document("b", '"Bo"\n'), 1.0))
        return [found[:k] for _ in queries]


TASK = Task("t", "train", "f", {"question": " who is Ada", "answers": ["Ada Lovelace", "Lovelace"], "support": ["Ada"]})


def shelf_env(**fields: Any) -> tuple[SearchQA, Shelf]:
    env, shelf = SearchQA(data="unused.jsonl", **fields), Shelf()
    env.__dict__["store"] = shelf
    return env, shelf


# --- the tags


@pytest.mark.parametrize(
    ("reply", "kept", "action"),
    [
        ("<think>x</think><search> q </search> more", "<think>x</think><search> q </search>", ("search", "q")),
        ("<answer>a</answer> b <search>q</search> c", "<answer>a</answer> b <search>q</search>", ("answer", "a")),
        ("<answer>a</answer><answer>b</answer>", "<answer>a</answer>", ("answer", "a")),
        ("<answer>never closed <search>q</search>", "<answer>never closed <search>q</search>", ("search", "q")),
        ("<search>two\nlines</search>", "<search>two\nlines</search>", ("search", "two\nlines")),
        ("<search></search>", "<search></search>", ("search", "")),
        ("<search>a</answer>", "<search>a</answer>", None),
        ("</search><search>q</search>", "</search>", None),
        ("nothing", "nothing", None),
        ("", "", None),
    ],
)
def test_a_reply_is_cut_and_read(reply: str, kept: str, action: tuple[str, str] | None) -> None:
    assert tags.cut(reply) == kept
    assert tags.first(kept) == action


def test_hostile_tags_take_no_longer_than_others() -> None:
    """A search for pairs that starts anew at every opening tag would take hours here."""
    env, _ = shelf_env(max_turns=2)
    episode = env.start(TASK)
    assert not episode.step(say("<answer>" * 200_000)).parsed
    assert episode.step(say("<search>" * 200_000 + "</answer>")).info["answer"].startswith("<answer>")


def test_other_names_can_be_read() -> None:
    names = ("search", "view", "answer")
    assert tags.first(tags.cut("<view>u</view> <answer>a</answer>", names), names) == ("view", "u")


def test_observations_are_those_of_the_original() -> None:
    env, shelf = shelf_env()
    episode = env.start(TASK)
    step = episode.step(say("<think>hm</think><search> ada </search> and more"))
    assert step.observation == (
        Message(
            "user",
            '\n\n<information>Doc 1(Title: "Ada") first line\nsecond  \nDoc 2(Title: "Bo")</information>\n\n',
        ),
    )
    assert (step.reward, step.done, step.parsed) == (0.0, False, True)
    assert step.info == {"action": "search", "query": "ada", "documents": ["a", "b"]}
    assert shelf.asked == [("ada", 3)]
    step = episode.step(say("no tag"))
    assert (step.observation[0].content, step.parsed, step.done) == (INVALID, False, False)
    step = episode.step(say("so <answer> the lovelace! </answer> indeed"))
    assert (step.observation, step.reward, step.done) == ((), 1.0, True)
    assert step.info["reward_parts"] == {"answered": 1.0, "em": 1.0, "f1": 1.0, "subem": 1.0}


def test_the_paper_words_a_malformed_reply_differently() -> None:
    env, _ = shelf_env(malformed="paper")
    step = env.start(TASK).step(say("<search>open"))
    assert step.observation[0].content == "\nMy action is not correct. Let me rethink.\n"


def test_the_prompt_asks_the_question_with_a_mark() -> None:
    env, _ = shelf_env()
    (prompt,) = env.start(TASK).goal
    assert prompt.role == "user"
    assert prompt.content.endswith("<answer> Beijing </answer>. Question: who is Ada?\n")
    assert asked("why? ") == "why?"


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Q {question} {other}", encoding="utf-8")
    env, _ = shelf_env(prompt=str(tmp_path / "p.txt"))
    assert env.start(TASK).goal[0].content == "Q who is Ada? {other}"
    own, ours = (SearchQA(prompt=prompt, entities=200) for prompt in (str(tmp_path / "p.txt"), "bundled"))
    assert own.fingerprint["prompt"] != ours.fingerprint["prompt"]
    (tmp_path / "p.txt").write_text("no place", encoding="utf-8")
    for path in (tmp_path / "p.txt", tmp_path / "none.txt"):
        with pytest.raises(DataError, match=r"env\.prompt="):
            _ = shelf_env(prompt=str(path))[0].start(TASK).goal


def test_the_last_reply_is_not_searched() -> None:
    env, shelf = shelf_env(max_turns=3)
    episode = env.start(TASK)
    assert not episode.step(say("<search>one</search>")).done
    assert not episode.step(say("oops")).done
    step = episode.step(say("<search>two</search>"))
    assert (step.done, step.reward, step.observation) == (True, 0.0, ())
    assert shelf.asked == [("one", 3)]
    after = episode.step(say("<answer>Lovelace</answer>"))
    assert (after.done, after.reward, after.parsed) == (True, 0.0, False)


def test_the_two_answer_rule_and_its_repair() -> None:
    """The prompt holds two answer tags, so a play that never answers is scored on the prompt's example."""
    task = replace(TASK, data={**TASK.data, "answers": ["Beijing"]})
    for compat, reward in ((True, 1.0), (False, 0.0)):
        env, _ = shelf_env(max_turns=1, compat=compat)
        step = env.start(task).step(say("I do not know"))
        assert (step.reward, step.parsed) == (reward, False)
    env, _ = shelf_env(max_turns=2)
    episode = env.start(TASK)
    episode.step(say("<answer> Ada <search>q</search>"))
    assert episode.step(say("Lovelace </answer>")).reward == 0.0  # the text between the tags is the whole exchange


def test_a_tag_across_turns_is_an_answer_only_to_the_original(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("{question} <answer>x</answer>", encoding="utf-8")
    for compat, answer in ((True, "Ada\nMy action is not correct. Let me rethink.\nB"), (False, None)):
        env, _ = shelf_env(max_turns=2, compat=compat, malformed="paper", prompt=str(tmp_path / "p.txt"))
        episode = env.start(TASK)
        episode.step(say("<answer>Ada"))
        assert episode.step(say("B</answer>")).info["answer"] == answer


def test_the_strict_rule_of_verl_agent() -> None:
    for reply in ("<search>a</search><answer>b</answer>", "<search>a</search><search>b</search>"):
        assert shelf_env()[0].start(TASK).step(say(reply)).parsed
        assert not shelf_env(strict=True)[0].start(TASK).step(say(reply)).parsed
    assert shelf_env(strict=True)[0].start(TASK).step(say("<think>a</think><search>b</search>")).parsed


def test_observations_can_be_cut() -> None:
    cut = shelf_env(observation_words=4)[0].start(TASK).step(say("<search>a</search>")).observation[0].content
    assert cut == '\n\n<information>Doc 1(Title: "Ada") first'
    env, _ = shelf_env(observation_words=4, compat=False)
    mended = env.start(TASK).step(say("<search>a</search>")).observation[0].content
    assert mended == '\n\n<information>Doc 1(Title: "Ada") first</information>\n\n'
    whole = shelf_env(observation_words=400)[0].start(TASK).step(say("<search>a</search>")).observation[0].content
    assert whole.endswith("</information>\n\n")


def test_the_id_of_a_bundled_task_tells_its_kind(env: SearchQA) -> None:
    for task in env.tasks("train"):
        kind, hops = task.data["kind"], len(task.data["hops"])
        assert task.id.split("/")[:2] == ["bundled", f"{hops}-hop" if kind == "chain" else kind]
    assert len({task.id for task in env.tasks("train")}) == len(env.tasks("train"))


def test_the_last_step_says_what_was_answered_and_what_was_right() -> None:
    episode = shelf_env(view="text", compat=False)[0].start(TASK)
    assert "golds" not in episode.step(say("<search>Ada</search>")).info
    info = episode.step(say("<answer> Lovelace </answer>")).info
    assert (info["answer"], info["golds"]) == ("Lovelace", ["Ada Lovelace", "Lovelace"])
    mute = shelf_env(view="text", compat=False, max_turns=1)[0].start(TASK).step(say("<search>Ada</search>"))
    assert mute.done
    assert (mute.info["answer"], mute.info["golds"]) == (None, ["Ada Lovelace", "Lovelace"])


# --- scores


def test_the_last_answer_of_a_text() -> None:
    assert extract("<answer>1</answer>") is None
    assert extract("<answer>1</answer>", 1) == "1"
    assert extract("<answer>1</answer> <answer>\n2 </answer>") == "2"


def test_rewards_stay_below_one_without_an_exact_match() -> None:
    for reward in ("f1", "bleu"):
        value, parts = Scorer(reward, 0.0)("france paris", ["paris france"])
        assert value < 1.0
        assert parts["em"] == 0.0
        assert Scorer(reward, 0.0)("paris", ["Paris"])[0] == 1.0
    assert Scorer("f1", 0.2)("rome", ["paris"])[0] == 0.2
    assert Scorer("em", 0.1)("rome", ["paris"])[0] == 0.1
    assert Scorer("em", 0.1)(None, ["paris"])[0] == 0.0


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_every_measure_lies_in_the_unit_interval(answer: str, golds: list[str]) -> None:
    for reward in ("em", "f1", "bleu"):
        value, parts = Scorer(reward, 0.0)(answer, golds)
        assert 0.0 <= value <= 1.0
        assert (value == 1.0) == (parts["em"] == 1.0)
        assert all(0.0 <= part <= 1.0 for part in parts.values())


def test_recorded_scores_of_the_original(data: Path) -> None:
    result = replay(data / "score_cases.jsonl.gz")
    assert result == {"kind": "scores", "cases": 300, "agree": 300, "first_difference": None}


def test_replay_finds_a_difference_and_refuses_other_files(tmp_path: Path) -> None:
    record = {"id": 7, "solution": "<answer>a</answer><answer>Paris</answer>", "golden_answers": "paris"}
    right = {"extracted": "Paris", "em": 1.0, "em_format_0.1": 1.0, "subem": 1.0, "normalized": "paris"}
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps({**record, **right}) + "\n" + json.dumps({**record, **right, "em": 0.0}) + "\n")
    assert replay(path) == {
        "kind": "scores",
        "cases": 2,
        "agree": 1,
        "first_difference": {"case": 7, "field": "em", "expected": 0.0, "got": 1.0},
    }
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match="line 1: no extracted"):
        replay(path)
    path.write_text("")
    with pytest.raises(DataError, match="holds no record"):
        replay(path)


# --- the bundled questions


def play(env: SearchQA, task: Task, expert: Any) -> tuple[float, int]:
    episode = env.start(task)
    for turn in range(1, env.max_turns + 1):
        step = episode.step(expert(episode))
        if step.done:
            return step.reward, turn
    raise AssertionError("the episode went past its last turn")


def success(env: SearchQA, noise: float, count: int = 100) -> float:
    expert = env.expert(noise, 0)
    return sum(play(env, task, expert)[0] == 1.0 for task in env.tasks("test")[:count]) / count


@pytest.mark.parametrize("view", ["text", "compact"])
def test_the_contract(view: str) -> None:
    env = SearchQA(view=view, entities=500)
    assert check_env(env, tasks=5) == []
    facts = require_disjoint(env)
    assert facts["train"]["tasks"] > facts["test"]["tasks"] > 20


def test_no_entity_is_in_two_splits(env: SearchQA) -> None:
    named = {
        split: {name for task in env.tasks(split) for hop in task.data["hops"] for name in (hop[0], hop[2])}
        for split in ("train", "val", "test")
    }
    regions = {split: {task.family for task in env.tasks(split)} for split in named}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not regions[one] & regions[other]
        assert not {name for name in named[one] & named[other] if name in env.world.entities}


def test_the_expert_knows_its_trade_and_noise_costs_success(env: SearchQA) -> None:
    assert success(env, 0.0) == 1.0
    assert 0.2 < success(env, 0.5) < 0.8
    assert success(env, 1.0) < 0.1
    with pytest.raises(EnvError, match="noise"):
        env.expert(1.5, 0)


def test_equal_experts_play_equally(env: SearchQA) -> None:
    plays = [
        [play(env, task, expert) for task in env.tasks("val")[:30]]
        for expert in (env.expert(0.5, 3), env.expert(0.5, 3))
    ]
    assert plays[0] == plays[1]


def test_gold_passages_are_found_by_the_name_of_their_entity(env: SearchQA) -> None:
    for task in env.tasks("train")[:60]:
        for (subject, _, _), passage in zip(task.data["hops"], task.data["support"], strict=False):
            assert passage in [document.id for document in env.find(subject)]


def test_worlds_of_other_seeds_share_no_task() -> None:
    one, other = (SearchQA(entities=200, seed=seed) for seed in (0, 1))
    assert not {t.data["short"]["question"] for t in one.tasks("train")} & {
        t.data["short"]["question"] for t in other.tasks("train")
    }
    assert one.fingerprint != other.fingerprint


def test_pickling_keeps_the_fields_only(env: SearchQA) -> None:
    env.tasks("train")
    copy = pickle.loads(pickle.dumps(env))
    assert copy == env
    assert "world" not in copy.__dict__
    assert len(pickle.dumps(env)) < 2000


def test_snapshots_go_on_like_the_original(env: SearchQA) -> None:
    task = env.tasks("train")[0]
    episode = env.start(task)
    episode.step(say(episode.actions()[0]))
    state = episode.snapshot()
    copy = env.restore(pickle.loads(pickle.dumps(state)))
    first = [episode.step(say(text)) for text in ("<search>mayor</search>", "x", "<answer>y</answer>")]
    assert [copy.step(say(text)) for text in ("<search>mayor</search>", "x", "<answer>y</answer>")] == first
    assert env.restore(state).snapshot() == state


def test_bad_settings_are_one_sentence() -> None:
    for fields, sentence in (
        ({"reward": "bm"}, "env.reward is 'bm'"),
        ({"hops": 4}, "env.hops is 4"),
        ({"max_turns": 0}, "env.max_turns is 0"),
        ({"retriever": "faiss"}, "expected embedded or a URL"),
        ({"view": "compact", "data": "x.jsonl"}, "shows only the bundled encyclopedia"),
        ({"test_data": "x.jsonl"}, "has its own test split"),
    ):
        with pytest.raises(ConfigError, match=sentence.replace(".", r"\.")):
            SearchQA(**fields)  # type: ignore[arg-type]


ATOMS = [
    "<search>",
    "</search>",
    "<answer>",
    "</answer>",
    "<think>",
    "<information>",
    "x",
    "\n",
    "\x00",
    "\ud800",
    "Doc 1(",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(ATOMS), max_size=8).map("".join), max_size=6), st.booleans(), st.booleans())
def test_any_reply_is_data(env: SearchQA, replies: list[str], strict: bool, compat: bool) -> None:
    variant = replace(env, strict=strict, compat=compat)
    variant.__dict__["store"], variant.__dict__["world"] = env.store, env.world
    episode, ended = variant.start(env.tasks("train")[0]), False
    for number, reply in enumerate(replies, 1):
        step = episode.step(say(reply))
        ended = ended or step.done
        assert 0.0 <= step.reward <= 1.0
        assert step.done == (ended or number >= variant.max_turns)


def test_bench_measures(monkeypatch: pytest.MonkeyPatch, env: SearchQA) -> None:
    monkeypatch.setattr("agentrl.envs.search_qa.bench.PASSAGES", 500)
    result = bench(env, 0.2)
    assert {"queries_per_s", "steps_per_s", "start_s", "rss_mib", "index_s"} <= result.keys()
    assert min(result["queries_per_s"], result["steps_per_s"], result["resets_per_s"]) > 0
    assert result["passages"] == 500


# --- files of questions


def records(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


@pytest.mark.parametrize(
    ("name", "count", "question", "answers"),
    [
        ("hotpotqa_500.jsonl", 500, "In the 1973 NFL season", ["Kauffman Stadium"]),
        ("2wiki_500.jsonl", 500, "Who is Ahmose-Henutemipet's", ["Tetisheri"]),
        ("musique_500.jsonl", 500, "What was the director of Addicted", None),
        ("bamboogle.jsonl", 125, "Who was president", ["james madison"]),
        ("nq_subsample_test.jsonl", 1000, "who told the story", ["Jesus Christ"]),
        ("triviaqa_subsample_test.jsonl", 1000, '"Who wrote', None),
        ("popqa_subsample_test.jsonl", 1000, "Who was the composer", ["Ralph Rainger", "Ralph Reichenthal"]),
        ("flashrag_nq_sample.jsonl", 17, "who got the first", None),
        ("nq_test_full.jsonl.gz", 3610, "when was the last time", ["14 December 1972 UTC", "December 1972"]),
        ("musique_dev_full.jsonl.gz", 2417, "Who is the spouse of the Green", ["Miquette Giraudy"]),
        ("r1searcher_stage_2.jsonl.gz", 8148, "Jonathan Glazer", ["filmmaker"]),
        ("hotpot_dev_v1_simplified.json.gz", 7405, "Were Scott Derrickson", ["yes"]),
        ("hotpot_distractor_100.jsonl.gz", 100, "VIVA Media AG", None),
    ],
)
def test_every_set_is_read_whole(data: Path, name: str, count: int, question: str, answers: list[str] | None) -> None:
    got = list(read_questions(data / name))
    assert len(got) == count
    assert got[0]["question"].startswith(question)
    assert answers is None or got[0]["answers"] == answers
    assert all(record["answers"] for record in got)


def test_the_questions_with_paragraphs_make_a_corpus(data: Path, tmp_path: Path) -> None:
    path = data / "hotpot_distractor_100.jsonl.gz"
    env = SearchQA(data=str(path), index=str(tmp_path), view="auto")
    assert env.view_name == "text"
    titles = {title for record in records(path) for title, _ in record["context"]}
    assert env.store.fingerprint["documents"] == len(titles) == 1000
    assert check_env(env, tasks=3) == []
    expert, tasks = env.expert(0.0, 0), [*env.tasks("train"), *env.tasks("test")]
    assert all(play(env, task, expert)[0] == 1.0 for task in tasks)
    found = [title for task in tasks for title in task.data["support"] if title in [d.title for d in env.find(title)]]
    assert len(found) >= 0.95 * sum(len(task.data["support"]) for task in tasks)


def write(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def some(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"Question number {n}", "answer": f"a{n}"} for n in range(start, start + count)]


def test_files_are_split_by_their_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", *some(300), {"question": "the question NUMBER 3?", "answer": "again"})
    env = SearchQA(data=path, retriever="http://127.0.0.1:1")
    counts = {split: facts["tasks"] for split, facts in require_disjoint(env).items()}
    assert sum(counts.values()) == 300
    assert 200 < counts["train"] < 270
    held = write(tmp_path / "t.jsonl", *some(50, start=280))
    both = SearchQA(data=path, test_data=held, retriever="http://127.0.0.1:1")
    assert [len(both.tasks(split)) for split in ("test",)] == [50]
    assert require_disjoint(both)["train"]["tasks"] > 200


def test_supporting_facts_of_another_shape_are_left_out(tmp_path: Path) -> None:
    record = {"question": "q", "answer": ["a", "b"], "answer_aliases": ["c"], "supporting_facts": {"title": ["t"]}}
    path = Path(write(tmp_path / "q.jsonl", record, {**record, "supporting_facts": [["t", 0], ["t", 1], ["u", 0], 5]}))
    assert [(each["answers"], each["support"]) for each in read_questions(path)] == [
        (["a", "b", "c"], []),
        (["a", "b", "c"], ["t", "u"]),
    ]


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    folder.mkdir()
    write(folder / "one.jsonl", *some(60))
    (folder / "two.json").write_text(json.dumps(some(60, start=60)))
    (folder / "notes.md").write_text("no questions")
    env = SearchQA(data=str(folder), retriever="http://127.0.0.1:1", test=1000, val=1000)
    assert sum(facts["tasks"] for facts in require_disjoint(env).values()) == 120


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    def tasks(path: str) -> Any:
        return SearchQA(data=path, retriever="http://127.0.0.1:1").tasks("train")

    with pytest.raises(DataError, match="line 1: expected question"):
        tasks(write(tmp_path / "a.jsonl", {"query": "x"}))
    with pytest.raises(DataError, match="line 1: not a JSON object"):
        tasks(write(tmp_path / "b.jsonl", 5))
    (tmp_path / "c.jsonl").write_text('{"question": ')
    with pytest.raises(DataError, match="line 1: not a JSON object"):
        tasks(str(tmp_path / "c.jsonl"))
    with pytest.raises(DataError, match="there is no such file"):
        tasks(str(tmp_path / "none"))
    env = SearchQA(data=write(tmp_path / "d.jsonl", *some(5)), index=str(tmp_path / "index"))
    with pytest.raises(DataError, match="come without paragraphs"):
        env.find("x")


def test_a_failing_server_is_the_episodes_error(tmp_path: Path) -> None:
    env = SearchQA(data=write(tmp_path / "q.jsonl", *some(30)), retriever="http://127.0.0.1:1", retries=0)
    with pytest.raises(EnvError, match="is the server up"):
        env.start(env.tasks("train")[0]).step(say("<search>x</search>"))


def test_a_corpus_of_ones_own(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c.jsonl", {"id": "1", "contents": '"Moon"\nThe moon is far.'})
    questions = write(tmp_path / "q.jsonl", *some(30))
    env = SearchQA(data=questions, corpus=corpus, index=str(tmp_path / "index"))
    step = env.start(env.tasks("train")[0]).step(say("<search>moon</search>"))
    assert step.observation[0].content == '\n\n<information>Doc 1(Title: "Moon") The moon is far.</information>\n\n'


def test_random_play_rarely_succeeds() -> None:
    for view in ("text", "compact"):
        env, rng = SearchQA(view=view, entities=1000), random.Random(0)
        wins = sum(play(env, t, lambda e: say(rng.choice(e.actions())))[0] == 1.0 for t in env.tasks("test")[:150])  # noqa: B023
        assert wins < 15
