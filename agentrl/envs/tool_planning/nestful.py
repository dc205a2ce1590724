"""NESTFUL (Apache-2.0) as tasks: sequences of calls whose arguments refer to earlier results.

References (``$var1.field$``, also inside texts) are rewritten to requirements by position, so names do not matter. The
closing ``var_result`` only says what is shown to the user and is no requirement. Results are made up: every call has
the fields that its tool promises and those that the gold calls read. Tools that are missing from the set's own list
(in the glaive part) are added with the arguments their gold call gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.envs.tool_planning.official import Record, json_list
from agentrl.errors import DataError
from agentrl.hashes import text_hash

REFERENCE = re.compile(r"\$(\w+)(?:\.([^$]+))?\$")
RESULT = "var_result"
KINDS = {"str": "string", "text": "string", "float": "number", "int": "integer", "bool": "boolean", "list": "array",
         "dict": "object", "date": "string", "double": "number"}  # fmt: skip
JSON_KINDS = ("string", "number", "integer", "boolean", "array", "object")


def load(folder: Path, subset: str, distractors: int) -> list[Record]:
    """Records of all ``*-data.json`` below a folder whose name holds ``subset``. Raises DataError on a damaged file."""
    records: list[Record] = []
    for path in sorted(folder.rglob("*-data.json")):
        part = path.name.removesuffix("-data.json")
        if subset != "all" and subset not in part:
            continue
        tools = {tool["name"]: tool for tool in json_list(path.with_name(f"{part}-spec.json"))}
        for number, record in enumerate(json_list(path)):
            try:
                records.append(_record(f"nestful/{part}/{number}", record, tools, distractors))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise DataError(f"{path}: record {number} is damaged ({error!r}); give the original files") from error
    return records


def _record(name: str, record: Mapping[str, Any], tools: Mapping[str, Any], distractors: int) -> Record:
    calls = [call for call in record["output"] if call["name"] != RESULT]
    labels: dict[str, str] = {}
    requirements: list[dict[str, Any]] = []
    read: dict[str, list[str]] = {}  # requirement -> fields that are read of it
    for number, call in enumerate(calls):
        given = {key: _node(value, labels, read) for key, value in call["arguments"].items()}
        rules = _defaults(tools.get(call["name"], {})) | {key: {"values": [value]} for key, value in given.items()}
        requirements.append(
            {
                "id": f"r{number}",
                "any": [{"tool": call["name"], "arguments": rules}],
                "after": [],
                "call": {"tool": call["name"], "arguments": given},
            }
        )
        labels[call.get("label", f"call {number}")] = f"r{number}"
    needed = list(dict.fromkeys(call["name"] for call in calls))
    others = sorted((tool for tool in tools if tool not in needed), key=lambda tool: text_hash(f"{name}/{tool}"))
    offered = sorted([*needed, *others[:distractors]], key=lambda tool: text_hash(f"order/{name}/{tool}"))
    data = {
        "level": name.split("/")[1],
        "query": record["input"],
        "tools": [_tool(tool, tools.get(tool), calls) for tool in offered],
        "fields": {tool: _fields(tool, tools.get(tool, {}), calls, read) for tool in offered},
        "requirements": requirements,
    }
    return name, ",".join(sorted(needed)), data


def _node(value: Any, labels: Mapping[str, str], read: dict[str, list[str]]) -> Any:
    """A value with its references as requirements know them."""
    if isinstance(value, list):
        return [_node(item, labels, read) for item in value]
    if isinstance(value, Mapping):
        return {key: _node(item, labels, read) for key, item in value.items()}
    if not isinstance(value, str) or not REFERENCE.search(value):
        return value
    parts = list(_parts(value, labels, read))
    return parts[0] if len(parts) == 1 else {"$text": parts}


def _parts(text: str, labels: Mapping[str, str], read: dict[str, list[str]]) -> Iterator[Any]:
    place = 0
    for found in REFERENCE.finditer(text):
        if found.start() > place:
            yield text[place : found.start()]
        if found[1] not in labels:
            raise ValueError(f"'{found[0]}' refers to nothing before it")
        made, field = labels[found[1]], found[2] or ""
        if field:
            read.setdefault(made, []).append(field)
        yield {"$ref": made, "field": field}
        place = found.end()
    if place < len(text):
        yield text[place:]


def _parameters(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a tool, under whichever of the set's names."""
    found: dict[str, Any] = {}
    for key in ("query_parameters", "path_parameters", "parameters", "arguments"):
        value = tool.get(key) or {}
        inner = value.get("properties", value)
        required = value.get("required") if isinstance(value.get("required"), list) else None
        for name, parameter in inner.items():
            found[name] = parameter if required is None else {**parameter, "required": name in required}
    return found


def _defaults(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a call may give with their default value."""
    known = _parameters(tool)
    return {
        name: {"values": [p[key]], "optional": True}
        for name, p in known.items()
        for key in ("default_value", "default")
        if isinstance(p, Mapping) and p.get(key) not in (None, "")
    }


def _tool(name: str, tool: Mapping[str, Any] | None, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if tool is None:
        keys = {key for call in calls if call["name"] == name for key in call["arguments"]}
        properties: dict[str, Any] = {key: {} for key in sorted(keys)}
        required: list[str] = []
    else:
        known = _parameters(tool)
        properties = {key: _property(value) for key, value in known.items()}
        given = [set(call["arguments"]) for call in calls if call["name"] == name]
        required = [key for key, value in known.items() if value.get("required") and all(key in keys for keys in given)]
    for call in calls:  # what a gold call gives and the list does not know is accepted
        if call["name"] == name:
            properties |= {key: {} for key in call["arguments"] if key not in properties}
    description = (tool or {}).get("description", "")
    schema = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _property(parameter: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(parameter.get("type", "")).lower()
    kind = KINDS.get(kind, kind)
    made: dict[str, Any] = {"type": kind} if kind in JSON_KINDS else {}
    made |= {"description": parameter["description"]} if parameter.get("description") else {}
    values = parameter.get("enum") or parameter.get("allowed_values")
    return made | ({"enum": list(values)} if isinstance(values, list) and values else {})


def _fields(
    name: str, tool: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], read: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    promised = tool.get("output_parameters") or {}
    promised = promised.get("properties", promised) if isinstance(promised.get("properties", {}), Mapping) else promised
    fields = {
        key: KINDS.get(str(value.get("type", "string")).lower(), str(value.get("type", "string")).lower())
        for key, value in promised.items()
        if isinstance(value, Mapping)
    }
    for number, call in enumerate(calls):
        if call["name"] == name:
            fields |= {field: fields.get(field, "string") for field in read.get(f"r{number}", ())}
    return fields
