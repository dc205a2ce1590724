"""The compact view: a query and the calls made so far in 20-90 known words, one call per turn.

Goal and observation are all a player needs; results are named by labels, which later calls use::

    want subtract weather bamboo rice and weather capital of velmora onion
    item1 weather bamboo rice is 23 | item2 lookup capital velmora onion is cotton bun
    > call weather item2                      > call subtract item1 item3                    > answer

``call subtract`` and ``call add`` stand for the tool ``calculate``; units, currencies and the language follow from what
is converted or translated. Text outside this grammar does not parse; a call of something that is not there is a call
that fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.completeness import Call
from agentrl.encyclopedia import RELATIONS
from agentrl.envs.tool_planning.world import World
from agentrl.types import Task, ToolCall

LABELS = 7  # results that are named: those of all turns but the last
COMPACT_WORDS = (
    "item5", "item6", "item7", "capital", "birthplace", "venue", "leader", "winner", "population",
)  # fmt: skip
CITY_TOOLS = ("weather", "hotel", "time")
FOUND_BY = {"country": "capital", "person": "birthplace", "event": "venue", "work": "author"}  # tried by ``actions``
SIGNS = {"subtract": " - ", "add": " + "}
UNITS = {"weather": ("celsius", "fahrenheit"), "distance": ("kilometres", "miles")}
NOWHERE = "nowhere"  # stands for a name that cannot be read


@dataclass(frozen=True, slots=True)
class Item:
    """A result with a label. ``short``: its value in the view; ``value``: for later calls (None: nothing to use)."""

    label: str
    call: Call
    words: str
    short: str
    value: Any


def items(calls: Sequence[Call], world: World) -> list[Item]:
    """The labelled results: calls that worked, each once."""
    listed: list[Item] = []
    for call in calls:
        if call.ok and all(call != item.call for item in listed) and len(listed) < LABELS:
            value = value_of(call)
            listed.append(Item(f"item{len(listed) + 1}", call, _words(call, listed, world), _short(call, world), value))
    return listed


def value_of(call: Call) -> Any:
    """The part of a result that later calls use."""
    names = ("value", "celsius", "price", "hour", "kilometres", "amount", "text", "free")
    return next((call.result[name] for name in names if name in call.result), None)


def observe(calls: Sequence[Call], failed: bool, world: World) -> str:
    """The calls so far; ``error`` stands first when the last action failed."""
    listed = [f"{item.label} {item.words} is {item.short}" for item in items(calls, world)]
    return " | ".join([*(["error"] if failed else []), *(listed or ["done none"])])


def parse(text: str, task: Task, calls: Sequence[Call], world: World) -> ToolCall | str | None:
    """The call that an action means, ``answer``, or None when it is not in the grammar."""
    words = text.strip().split()
    if words == ["answer"]:
        return "answer"
    if len(words) < 3 or words[0] != "call":
        return None
    tool, rest = words[1], words[2:]
    listed = {item.label: item for item in items(calls, world)}
    if tool == "lookup":
        if rest[0] not in RELATIONS or len(rest) < 2:
            return None
        (name,) = _names(rest[1:], 1, listed, world)
        return ToolCall("lookup", {"entity": str(name), "relation": rest[0]})
    if tool in CITY_TOOLS:
        (name,) = _names(rest, 1, listed, world)
        return ToolCall(tool, {"city": str(name)})
    if tool == "distance":
        one, other = _names(rest, 2, listed, world)
        return ToolCall("distance", {"origin": str(one), "destination": str(other)})
    if tool in SIGNS:
        values = [listed[word].value if word in listed else NOWHERE for word in rest]
        return ToolCall("calculate", {"expression": SIGNS[tool].join(map(str, values))})
    return _other(tool, rest, task, listed, world)


def _other(tool: str, rest: Sequence[str], task: Task, listed: Mapping[str, Item], world: World) -> ToolCall | None:
    used = listed.get(rest[-1])
    if tool in ("convert", "currency"):
        value = used.value if used else None
        number = value if isinstance(value, int | float) else NOWHERE
        if tool == "convert":
            source, target = UNITS.get(used.call.tool if used else "", UNITS["weather"])
            return ToolCall("convert", {"value": number, "source": source, "target": target})
        hotels = [item.call.result["currency"] for item in listed.values() if item.call.tool == "hotel"]
        return ToolCall("currency", {"amount": number, "source": (hotels or ["marks"])[0], "target": "crowns"})
    if tool == "email":
        (person,) = _names(rest[:-1] or [NOWHERE], 1, listed, world)
        return ToolCall("email", {"person": str(person), "body": str(used.value if used else rest[-1])})
    text = str(_names(rest, 1, listed, world)[0])
    plain = {
        "translate": {"text": text, "language": task.data["language"]},
        "calendar": {"person": text},
        "news": {"topic": text},
        "stock": {"company": text},
        "search": {"query": text},
    }
    return ToolCall(tool, plain[tool]) if tool in plain else None


def _names(words: Sequence[str], count: int, listed: Mapping[str, Item], world: World) -> list[Any]:
    """So many names or labelled values, read from left to right; ``NOWHERE`` for what cannot be read."""
    found: list[Any] = []
    place = 0
    while place < len(words) and len(found) < count:
        if words[place] in listed:
            found.append(listed[words[place]].value)
            place += 1
            continue
        for length in (3, 2, 1):
            entity = world.encyclopedia.find(" ".join(words[place : place + length]))
            if entity is not None:
                found.append(entity.name)
                break
        place += length
        if entity is None:
            break
    return [NOWHERE if name is None else name for name in (*found, *[None] * (count - len(found)))]


def _words(call: Call, before: Sequence[Item], world: World) -> str:
    """What was called, as an action has it without ``call``."""
    given = call.arguments
    if call.tool == "lookup":
        return f"lookup {given['relation']} {_named(given['entity'], world)}"
    if call.tool == "calculate":
        verb = "subtract" if " - " in given["expression"] else "add"
        parts = given["expression"].split(SIGNS[verb])
        return " ".join([verb, *(_label(part, before) for part in parts)])
    if call.tool == "distance":
        return f"distance {_named(given['origin'], world)} {_named(given['destination'], world)}"
    if call.tool == "convert":
        return f"convert {_label(str(given['value']), before)}"
    if call.tool == "currency":
        return f"currency {_label(str(given['amount']), before)}"
    if call.tool == "email":
        return f"email {_named(given['person'], world)} {_label(given['body'], before)}"
    return f"{call.tool} {_named(str(next(iter(given.values()))), world)}"


def _named(name: str, world: World) -> str:
    entity = world.encyclopedia.find(name)
    return "other" if entity is None else entity.short


def _label(text: str, before: Sequence[Item]) -> str:
    """The newest label with this value."""
    return next((item.label for item in reversed(before) if str(item.value) == text), "other")


def _short(call: Call, world: World) -> str:
    value = value_of(call)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100:
        return str(value)
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str) and (entity := world.encyclopedia.find(value)) is not None:
        return entity.short
    return "done" if value is None else "word"


def actions(task: Task, calls: Sequence[Call], world: World) -> list[str]:
    """Calls that can be made of the names and results in view, and ``answer``."""
    listed = items(calls, world)
    offered = set(task.data["tools"])
    things = [(short, kind) for _, kind, short in task.data["names"]]
    for item in listed:
        entity = world.encyclopedia.find(item.value) if isinstance(item.value, str) else None
        if entity is not None:
            things.append((item.label, entity.kind))
    numbers = [item.label for item in listed if isinstance(item.value, int | float)]
    cities = [name for name, kind in things if kind == "city"]
    made = [f"{tool} {name}" for name in cities for tool in CITY_TOOLS]
    made += [f"lookup population {name}" for name in cities]
    made += [f"lookup {FOUND_BY[kind]} {name}" for name, kind in things if kind in FOUND_BY]
    made += [f"lookup leader {name}" for name, kind in things if kind == "country"]
    made += [f"lookup winner {name}" for name, kind in things if kind == "event"]
    made += [f"distance {one} {other}" for i, one in enumerate(cities) for other in cities[i + 1 :]]
    made += [f"{tool} {name}" for name in numbers for tool in ("convert", "currency")]
    made += [f"subtract {one} {other}" for i, one in enumerate(numbers) for other in numbers[i + 1 :]]
    made += [f"add {' '.join(numbers)}"] if len(numbers) > 1 else []
    made += [f"translate {name}" for name in cities]
    made += [f"email {name} {number}" for name, kind in things if kind == "person" for number in numbers]
    return [*(f"call {text}" for text in made if _tool(text) in offered), "answer"]


def _tool(text: str) -> str:
    verb = text.partition(" ")[0]
    return "calculate" if verb in SIGNS else verb


def expert_action(requirement: Mapping[str, Any], calls: Sequence[Call], pairs: Mapping[str, int], world: World) -> str:
    """The compact action that makes a required call; ``pairs`` says which calls met what it refers to."""
    listed = items(calls, world)
    parts: list[str] = []
    for part in requirement["compact"]:
        if isinstance(part, str):
            parts.append(part)
        else:
            call = calls[pairs[part["$ref"]]]
            parts.append(next((item.label for item in listed if item.call == call), "other"))
    return " ".join(["call", *parts])
