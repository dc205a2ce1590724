"""Tables of questions, tools and gold calls: both layouts, three kinds of files, and what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from agentrl import toolcalls
from agentrl.config import build, compose
from agentrl.envs.check import check_env
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.errors import DataError
from agentrl.panel import require_disjoint
from agentrl.types import Message, Task, ToolCall

CITIES = ("Oslo", "Rome", "Lima", "Kyiv", "Bern", "Doha", "Male", "Baku", "Riga", "Cali")


def flat(number: int) -> dict[str, Any]:
    """As in the function-calling sets with a table of parameters; every cell but the question is JSON text."""
    city = CITIES[number % 10]
    tool = {
        "name": f"weather_{number}",
        "description": "The weather of a city.",
        "parameters": {
            "city": {"type": "str", "description": "its name"},
            "days": {"type": "int, optional", "description": "ahead", "default": 1},
        },
    }
    other = {"name": f"news_{number}", "description": "News.", "parameters": {"topics": {"type": "List[str]"}}}
    calls = [{"name": f"weather_{number}", "arguments": {"city": city}}]
    if number % 2:
        calls.append({"name": f"news_{number}", "arguments": {"topics": [city, "rain"]}})
    question = f"How is the weather in {city} ({number})?"
    return {"query": question, "tools": json.dumps([tool, other]), "answers": json.dumps(calls)}


def chat(number: int) -> dict[str, Any]:
    """The same as messages and JSON schemas, calls as objects."""
    row = flat(number)
    properties = {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}}
    tool = {
        "type": "function",
        "function": {
            "name": f"weather_{number}",
            "description": "",
            "parameters": {"type": "object", "properties": properties, "required": ["city"]},
        },
    }
    news = {"name": f"news_{number}", "parameters": {"type": "object", "properties": {"topics": {"type": "array"}}}}
    calls = [
        {"type": "function", "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
        for call in json.loads(row["answers"])
    ]
    messages = [
        {"role": "system", "content": "You call functions."},
        {"role": "user", "content": row["query"]},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny."},
    ]
    return {"messages": messages, "tools": [tool, {"type": "function", "function": news}]}


def spoken(number: int) -> dict[str, Any]:
    """The same with ``from`` and ``value``, calls as tags in the text."""
    row, other = flat(number), chat(number)
    said = toolcalls.write([ToolCall(c["name"], c["arguments"]) for c in json.loads(row["answers"])])
    conversations = [
        {"from": "human", "value": row["query"]},
        {"from": "gpt", "value": "Let me see.\n" + said},
        {"from": "tool", "value": "sunny"},
    ]
    return {"conversations": conversations, "tools": json.dumps(other["tools"])}


def env(data: Path, **options: Any) -> ToolPlanning:
    return ToolPlanning(data=str(data), view="text", **options)


def write(path: Path, rows: Sequence[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)), encoding="utf-8")
    else:
        datasets.Dataset.from_list(list(rows)).to_parquet(str(path))
    return path


def panels(world: ToolPlanning) -> list[Task]:
    return [task for split in ("train", "val", "test") for task in world.tasks(split)]


def play(world: ToolPlanning, task: Task, *calls: ToolCall) -> float:
    """The return of making these calls at once, and then answering."""
    episode = world.start(task)
    if calls:
        episode.step(Message("assistant", toolcalls.write(calls)))
    return episode.step(Message("assistant", "<answer>")).reward


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("layout", [flat, chat, spoken])
def test_every_layout_in_every_kind_of_file(layout: Any, suffix: str, tmp_path: Path) -> None:
    world = env(write(tmp_path / f"rows{suffix}", [layout(number) for number in range(40)]))
    require_disjoint(world)
    found = panels(world)
    assert sorted(task.data["query"] for task in found) == sorted(flat(number)["query"] for number in range(40))
    for task in found[::6]:
        number = int(task.data["query"].split("(")[1].split(")")[0])
        right = [ToolCall(c["name"], c["arguments"]) for c in json.loads(flat(number)["answers"])]
        assert play(world, task, *right) == 1.0
        assert play(world, task, *reversed(right)) == 1.0, "order is free"
        weather = right[0]
        assert play(world, task, ToolCall(weather.name, {**weather.arguments, "days": 1}), *right[1:]) == 1.0
        for wrong in (
            [],
            right[1:],
            [*right, weather],
            [ToolCall(weather.name, {"city": "Nowhere"}), *right[1:]],
            [ToolCall(weather.name, {**weather.arguments, "days": 2}), *right[1:]],
            [ToolCall("weather", weather.arguments), *right[1:]],
        ):
            assert play(world, task, *wrong) == 0.0, wrong


def test_tools_are_offered_as_json_schemas(tmp_path: Path) -> None:
    world = env(write(tmp_path / "rows.jsonl", [flat(number) for number in range(40)]))
    weather, news = world.start(panels(world)[0]).tools
    assert weather["type"] == "function"
    assert weather["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "its name"},
            "days": {"type": "integer", "description": "ahead", "default": 1},
        },
        "required": ["city"],
    }
    assert news["function"]["parameters"]["properties"]["topics"] == {"type": "array"}


def test_columns_are_options_and_it_keeps_the_contract(tmp_path: Path) -> None:
    rows = [{"ask": r["query"], "functions_json": r["tools"], "gold": r["answers"]} for r in map(flat, range(40))]
    words = ["question_column=ask", "tools_column=functions_json", "calls_column=gold", "view=text"]
    data = write(tmp_path / "rows.jsonl", rows)
    cfg = compose("env_tool", ["env=tool_planning", f"env.data={data}", *(f"env.{word}" for word in words)])
    assert check_env(build(cfg.env), tasks=3) == []
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: .*no query or question .*name the column by env\.quest"):
        env(data).tasks("train")


def test_a_row_without_calls_is_solved_by_none(tmp_path: Path) -> None:
    row = chat(0)
    row["messages"] = [*row["messages"][:2], {"role": "assistant", "content": "Which city do you mean?"}]
    world = env(write(tmp_path / "rows.jsonl", [{**row, "tools": chat(n)["tools"]} for n in range(40)]))
    task = world.tasks("train")[0]
    name = task.data["tools"][0]["function"]["name"]
    assert (play(world, task), play(world, task, ToolCall(name, {"city": "Oslo"}))) == (1.0, 0.0)


def test_what_a_gold_call_says_beside_its_tool_is_accepted(tmp_path: Path) -> None:
    rows = [{**flat(n), "answers": [{"name": f"weather_{n}", "arguments": {"unit": "C"}}]} for n in range(40)]
    world = env(write(tmp_path / "rows.jsonl", rows))
    task = world.tasks("train")[0]
    name = task.data["tools"][0]["function"]["name"]
    assert play(world, task, ToolCall(name, {"unit": "C"})) == 1.0


BAD: dict[str, Any] = {
    "holds a list": [1],
    "no tools or functions": {"query": "q", "answers": []},
    "the tools are a str": {"query": "q", "tools": "none", "answers": []},
    "a tool is": {"query": "q", "tools": [{"title": "x"}], "answers": []},
    "a gold call is": {"query": "q", "tools": [{"name": "a"}], "answers": [{"name": "a", "arguments": [1]}]},
    "'b' is of no tool on offer (a)": {"query": "q", "tools": [{"name": "a"}], "answers": [{"name": "b"}]},
    "the question is empty": {"query": " ", "tools": [], "answers": []},
    "no assistant message": {"messages": [{"role": "user", "content": "q"}], "tools": []},
    "cannot be read": {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<tool_call>{</tool_call>"}],
        "tools": [],
    },
    "no task": {"query": "q", "tools": [3], "answers": []},
}


@pytest.mark.parametrize("says", BAD)
def test_a_bad_row_is_named(says: str, tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", [flat(0), flat(1), BAD[says]])
    with pytest.raises(DataError) as error:
        env(data).tasks("train")
    assert f"{data}, line 3: " in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_files_and_wrong_names(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text(json.dumps(flat(0)) + '\n\n{"query": ')
    with pytest.raises(DataError, match=r"cut\.jsonl, line 3: no JSON"):
        env(tmp_path / "cut.jsonl").tasks("train")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"cut\.parquet: cannot be read as Parquet"):
        env(tmp_path / "cut.parquet").tasks("train")
    with pytest.raises(DataError, match="no such folder or file"):
        env(tmp_path / "nothing.jsonl").tasks("train")


def test_a_folder_of_files_by_subset(tmp_path: Path) -> None:
    write(tmp_path / "first.jsonl", [flat(number) for number in range(40)])
    write(tmp_path / "second.parquet", [chat(number) for number in range(40, 70)])
    assert len(panels(env(tmp_path))) == 70
    assert len(panels(env(tmp_path, subset="first"))) == 40


def test_a_data_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded by ``datasets``, whose download is replaced: its rows, and its failure in a sentence."""
    asked: list[Any] = []

    def load(name: str, configuration: str | None, split: str) -> Any:
        asked.append((name, configuration, split))
        return datasets.Dataset.from_list([chat(number) for number in range(40)])

    monkeypatch.setattr(datasets, "load_dataset", load)
    world = ToolPlanning(data="hub:somebody/calls", view="text", subset="easy")
    assert len(panels(world)) == 40
    assert asked == [("somebody/calls", "easy", "train")]

    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"env\.data=hub:somebody/calls: cannot be loaded \(no network\)"):
        ToolPlanning(data="hub:somebody/calls", view="text").tasks("train")
