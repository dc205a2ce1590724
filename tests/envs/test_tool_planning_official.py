"""BFCL and NESTFUL: every gold answer is complete, every mutated one is not."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agentrl.completeness import Call, match
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.envs.tool_planning.episode import PlanningEpisode
from agentrl.errors import ConfigError, DataError
from agentrl.panel import require_disjoint
from agentrl.types import Message, Task, ToolCall

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "tool_planning"
COUNTS = {
    "bfcl": {"simple_python": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200, "irrelevance": 240,
             "multi_turn": 200},
    "nestful": {"executable": 85, "non-executable-glaive": 169, "non-executable-sgd": 46},
}  # fmt: skip


@cache
def env(name: str) -> ToolPlanning:
    return ToolPlanning(data=str(SHARED / name), view="text", val=10**6, test=10**6)


@cache
def tasks(name: str) -> Sequence[Task]:
    if not (SHARED / name).is_dir():
        pytest.skip(f"shared data not found: tool_planning/{name}/ beside the repository")
    return [task for split in ("train", "val", "test") for task in env(name).tasks(split)]


def play(name: str, task: Task) -> tuple[float, PlanningEpisode]:
    """The expert's play: its return, and the episode."""
    expert, episode, total = env(name).expert(0.0, 0), env(name).start(task), 0.0
    for _ in range(60):
        step = episode.step(expert(episode))
        assert step.parsed
        total += step.reward
        if step.done:
            return total, episode
    raise AssertionError(f"{task.id} did not end")


@pytest.mark.parametrize("name", ["bfcl", "nestful"])
def test_all_records_are_tasks_in_disjoint_splits(name: str) -> None:
    assert Counter(task.data["level"] for task in tasks(name)) == COUNTS[name]
    require_disjoint(env(name))


@pytest.mark.parametrize("name", ["bfcl", "nestful"])
def test_gold_calls_are_complete(name: str) -> None:
    for task in tasks(name):
        total, episode = play(name, task)
        assert total == 1.0, task.id
        assert all(call.ok for call in episode.state.calls), task.id
        assert episode.matched().strict, task.id


def mutations(task: Task, calls: Sequence[Call], rng: random.Random) -> Iterator[tuple[str, list[Call], bool]]:
    """(what was done, the calls, whether only the strict rule must refuse them)."""
    made = list(calls)
    place = rng.randrange(len(made)) if made else 0
    if not made:
        yield "a call where none is right", [Call("x", {})], True
        return
    yield "one missing", made[:place] + made[place + 1 :], False
    yield "one twice", [*made, made[place]], True
    yield "other tool", _with(made, place, tool=made[place].tool + "_x"), False
    yield "unknown argument", _with(made, place, arguments={**made[place].arguments, "zz_unknown": 1}), False
    yield "failed", _with(made, place, ok=False), False
    for key, value in made[place].arguments.items():
        rule = _rule(task, place, key)
        changed = "\u2020 no such value" if not isinstance(value, bool) else not value
        if isinstance(value, bool) and rule is not None and changed in rule["values"]:
            continue
        yield f"wrong {key}", _with(made, place, arguments={**made[place].arguments, key: changed}), False


def _with(calls: Sequence[Call], place: int, **changes: Any) -> list[Call]:
    fields = {name: getattr(calls[place], name) for name in ("tool", "arguments", "result", "ok", "turn")}
    return [*calls[:place], Call(**{**fields, **changes}), *calls[place + 1 :]]


def _rule(task: Task, place: int, key: str) -> Mapping[str, Any] | None:
    requirement = task.data["requirements"][place]
    found: Mapping[str, Any] | None = requirement["any"][0]["arguments"].get(key)
    return found


@pytest.mark.parametrize("name", ["bfcl", "nestful"])
def test_mutated_gold_is_not_complete(name: str) -> None:
    rng, count = random.Random(0), 0
    for task in tasks(name):
        _, episode = play(name, task)
        for what, calls, only_strict in mutations(task, episode.state.calls, rng):
            found = match(task.data["requirements"], calls)
            assert not found.strict, (task.id, what)
            if not only_strict and len(set(map(str, episode.state.calls))) == len(episode.state.calls):
                assert not found.loose, (task.id, what)
            count += 1
    assert count > 5 * len(tasks(name))


def test_other_allowed_values_pass() -> None:
    """Each allowed value of each argument, and each optional argument left out."""
    count = 0
    for task in tasks("bfcl"):
        if task.data["level"] == "multi_turn":
            continue
        gold = [Call(r["call"]["tool"], r["call"]["arguments"]) for r in task.data["requirements"]]
        for place, requirement in enumerate(task.data["requirements"]):
            for key, rule in requirement["any"][0]["arguments"].items():
                for value in rule["values"]:
                    if value == "" or isinstance(value, dict) or "{" in json.dumps(value):
                        continue
                    changed = _with(gold, place, arguments={**gold[place].arguments, key: value})
                    assert match(task.data["requirements"], changed).strict, (task.id, key, value)
                    count += 1
                if rule["optional"]:
                    fewer = {name: v for name, v in gold[place].arguments.items() if name != key}
                    assert match(task.data["requirements"], _with(gold, place, arguments=fewer)).strict, (task.id, key)
    assert count > 4000


def test_parallel_calls_come_in_any_order_and_sequences_do_not() -> None:
    parallel = next(t for t in tasks("bfcl") if t.data["level"] == "parallel")
    _, episode = play("bfcl", parallel)
    assert match(parallel.data["requirements"], episode.state.calls[::-1]).strict
    turns = next(t for t in tasks("bfcl") if t.data["level"] == "multi_turn" and len(t.data["requirements"]) > 4)
    _, episode = play("bfcl", turns)
    assert not match(turns.data["requirements"], episode.state.calls[::-1]).loose


def test_irrelevant_queries_want_no_call() -> None:
    task = next(t for t in tasks("bfcl") if t.data["level"] == "irrelevance")
    name = task.data["tools"][0]["function"]["name"]
    episode = env("bfcl").start(task)
    assert episode.step(Message("assistant", "<answer>")).reward == 1.0
    episode = env("bfcl").start(task)
    episode.step(Message("assistant", "", (ToolCall(name, {}),)))
    assert episode.step(Message("assistant", "<answer>")).reward == 0.0


def test_several_turns_of_the_user() -> None:
    task = next(t for t in tasks("bfcl") if len(t.data.get("queries", ())) == 3)
    episode = env("bfcl").start(task)
    assert episode.observation == (Message("user", task.data["queries"][0]),)
    step = episode.step(Message("assistant", "<answer>"))
    assert (step.done, step.observation) == (False, (Message("user", task.data["queries"][1]),))


def test_nestful_references_point_to_simulated_results() -> None:
    task = next(t for t in tasks("nestful") if "$ref" in str(t.data["requirements"]))
    _, episode = play("nestful", task)
    assert "$" not in str([call.arguments for call in episode.state.calls])
    forged = copy.deepcopy(list(episode.state.calls))
    last = max(i for i, r in enumerate(task.data["requirements"]) if "$ref" in str(r["any"]))
    broken = _with(forged, last, arguments=dict.fromkeys(forged[last].arguments, "made up"))
    assert not match(task.data["requirements"], broken).loose


def test_tools_are_offered_as_json_schemas() -> None:
    kinds = set()
    for name in ("bfcl", "nestful"):
        for task in tasks(name):
            for tool in env(name).start(task).tools:
                parameters = tool["function"]["parameters"]
                kinds |= {value["type"] for value in parameters["properties"].values() if "type" in value}
                assert set(parameters["required"]) <= parameters["properties"].keys()
    assert kinds <= {"string", "integer", "number", "boolean", "array", "object"}


def test_subsets() -> None:
    tasks("bfcl")
    some = ToolPlanning(data=str(SHARED / "bfcl"), view="text", subset="parallel")
    assert {t.data["level"] for t in some.tasks("train")} == {"parallel", "parallel_multiple"}
    with pytest.raises(ConfigError, match=r"env\.subset='odd'"):
        ToolPlanning(data=str(SHARED / "bfcl"), view="text", subset="odd").tasks("train")


def test_what_is_no_such_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        ToolPlanning(data=str(tmp_path / "x"), view="text").tasks("train")
    with pytest.raises(DataError, match=r"no BFCL_v\*_\*\.json"):
        ToolPlanning(data=str(tmp_path), view="text").tasks("train")
    (tmp_path / "BFCL_v4_simple_python.json").write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match="record a is damaged"):
        ToolPlanning(data=str(tmp_path), view="text").tasks("train")
    (tmp_path / "BFCL_v4_simple_python.json").write_text("{broken\n")
    with pytest.raises(DataError, match="line 1: no JSON"):
        ToolPlanning(data=str(tmp_path), view="text").tasks("train")
    other = tmp_path / "n"
    other.mkdir()
    (other / "a-data.json").write_text("[]")
    with pytest.raises(DataError, match="cannot be read"):
        ToolPlanning(data=str(other), view="text").tasks("train")
    (other / "a-spec.json").write_text("[]")
    (other / "a-data.json").write_text('[{"input": "x", "output": [{"name": "f", "arguments": {"a": "$var1.b$"}}]}]')
    with pytest.raises(DataError, match="record 0 is damaged"):
        ToolPlanning(data=str(other), view="text").tasks("train")
