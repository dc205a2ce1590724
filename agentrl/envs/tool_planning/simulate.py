"""Results for tools that cannot be run: made from the tool's name, its arguments and the fields it promises.

The same call always has the same result, another call another one, so a reference to a result says which call it came
from. Only names are checked (the tool exists, nothing required is missing, nothing unknown is given): types are the
business of the comparison with the gold calls, and many references put a text where the schema says number.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from agentrl.envs.tool_planning.world import Outcome


class Simulated:
    """The tools of one task: ``tools`` as schemas, ``fields`` what each result holds (path to type)."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], fields: Mapping[str, Mapping[str, str]]) -> None:
        self._tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
        self._fields = fields

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Outcome:
        """A made-up result, or ``{"error": sentence}``."""
        parameters = self._tools.get(tool)
        if parameters is None:
            return Outcome(arguments, {"error": f"there is no tool '{tool[:60]}'"}, False)
        properties = parameters.get("properties", {})
        missing = [name for name in parameters.get("required", ()) if name not in arguments]
        unknown = [name for name in arguments if name not in properties]
        if missing or unknown:
            wrong = f"argument '{missing[0]}' is missing" if missing else f"there is no argument '{unknown[0][:60]}'"
            return Outcome(arguments, {"error": f"{tool}: {wrong}"}, False)
        key = json.dumps([tool, arguments], sort_keys=True)
        result: dict[str, Any] = {}
        for path, kind in (self._fields.get(tool) or {"result": "string"}).items():
            _put(result, path, _value(key, path, kind))
        return Outcome(arguments, result)


def _value(key: str, path: str, kind: str) -> Any:
    digest = hashlib.sha256(f"{key}\x1f{path}".encode()).digest()
    number = int.from_bytes(digest[:3], "big")
    if kind in ("integer", "int", "number", "float"):
        return number
    if kind in ("boolean", "bool"):
        return bool(digest[0] & 1)
    word = re.sub(r"\W+", "_", path)
    if kind in ("array", "list"):
        return [f"{word}_{digest[:2].hex()}", f"{word}_{digest[2:4].hex()}"]
    return f"{word}_{digest[:4].hex()}"


def _put(result: dict[str, Any], path: str, value: Any) -> None:
    """Set a part of a result by its path (``author[0].id``); what stands in the way is replaced."""
    keys: list[str | int] = [int(key) if key.isdecimal() else key for key in re.findall(r"[^.\[\]]+", path)]
    node: Any = result
    for key, following in pairwise(keys):
        held = _get(node, key)
        if not isinstance(held, list if isinstance(following, int) else dict):
            held = [] if isinstance(following, int) else {}
            _set(node, key, held)
        node = held
    if keys:
        _set(node, keys[-1], value)


def _get(node: Any, key: str | int) -> Any:
    if isinstance(node, list):
        return node[key] if isinstance(key, int) and key < len(node) else None
    return node.get(key)


def _set(node: Any, key: str | int, value: Any) -> None:
    if isinstance(node, list) and isinstance(key, int):
        node.extend([None] * (key + 1 - len(node)))
    node[key] = value
