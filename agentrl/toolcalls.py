"""Calls of tools in the text of a message: what a model wrote is read here, and nowhere else.

Families write calls differently; :func:`read` knows these forms, several calls in one message included::

    Qwen, Hermes   <tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>
    Llama 3        {"name": "weather", "parameters": {"city": "Oslo"}}; {...}   (also behind <|python_tag|>, or in [..])
    Gemma          ```tool_code
                   weather(city="Oslo")
                   ```                      (also ```json and ```tool_call with the objects of Llama's form)

What is meant as a call and cannot be read counts as ``malformed``: it is data, never an exception. Numbers must be
finite and text must be encodable, so that every call can be written as JSON and hashed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.types import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FENCE = re.compile(r"```(tool_code|tool_call|json)[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
BARE = re.compile(r"^[^\S\n]*(?:<\|python_tag\|>\s*)?(?=(?:\[\s*)?\{\s*\"(?:name|type|parameters|arguments)\")", re.M)
CLOSING = re.compile(r"\s*" + CLOSE)
BETWEEN = re.compile(r"[\s;,]*(?:<\|python_tag\|>\s*)?")
PRINT, API = "print", "default_api."  # what Gemma's examples put around a call
LONGEST = 20_000  # characters of Python that are parsed
MOST = 256  # calls of one text that are read; what follows them is one malformed call


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text calls: the calls in order, and how many more were meant but cannot be read."""

    calls: tuple[ToolCall, ...] = ()
    malformed: int = 0


def read(text: str) -> Reading:
    """The calls of a message's text. Tags win over fences, fences over bare JSON."""
    if OPEN in text:
        return _collect(_tagged(text))
    if "```" in text and (blocks := FENCE.findall(text)):
        return _collect(call for kind, body in blocks for call in _fenced(kind, body))
    if "{" in text and (start := BARE.search(text)):
        return _collect(_objects(text, start.end()))
    return Reading()


def write(calls: Sequence[ToolCall]) -> str:
    """Calls in ``<tool_call>`` tags, one below the other: the form for templates that have none of their own."""
    return "\n".join(f"{OPEN}\n{json.dumps(as_json(call), ensure_ascii=False)}\n{CLOSE}" for call in calls)


def as_json(call: ToolCall) -> dict[str, Any]:
    """``{"name": ..., "arguments": {...}}``."""
    return {"name": call.name, "arguments": dict(call.arguments)}


def _collect(found: Iterable[ToolCall | None]) -> Reading:
    listed = list(found)
    calls = tuple(call for call in listed if call is not None)
    return Reading(calls, len(listed) - len(calls))


def _tagged(text: str) -> Iterator[ToolCall | None]:
    """One for each opening tag; None where no object and closing tag follow."""
    place = text.find(OPEN)
    for _ in range(MOST):
        if place < 0:
            return
        value, end = _decode(text, place + len(OPEN))
        yield _call(value) if end is not None and CLOSING.match(text, end) else None
        place = text.find(OPEN, place + len(OPEN) if end is None else end)
    if place >= 0:
        yield None


def _fenced(kind: str, body: str) -> Iterator[ToolCall | None]:
    if kind == "tool_code":
        yield from _python(body)
    elif kind == "tool_call" or '"name"' in body:
        yield from _objects(body, 0)


def _objects(text: str, place: int) -> Iterator[ToolCall | None]:
    """JSON objects one after the other, or a list of them; what follows the last of them is plain text."""
    for number in range(MOST):
        between = BETWEEN.match(text, place)
        place = between.end() if between else place
        if place >= len(text) or (number and text[place] not in "[{"):
            return
        value, end = _decode(text, place)
        if end is None:
            yield None
            return
        yield from (_call(item) for item in value) if isinstance(value, list) else (_call(value),)
        place = end
    yield None


def _decode(text: str, place: int) -> tuple[Any, int | None]:
    """The JSON value at a place and where it ends; (None, None) where there is none that can be used."""
    while place < len(text) and text[place].isspace():
        place += 1
    try:
        value, end = _DECODER.raw_decode(text, place)
        text[place:end].encode()
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None, None
    return value, end


def _not_a_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _not_a_number(text)


_DECODER = json.JSONDecoder(parse_constant=_not_a_number, parse_float=_finite)


def _call(value: Any) -> ToolCall | None:
    """A call from its JSON object: ``arguments`` or ``parameters``, an object or a text that holds one."""
    if not isinstance(value, dict):
        return None
    function = value.get("function")
    inner: dict[str, Any] = function if isinstance(function, dict) else value
    name = inner.get("name", inner.get("function"))
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):
        arguments, end = _decode(arguments, 0)
        if end is None:
            return None
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, arguments)


def _python(body: str) -> Iterator[ToolCall | None]:
    """Calls written as Python with literal keyword arguments."""
    try:
        tree = ast.parse(body.strip()[:LONGEST])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield None
        return
    for statement in tree.body:
        value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        for node in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            yield python_call(node)


def python_call(node: ast.AST | None) -> ToolCall | None:
    """A call from its syntax tree: ``name(key=literal, ...)``; positional arguments are named ``"0"``, ``"1"``, ..."""
    if isinstance(node, ast.Call) and _dotted(node.func) == PRINT and len(node.args) == 1:
        node = node.args[0]
    name = _dotted(node.func) if isinstance(node, ast.Call) else ""
    if not isinstance(node, ast.Call) or not name:
        return None
    arguments: dict[str, Any] = {}
    try:
        for place, value in enumerate(node.args):
            arguments[str(place)] = ast.literal_eval(value)
        for keyword in node.keywords:
            if keyword.arg is None:
                return None
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        arguments = json.loads(json.dumps(arguments, ensure_ascii=False, allow_nan=False))
        json.dumps(arguments, ensure_ascii=False).encode()
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return ToolCall(name.removeprefix(API), arguments)


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` of names and attributes; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
