"""The Berkeley function-calling leaderboard (BFCL, Apache-2.0) as tasks.

Single turn: the gold answer lists for every argument the allowed values, "" among them where it may be left out. A
task is solved when every gold call is made once and nothing else (the leaderboard's rules, ``completeness.values``), in
any order; irrelevant queries are solved by no call at all. Several turns: gold calls are Python texts by turn; ours
compares the sequences (in order, other calls between them allowed) instead of running the original's classes. Results
are made up by schema, since nothing here can be executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.envs.tool_planning.official import Record, json_lines
from agentrl.errors import DataError
from agentrl.toolcalls import python_call
from agentrl.types import ToolCall

TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}  # what BFCL calls JSON's types
CLASSES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}


def load(folder: Path, subset: str) -> list[Record]:
    """Records of all BFCL files of a folder whose name holds ``subset``. Raises DataError on a damaged file."""
    records: list[Record] = []
    for path in sorted(folder.glob("BFCL_v*_*.json")):
        part = path.stem.split("_", 2)[2]
        if subset not in ("all", part) and subset not in part:
            continue
        gold_path = folder / "possible_answer" / path.name
        gold = {str(g.get("id")): g.get("ground_truth") for g in json_lines(gold_path)} if gold_path.is_file() else {}
        for record in json_lines(path):
            try:
                if part.startswith("multi_turn"):
                    records.append(_turns(record, gold[record["id"]] or (), folder))
                else:
                    records.append(_single(record, gold.get(record["id"]), part))
            except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
                name = record.get("id", "?")
                raise DataError(f"{path}: record {name} is damaged ({error!r}); give the original files") from error
    return records


def schema(node: Any) -> Any:
    """A BFCL schema as a JSON schema."""
    if isinstance(node, Mapping):
        made = {key: schema(value) for key, value in node.items() if key not in ("type", "optional")}
        kind = node.get("type")
        if isinstance(kind, str):
            kind = TYPES.get(kind, kind)
            made |= {"type": kind} if kind else {}
        elif kind is not None:
            made["type"] = schema(kind)
        return made
    return [schema(item) for item in node] if isinstance(node, list) else node


def tool(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function as chat templates take it."""
    kept = {key: function[key] for key in ("name", "description")}
    return {"type": "function", "function": {**kept, "parameters": schema(function["parameters"])}}


def _single(record: Mapping[str, Any], gold: Any, part: str) -> Record:
    functions = {function["name"]: function for function in record["function"]}
    requirements = []
    for number, call in enumerate(gold or ()):
        ((name, arguments),) = call.items()
        requirements.append(_requirement(f"r{number}", name, arguments, functions[name]["parameters"]))
    query = "\n".join(message["content"] for message in record["question"][0])
    data = {
        "level": part,
        "query": query,
        "tools": [tool(function) for function in functions.values()],
        "fields": {},
        "requirements": requirements,
        "strict": True,
    }
    return f"bfcl/{record['id']}", ",".join(sorted(functions)), data


def _requirement(
    name: str, function: str, arguments: Mapping[str, list[Any]], schema: Mapping[str, Any]
) -> dict[str, Any]:
    required = schema.get("required", [])
    known = schema["properties"]  # two gold arguments are not among them
    arguments = {key: values for key, values in arguments.items() if key in known}
    rules = {
        key: {
            "values": values,
            "optional": "" in values and key not in required,
            "schema": _types(schema["properties"][key]),
        }
        for key, values in arguments.items()
    }
    given = {key: _first(values) for key, values in arguments.items() if _first(values) != ""}
    return {
        "id": name,
        "any": [{"tool": function, "arguments": rules}],
        "call": {"tool": function, "arguments": given},
    }


def _types(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a BFCL schema that its rules look at."""
    kept = {"type": schema.get("type", "any")}
    return kept | ({"items": _types(schema["items"])} if isinstance(schema.get("items"), Mapping) else {})


def _first(values: Sequence[Any]) -> Any:
    """An allowed value, preferably one that is not left out."""
    chosen = next((value for value in values if value != ""), "")
    if isinstance(chosen, Mapping):
        return {key: _first(inner) for key, inner in chosen.items() if _first(inner) != ""}
    if isinstance(chosen, list) and any(isinstance(item, Mapping) for item in chosen):
        return [_first([item]) for item in chosen]
    return chosen


def _turns(record: Mapping[str, Any], gold: Sequence[Sequence[str]], folder: Path) -> Record:
    excluded = set(record.get("excluded_function", ()))
    functions = {
        function["name"]: function
        for name in record["involved_classes"]
        for function in json_lines(folder / "multi_turn_func_doc" / f"{CLASSES[name]}.json")
        if function["name"] not in excluded
    }
    requirements = [
        {
            "id": f"r{turn}.{place}",
            "turn": turn,
            "any": [{"tool": call.name, "arguments": rules(call.arguments, functions[call.name]["parameters"])}],
            "call": {"tool": call.name, "arguments": dict(call.arguments)},
        }
        for turn, texts in enumerate(gold)
        for place, call in enumerate(_calls(texts, functions))
    ]
    queries = ["\n".join(message["content"] for message in messages) for messages in record["question"]]
    data = {
        "level": "multi_turn",
        "query": "\n".join(queries),
        "queries": queries,
        "tools": [tool(function) for function in functions.values()],
        "fields": {
            name: {key: str(value.get("type", "string")) for key, value in function["response"]["properties"].items()}
            for name, function in functions.items()
            if function.get("response", {}).get("properties")
        },
        "requirements": requirements,
    }
    return f"bfcl/{record['id']}", str(record["id"]), data


def rules(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The given values; what has a default may be left out or given as such."""
    defaults = {key: value["default"] for key, value in schema["properties"].items() if "default" in value}
    rules: dict[str, Any] = {key: {"values": [value], "optional": True} for key, value in defaults.items()}
    for key, value in arguments.items():
        rules[key] = {"values": [value], "optional": key in defaults and defaults[key] == value}
    return rules


def _calls(texts: Sequence[str], functions: Mapping[str, Any]) -> Iterator[ToolCall]:
    """Gold calls of a turn, their positional arguments named as in the schema."""
    for text in texts:
        call = python_call(ast.parse(text, mode="eval").body)
        if call is None:
            raise ValueError(f"'{text[:60]}' is no call")
        names = list(functions[call.name]["parameters"]["properties"])
        named = {names[int(key)] if key.isdecimal() else key: value for key, value in call.arguments.items()}
        yield ToolCall(call.name, named)
