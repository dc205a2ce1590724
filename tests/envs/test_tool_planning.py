"""The planning world: queries, calls, both views, the expert, and what a play leaves for rewards and summaries."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.chat import Chat, Window
from agentrl.completeness import calls_of, scores
from agentrl.envs.check import check_env
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.envs.tool_planning.compact import COMPACT_WORDS
from agentrl.envs.tool_planning.episode import MOST_CALLS, PlanningEpisode
from agentrl.envs.tool_planning.schemas import TOOLS, problem
from agentrl.envs.tool_planning.transcript import transcript
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.panel import require_disjoint
from agentrl.types import Message, Stop, Task, ToolCall, Trajectory, Turn, panel_hash

SMALL = {"size": 500, "per_region": 12}


@cache
def env(view: str = "text", **changes: Any) -> ToolPlanning:
    return ToolPlanning(view=view, **{**SMALL, **changes})


def tag(name: str, **arguments: Any) -> Message:
    return Message("assistant", f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>")


def play(world: ToolPlanning, task: Task, noise: float = 0.0, seed: int = 0) -> Trajectory:
    expert, episode, turns = world.expert(noise, seed), world.start(task), []
    total, stop = 0.0, Stop.max_turns
    for _ in range(world.max_turns):
        action = expert(episode)
        step = episode.step(action)
        turns.append(Turn((), (), (), action, step.observation, step.reward, step.parsed, info=step.info))
        total += step.reward
        if step.done:
            stop = Stop.done
            break
    return Trajectory(task, 0, tuple(turns), stop, total, total >= 1.0)


def success(world: ToolPlanning, noise: float, count: int = 150) -> float:
    tasks = world.tasks("train")[:count]
    return sum(play(world, task, noise, seed).success for seed, task in enumerate(tasks)) / len(tasks)


@pytest.mark.parametrize("view", ["text", "compact"])
def test_the_contract_is_kept(view: str) -> None:
    assert check_env(env(view), tasks=6) == []
    require_disjoint(env(view))


@pytest.mark.parametrize("view", ["text", "compact"])
def test_a_careful_expert_succeeds_and_a_hasty_one_seldom(view: str) -> None:
    assert success(env(view), 0.0) == 1.0
    assert 0.1 <= success(env(view), 0.5) <= 0.4


@pytest.mark.parametrize("view", ["text", "compact"])
def test_random_calls_seldom_succeed(view: str) -> None:
    rng, wins = random.Random(0), 0
    for task in env(view).tasks("train")[:100]:
        episode = env(view).start(task)
        for _ in range(8):
            step = episode.step(Message("assistant", rng.choice(list(episode.actions()))))
            wins += step.reward >= 1.0
            if step.done:
                break
    assert wins < 10


def test_normal_and_hard_queries() -> None:
    needed = {"normal": (2, 3), "hard": (4, 6)}
    for level, (least, most) in needed.items():
        tasks = env(difficulty=level).tasks("train")
        counts = {len(task.data["requirements"]) for task in tasks}
        assert min(counts) >= least
        assert max(counts) <= most
        assert {task.data["level"] for task in tasks} == {level}
    hard, normal = env(difficulty="hard").tasks("train")[0], env(difficulty="normal").tasks("train")[0]
    assert set(hard.data["tools"]) == set(TOOLS)
    assert len(normal.data["tools"]) < len(TOOLS)


def test_worlds_of_other_seeds_ask_other_things_and_views_ask_the_same() -> None:
    queries = {seed: {t.data["query"] for t in env(seed=seed).tasks("train")} for seed in (0, 1)}
    assert not queries[0] & queries[1]
    assert panel_hash(env("compact").tasks("test")) == panel_hash(env("text").tasks("test"))


def test_the_panels_are_the_same_in_every_process() -> None:
    program = (
        "from agentrl.envs.tool_planning import ToolPlanning\nfrom agentrl.types import panel_hash\n"
        "env = ToolPlanning(view='text', size=500, per_region=12)\nprint(panel_hash(env.tasks('test')))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert hashes == {panel_hash(env().tasks("test"))}


def test_one_query_by_hand() -> None:
    """The difference of two cities' values: one look-up, two readings, one computation; then the answer."""
    world = env()
    task = next(
        t
        for t in world.tasks("train")
        if [r["call"]["tool"] for r in t.data["requirements"]] == ["lookup", "weather", "weather", "calculate"]
    )
    first, second, third, _ = (r["call"]["arguments"] for r in task.data["requirements"])
    episode = world.start(task)
    assert episode.observation == (Message("user", task.data["query"]),)
    found = episode.step(tag("lookup", **first))
    city = json.loads(found.observation[0].content)["value"]
    assert found.observation[0].role == "tool"
    assert (found.info["matched"], found.info["needed"], found.parsed) == (1, 4, True)
    named = next(a["city"] for a in (second, third) if isinstance(a["city"], str))
    both = Message("assistant", tag("weather", city=city).content + tag("weather", city=named.upper()).content)
    read = episode.step(both)
    one, two = (json.loads(m.content)["celsius"] for m in read.observation)
    assert read.info["matched"] == 3
    before = pickle.loads(pickle.dumps(episode.snapshot()))
    wrong = episode.step(tag("calculate", expression=f"{one} + {two} + 1"))
    assert wrong.info["matched"] == 3
    done = episode.step(Message("assistant", "Enough. <answer>"))
    assert (done.reward, done.done) == (0.0, True)
    assert done.info["reward_parts"] == {"loose": 0.0, "strict": 0.0, "partial": 0.75}
    again = world.restore(before)
    again.step(tag("code", source=f"print({two} - {one})"))
    assert again.step(Message("assistant", "<answer>")).reward == 1.0


def test_what_is_not_parsed_changes_nothing() -> None:
    episode = env().start(env().tasks("train")[0])
    good = tag("news", topic="x").content
    for text in (
        "",
        "hello",
        "<tool_call>{",
        f"{good}<tool_call>[]</tool_call>",
        f"{good}<answer>",
        "<answer><tool_call>",
    ):
        step = episode.step(Message("assistant", text))
        assert (step.parsed, step.done, step.reward, step.info["calls"]) == (False, False, 0.0, [])
        assert step.observation[0].role == "user"
    assert episode.state.calls == ()


def test_calls_that_fail_are_told_recorded_and_counted() -> None:
    task = env(difficulty="hard").tasks("train")[0]
    episode = env(difficulty="hard").start(task)
    for name, arguments, why in [
        ("teleport", {}, "there is no tool 'teleport'"),
        ("weather", {}, "argument 'city' is missing"),
        ("weather", {"city": 3}, "expected string"),
        ("weather", {"city": "Nowhere"}, "no city is called 'Nowhere'"),
        ("weather", {"city": "x", "day": 1}, "there is no argument 'day'"),
        ("lookup", {"entity": "x", "relation": "colour"}, "expected one of"),
        ("convert", {"value": True, "source": "miles", "target": "kilometres"}, "expected number"),
        ("convert", {"value": 1, "source": "miles", "target": "celsius"}, "miles cannot become celsius"),
        ("convert", {"value": 10**400, "source": "miles", "target": "kilometres"}, "too large"),
        ("calculate", {"expression": "1 +"}, "no arithmetic expression"),
        ("code", {"source": "import os"}, "not allowed"),
    ]:
        step = episode.step(tag(name, **arguments))
        assert why in json.loads(step.observation[0].content)["error"]
        assert (step.info["invalid"], step.parsed) == (1, True)
        assert not step.info["calls"][0]["ok"]
    most = episode.step(Message("assistant", tag("news", topic="x").content * MOST_CALLS))
    assert (most.info["invalid"], most.info["repeated"]) == (0, MOST_CALLS - 1)
    many = episode.step(Message("assistant", tag("news", topic="x").content * (MOST_CALLS + 1)))
    assert (many.parsed, many.info["calls"], many.info["malformed"]) == (False, [], MOST_CALLS + 1)


def test_repeats_are_counted_across_turns() -> None:
    episode = env(difficulty="hard").start(env(difficulty="hard").tasks("train")[0])
    calls = [tag("news", topic="a"), tag("news", topic="a"), tag("news", topic="b"), tag("news", topic="a")]
    assert [episode.step(call).info["repeated"] for call in calls] == [0, 1, 0, 0]


def test_tools_that_are_not_offered_are_not_there() -> None:
    task = env(difficulty="normal").tasks("train")[0]
    episode = env(difficulty="normal").start(task)
    offered = [tool["function"]["name"] for tool in episode.tools]
    assert offered == list(task.data["tools"])
    missing = next(tool for tool in TOOLS if tool not in offered)
    assert "there is no tool" in episode.step(tag(missing)).observation[0].content
    assert env("compact").start(task).tools == ()


def test_reading_an_article_is_as_good_as_a_look_up() -> None:
    task = next(t for t in env().tasks("train") if t.data["requirements"][0]["compact"][:2] == ["lookup", "capital"])
    country = task.data["requirements"][0]["call"]["arguments"]["entity"]
    episode = env().start(task)
    assert episode.step(tag("search", query=f"capital of {country}")).info["matched"] == 1


@pytest.mark.parametrize(("score", "worth"), [("auto", 0.0), ("loose", 0.0), ("strict", 0.0), ("partial", 0.5)])
def test_scores(score: str, worth: float) -> None:
    task = next(t for t in env().tasks("train") if len(t.data["requirements"]) == 2)
    episode = env(score=score).start(task)
    expert = env().expert(0.0, 0)
    episode.step(expert(episode))
    assert episode.step(Message("assistant", "<answer>")).reward == worth
    full = env(score=score).start(task)
    full.step(tag("news", topic="x"))
    for _ in range(2):
        full.step(expert(full))
    assert full.step(Message("assistant", "<answer>")).reward == (score != "strict")


def test_a_play_tells_its_calls_and_its_transcript() -> None:
    task = env().tasks("train")[0]
    record = play(env(), task)
    assert scores(task, calls_of(record)).strict
    json.dumps([dict(turn.info) for turn in record.turns])
    told = transcript(record)
    assert told.startswith(f"Query: {task.data['query']}\nCall 1: ")
    assert told.count("\nResult ") == len(task.data["requirements"])
    assert record.turns[-1].observation == (Message("user", told),)


@settings(max_examples=60, deadline=None)
@given(
    index=st.integers(0, 99),
    calls=st.lists(
        st.builds(
            ToolCall,
            st.sampled_from([*sorted(set(TOOLS) - {"code"}), "odd"]),
            st.dictionaries(
                st.sampled_from(["city", "query", "top", "entity", "relation", "expression", "value", "source",
                                 "target", "amount", "destination", "text", "language", "person", "body", "topic"]),
                st.text(max_size=9) | st.integers() | st.booleans() | st.none() | st.lists(st.integers(), max_size=2)
                | st.sampled_from(["celsius", "fahrenheit", "marks", "crowns", "Voric", "capital", "9**9"]),
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=4,
    ),
)  # fmt: skip
def test_any_call_is_answered(index: int, calls: list[ToolCall]) -> None:
    episode = env(difficulty="hard").start(env(difficulty="hard").tasks("train")[index])
    step = episode.step(Message("assistant", "", tuple(calls)))
    assert len(step.observation) == len(calls)
    assert all(isinstance(json.loads(message.content), dict) for message in step.observation)


WORDS = [
    "call", "answer", "weather", "lookup", "capital", "item1", "item2", "item9", "subtract", "add", "convert", "email",
    "currency", "distance", "translate", "calendar", "news", "stock", "search", "hotel", "time", "population", "|", ",",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(
        st.sampled_from(WORDS)
        | st.text(max_size=5),
        max_size=8,
    ).map(" ".join),
)  # fmt: skip
def test_any_compact_action_is_answered(index: int, text: str) -> None:
    episode = env("compact").start(env("compact").tasks("train")[index])
    step = episode.step(Message("assistant", text))
    assert step.parsed or not step.info["calls"]


@cache
def tiny() -> Chat:
    return Chat.load("bundled:tiny")


def test_the_compact_view_is_short_and_of_known_words() -> None:
    """Every word is one token of the bundled tokenizer, or one of the few words that are listed as new."""
    encode = tiny().tokenizer.encode
    lengths, words, starts = [], set(), set()
    for seed, task in enumerate(env("compact").tasks("train")[:80]):
        expert, episode = env("compact").expert(0.3, seed), env("compact").start(task)
        observation = episode.observation
        for _ in range(env("compact").max_turns):
            action = expert(episode)
            for message in (*episode.goal, *observation, action):
                first, *rest = message.content.split(" ")
                starts.add(first)
                words.update(rest)
            lengths.append(len(Window(0).prompt(tiny(), episode.goal, observation, [])))
            step = episode.step(action)
            observation = step.observation
            assert step.parsed
            if step.done:
                break
    assert {word for word in words if len(encode(" " + word)) > 1} <= set(COMPACT_WORDS)
    assert {word for word in starts if len(encode(word)) > 1} <= set(COMPACT_WORDS)
    assert len(COMPACT_WORDS) <= 14
    assert max(lengths) <= 160


@pytest.mark.parametrize(
    ("text", "parsed", "ok"),
    [
        ("call weather", False, False),
        ("weather bamboo rice", False, False),
        ("call fly bamboo rice", False, False),
        ("call lookup colour bamboo rice", False, False),
        ("", False, False),
        ("answer now", False, False),
        ("call weather item1", True, False),
        ("call subtract item1 item2", True, False),
        ("call weather no where", True, False),
        ("call news no where", True, True),
    ],
)
def test_compact_grammar(text: str, parsed: bool, ok: bool) -> None:
    world = env("compact", difficulty="hard")
    episode = world.start(world.tasks("train")[0])
    step = episode.step(Message("assistant", text))
    assert step.parsed is parsed
    assert step.observation[0].content.startswith("error") is not ok


def test_compact_results_have_labels_that_calls_can_use() -> None:
    world = env("compact")
    task = next(t for t in world.tasks("train") if t.data["short"].startswith("want convert weather capital of"))
    country = task.data["names"][0][2]
    episode = world.start(task)
    assert episode.observation == (Message("user", "done none"),)
    shown = episode.step(Message("assistant", f"call lookup capital {country}")).observation[0].content
    assert shown.startswith(f"item1 lookup capital {country} is ")
    city = shown.split(" is ")[1]
    shown = episode.step(Message("assistant", "call weather item1")).observation[0].content
    assert f"| item2 weather {city} is " in shown
    again = episode.step(Message("assistant", "call weather item1")).observation[0].content
    assert again == shown
    episode.step(Message("assistant", "call convert item2"))
    assert episode.step(Message("assistant", "answer")).reward == 1.0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"view": "odd"}, r"env\.view is 'odd'"),
        ({"difficulty": "easy"}, r"env\.difficulty"),
        ({"score": "best"}, r"env\.score"),
        ({"max_turns": 0}, r"env\.max_turns is 0"),
        ({"code_memory_mib": 1}, r"env\.code_memory_mib"),
        ({"view": "compact", "data": "folder"}, "only the bundled world has a compact view"),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ToolPlanning(**changes)


def test_what_does_not_belong_here_is_refused() -> None:
    with pytest.raises(DataError, match="names no requirements"):
        env().start(Task("x", "train", "y"))
    with pytest.raises(EnvError, match="noise is 2"):
        env().expert(2.0, 0)
    with pytest.raises(DataError, match="leave no"):
        ToolPlanning(size=1, view="text").tasks("val"), ToolPlanning(size=1, view="text").tasks("test")


def test_only_fields_travel() -> None:
    world = ToolPlanning(**SMALL, view="text")
    empty = len(pickle.dumps(world))
    first = play(world, world.tasks("train")[0])
    twin = pickle.loads(pickle.dumps(world))
    assert len(pickle.dumps(world)) == empty
    assert play(twin, twin.tasks("train")[0]) == first
    assert twin.fingerprint == world.fingerprint
    json.dumps(world.fingerprint)
    world.close()
    world.close()


def test_schemas_are_checked() -> None:
    schema = {
        "properties": {"n": {"type": "integer"}, "l": {"type": "array", "items": {"type": "string"}}},
        "required": ["n"],
    }
    assert problem(schema, {"n": 1, "l": ["a"]}) is None
    for arguments in (
        {},
        {"n": "1"},
        {"n": True},
        {"n": 1.5},
        {"n": 1, "l": [1]},
        {"n": 1, "l": "a"},
        {"n": 1, "x": 1},
    ):
        assert problem(schema, arguments)


def test_bench_measures() -> None:
    found = env("compact").bench(0.3)
    assert found["steps_per_s"] > 0
    assert found["code_calls_per_s"] > 0


def test_an_episode_is_what_the_protocol_says() -> None:
    assert isinstance(env().start(env().tasks("train")[0]), PlanningEpisode)
