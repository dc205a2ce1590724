"""Any table of questions, tools and gold calls as tasks: JSONL, JSON or Parquet files, or a data set of the hub.

Two layouts, cell by cell as plain values or as JSON text::

    {"query": "Weather in Oslo?", "tools": [{"name": "weather", "description": "...", "parameters": {"city": {...}}}],
     "answers": [{"name": "weather", "arguments": {"city": "Oslo"}}]}
    {"messages": [{"role": "user", "content": "Weather in Oslo?"}, {"role": "assistant", "tool_calls": [...]}],
     "tools": [{"type": "function", "function": {...}}]}

Messages may say ``from`` and ``value`` (human, gpt), and calls may stand in their text in any form of ``toolcalls``.
Of a conversation, the user's words before the first assistant message are the question and the calls of that message
the gold: what comes later rests on results that nothing here can produce. A row whose gold is no call is solved by no
call. What a gold call gives and its tool does not know is accepted; what it leaves out is not required.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl import toolcalls
from agentrl.envs.tool_planning import bfcl
from agentrl.envs.tool_planning.nestful import JSON_KINDS, KINDS
from agentrl.envs.tool_planning.official import Record, json_lines_at, json_list
from agentrl.errors import ConfigError, DataError
from agentrl.types import ToolCall

HUB = "hub:"
SUFFIXES = (".jsonl", ".json", ".parquet")
AUTO = "auto"
KNOWN: Mapping[str, Sequence[str]] = {  # column names that are found without being told, the first present one
    "question": ("query", "question", "messages", "conversations"),
    "tools": ("tools", "functions"),
    "calls": ("answers", "calls", "messages", "conversations"),
}
USER, ASSISTANT = ("user", "human"), ("assistant", "gpt", "function_call")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row holds what; ``auto`` is the first of ``KNOWN`` that it has."""

    question: str = AUTO
    tools: str = AUTO
    calls: str = AUTO

    def cell(self, row: Mapping[str, Any], what: str) -> Any:
        """A row's cell, read where it is JSON text of a list. Raises ValueError."""
        told = getattr(self, what)
        names = KNOWN[what] if told == AUTO else (told,)
        name = next((name for name in names if row.get(name) is not None), None)
        if name is None:
            raise ValueError(
                f"no {' or '.join(names)}, only {', '.join(map(str, row))}; name the column by env.{what}_column"
            )
        value = row[name]
        if not isinstance(value, str) or not value.lstrip().startswith("["):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value  # a question that begins with a bracket; tools and calls are refused by their kind


def is_table(data: str) -> bool:
    """Is this a file, or a folder of files, or a name that :func:`load` reads?"""
    path = Path(data)
    if data.startswith(HUB) or (path.is_file() and path.suffix in SUFFIXES):
        return True
    return path.is_dir() and any(file.suffix in SUFFIXES for file in path.iterdir())


def load(data: str, subset: str, columns: Columns) -> list[Record]:
    """Records of all rows. ``subset``: a part of the file names, or a configuration of the hub's data set.

    Raises DataError that names file and line of a row that is none, ConfigError where a library is missing.
    """
    records: list[Record] = []
    for where, number, row in _hub(data, subset) if data.startswith(HUB) else _files(Path(data), subset):
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"holds a {type(row).__name__}, expected an object")
            records.append(_record(f"rows/{Path(data.removeprefix(HUB)).stem}/{len(records)}", row, columns))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            told = " ".join(str(error).split())
            raise DataError(f"{where} {number}: no task ({told}); mend this row or leave it out") from error
    return records


def _files(path: Path, subset: str) -> Iterator[tuple[str, int, Any]]:
    """(file and kind of place, place from 1, row) of every row."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    for file in files:
        if path.is_dir() and subset != "all" and subset not in file.stem:
            continue
        if file.suffix == ".jsonl":
            yield from ((f"{file}, line", number, row) for number, row in json_lines_at(file))
        elif file.suffix == ".json":
            yield from ((f"{file}, record", number, row) for number, row in enumerate(json_list(file), 1))
        else:
            yield from ((f"{file}, row", number, row) for number, row in enumerate(_parquet(file), 1))


def _parquet(file: Path) -> list[Any]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ConfigError(f"{file}: reading it needs pyarrow, which is not installed; pip install datasets") from None
    try:
        return [_without_none(row) for row in parquet.read_table(file).to_pylist()]
    except (ArrowException, OSError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{file}: cannot be read as Parquet ({told}); give the original file") from error


def _hub(data: str, subset: str) -> Iterator[tuple[str, int, Any]]:
    """The training rows of a data set of the hub, from its cache where it is there."""
    try:
        import datasets
    except ImportError:
        raise ConfigError(f"env.data={data}: the library datasets is not installed; pip install datasets") from None
    try:
        rows = datasets.load_dataset(data.removeprefix(HUB), None if subset == "all" else subset, split="train")
    except Exception as error:  # whatever the network, the hub or the data's own files raise
        told = " ".join(str(error).split())
        raise DataError(f"env.data={data}: cannot be loaded ({told}); check the name, or give its files") from error
    for number, row in enumerate(rows):
        yield f"{data}, row", number + 1, _without_none(row)


def _record(name: str, row: Mapping[str, Any], columns: Columns) -> Record:
    query = _query(columns.cell(row, "question"))
    functions = dict(_function(tool) for tool in _listed(columns.cell(row, "tools"), "tools"))
    calls = _gold(columns.cell(row, "calls"))
    for call in calls:
        if call.name not in functions:
            raise ValueError(f"the gold call of {call.name!r} is of no tool on offer ({', '.join(functions)})")
        parameters = functions[call.name]["parameters"]
        parameters["properties"] |= {key: {} for key in call.arguments if key not in parameters["properties"]}
        parameters["required"] = [key for key in parameters["required"] if key in call.arguments]
    data = {
        "level": "rows",
        "query": query,
        "tools": [{"type": "function", "function": function} for function in functions.values()],
        "fields": {},
        "requirements": [
            {
                "id": f"r{number}",
                "any": [
                    {"tool": call.name, "arguments": bfcl.rules(call.arguments, functions[call.name]["parameters"])}
                ],
                "call": {"tool": call.name, "arguments": dict(call.arguments)},
            }
            for number, call in enumerate(calls)
        ],
        "strict": True,
    }
    return name, ",".join(sorted(functions)), data


def _listed(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"the {what} are a {type(value).__name__}, expected a list or its JSON text")
    return value


def _role(message: Any) -> str:
    return str(message.get("role") or message.get("from"))


def _said(message: Any) -> str:
    return str(message.get("content") or message.get("value") or "")


def _query(cell: Any) -> str:
    """The question, or what the user says before the first assistant message."""
    said = [cell] if isinstance(cell, str) else []
    for message in [] if said else _listed(cell, "messages"):
        if _role(message) in ASSISTANT:
            break
        if _role(message) in USER:
            said.append(_said(message))
    query = "\n".join(said).strip()
    if not query:
        raise ValueError("the question is empty")
    return query


def _gold(cell: Any) -> list[ToolCall]:
    """The calls, or those of the first assistant message."""
    listed = _listed(cell, "gold calls")
    if listed and all(isinstance(item, Mapping) and ("role" in item or "from" in item) for item in listed):
        first = next((message for message in listed if _role(message) in ASSISTANT), None)
        if first is None:
            raise ValueError("no assistant message that could make the gold calls")
        if not first.get("tool_calls"):
            reading = toolcalls.read(_said(first))
            if reading.malformed:
                raise ValueError("a call in the first assistant message cannot be read")
            return list(reading.calls)
        listed = _listed(first["tool_calls"], "gold calls")
    return [_call(item) for item in listed]


def _call(item: Any) -> ToolCall:
    inner = item.get("function") if isinstance(item.get("function"), Mapping) else item
    arguments = inner.get("arguments", {})
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(inner.get("name"), str) or not isinstance(arguments, Mapping):
        raise ValueError(f"a gold call is {json.dumps(item)[:80]}, expected a name and arguments")
    return ToolCall(inner["name"], dict(arguments))


def _function(tool: Any) -> tuple[str, dict[str, Any]]:
    """Name and schema of a tool, with parameters as a JSON schema or as a plain table of them."""
    inner = tool.get("function") if isinstance(tool.get("function"), Mapping) else tool
    if not isinstance(inner.get("name"), str):
        raise ValueError(f"a tool is {json.dumps(tool)[:80]}, expected a name, a description and parameters")
    given = inner.get("parameters") or {}
    given = json.loads(given) if isinstance(given, str) else given
    if isinstance(given.get("properties"), Mapping) or given.get("type") in ("object", "dict"):
        made = bfcl.schema(given)
        made = {**made, "properties": dict(made.get("properties", {})), "required": list(made.get("required") or ())}
    else:
        properties = {key: _property(value) for key, value in given.items()}
        required = [key for key, value in given.items() if not _optional(value)]
        made = {"type": "object", "properties": properties, "required": required}
    return inner["name"], {
        "name": inner["name"], "description": inner.get("description") or "", "parameters": made
    }  # fmt: skip


def _property(parameter: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter whose type is a Python name (``str, optional``, ``List[int]``)."""
    kind = str(parameter.get("type", "")).split(",")[0].split("[")[0].strip().lower()
    kind = KINDS.get(kind, kind)
    kept = {key: parameter[key] for key in ("description", "default", "enum") if parameter.get(key) is not None}
    return ({"type": kind} if kind in JSON_KINDS else {}) | kept


def _optional(parameter: Mapping[str, Any]) -> bool:
    return "default" in parameter or "optional" in str(parameter.get("type", "")) or parameter.get("required") is False


def _without_none(value: Any) -> Any:
    """Columns of nested tables fill what a row does not have with None."""
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
