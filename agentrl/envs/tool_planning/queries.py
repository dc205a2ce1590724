"""Queries over the world with the calls that they need: normal ones of 2-3 calls, hard ones of 4-6.

A query asks for something about cities (temperature, hotel, time, population, distance), often computed (difference,
sum, other unit or currency), sent to someone, or translated. Cities are named, or must be found first: the capital of a
country, the venue of an event, the birthplace of the author of a work. All entities of a query are of one region, which
is its family: splits share no entity.

Each requirement (see ``completeness.matching``) carries two more keys: ``call``, how the expert makes it, and
``compact``, the same in the words of the compact view.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.encyclopedia import Entity
from agentrl.encyclopedia.questions import PHRASES
from agentrl.envs.tool_planning.schemas import LANGUAGES, TOOLS
from agentrl.envs.tool_planning.world import World
from agentrl.summarizer import plain as told_value

TRIES = 40  # drafts for each query wanted, before a region is given up
OFFERED = 8  # tools offered with a normal query; hard ones come with all
LEVELS = ("normal", "hard")
Json = Any


@dataclass(frozen=True, slots=True)
class Node:
    """A thing that a query speaks of. ``told`` in the text view, ``short`` in the compact one, ``source`` for calls:
    its value, or a reference to the result that holds it."""

    told: str
    short: str
    value: Any
    source: Json

    @property
    def ref(self) -> str | None:
        """The requirement whose result holds it, if any."""
        return str(self.source["$ref"]) if isinstance(self.source, Mapping) else None


class Impossible(Exception):
    """This draft asks for something that the region does not have."""


@dataclass
class Draft:
    """A query in the making: its requirements, and the entities that it names."""

    world: World
    members: Sequence[Entity]
    rng: random.Random
    requirements: list[dict[str, Any]] = field(default_factory=list)
    named: dict[str, Entity] = field(default_factory=dict)
    language: str = LANGUAGES[0]

    def name(self, kind: str) -> Node:
        """A random entity of a kind that the query has not named yet."""
        free = [entity for entity in self.members if entity.kind == kind and entity.name not in self.named]
        if not free:
            raise Impossible
        entity = self.rng.choice(free)
        self.named[entity.name] = entity
        return Node(entity.name, entity.short, entity.name, entity.name)

    def lookup(self, subject: Node, relation: str) -> Node:
        """A fact about an entity; reading its article serves as well."""
        fact = self.world.encyclopedia.entities[subject.value].facts.get(relation)
        if fact is None:
            raise Impossible
        value = fact.number if fact.number is not None else fact.value
        patterns: list[dict[str, Any]] = [
            {"tool": "lookup", "arguments": {"entity": one_of(subject.source), "relation": one_of(relation)}},
            {
                "tool": "search",
                "open": True,
                "result": {"field": "titles", "has": subject.value},
                "fields": {"value": value},
            },
        ]
        arguments = {"entity": subject.source, "relation": relation}
        made = self.need("lookup", arguments, ["lookup", relation, subject], patterns, [subject])
        told = self.rng.choice(PHRASES.get(relation, (f"the {relation} of {{s}}",))).format(s=subject.told)
        return Node(told, f"{relation} of {subject.short}", value, at(made, "value"))

    def about(self, tool: str, told: str, field_: str, city: Node) -> Node:
        """What a tool of one argument says about a city."""
        pattern = {"tool": tool, "arguments": {"city": one_of(city.source)}}
        made = self.need(tool, {"city": city.source}, [tool, city], [pattern], [city])
        value = self.world.call(tool, {"city": city.value}).result[field_]
        return Node(told.format(c=city.told), f"{tool} {city.short}", value, at(made, field_))

    def distance(self, one: Node, other: Node) -> Node:
        """Kilometres between two cities, whichever way."""
        both = [(one, other), (other, one)]
        patterns = [
            {"tool": "distance", "arguments": {"origin": one_of(a.source), "destination": one_of(b.source)}}
            for a, b in both
        ]
        arguments = {"origin": one.source, "destination": other.source}
        made = self.need("distance", arguments, ["distance", one, other], patterns, both[0])
        value = self.world.call("distance", {"origin": one.value, "destination": other.value}).result["kilometres"]
        told = f"the distance between {one.told} and {other.told}"
        return Node(told, f"distance {one.short} to {other.short}", value, at(made, "kilometres"))

    def convert(self, node: Node, source: str, target: str, told: str) -> Node:
        """A value in another unit; computing it serves as well."""
        value = self.world.call("convert", {"value": node.value, "source": source, "target": target}).result["value"]
        rules = {"value": one_of(node.source), "source": one_of(source), "target": one_of(target)}
        patterns = [{"tool": "convert", "arguments": rules}, *computed(value, 0.01 + abs(value) * 1e-3)]
        arguments = {"value": node.source, "source": source, "target": target}
        made = self.need("convert", arguments, ["convert", node], patterns, [node])
        return Node(f"{node.told} {told}", f"convert {node.short}", value, at(made, "value"))

    def crowns(self, node: Node, money: Json, value_money: str) -> Node:
        """A price in crowns; ``money`` is where its currency is read."""
        served = self.world.call("currency", {"amount": node.value, "source": value_money, "target": "crowns"})
        rules = {"amount": one_of(node.source), "source": one_of(money), "target": one_of("crowns")}
        arguments = {"amount": node.source, "source": money, "target": "crowns"}
        patterns = [{"tool": "currency", "arguments": rules}]
        made = self.need("currency", arguments, ["currency", node], patterns, [node])
        return Node(f"{node.told} in crowns", f"currency {node.short}", served.result["amount"], at(made, "amount"))

    def compute(self, verb: str, sign: str, nodes: Sequence[Node], told: str) -> Node:
        """A difference or sum of results, by ``calculate`` or ``code``."""
        values = [node.value for node in nodes]
        value = round(values[0] - values[1] if verb == "subtract" else sum(values), 9)
        text: list[Json] = [nodes[0].source]
        for node in nodes[1:]:
            text += [f" {sign} ", node.source]
        patterns = computed(value, 0.01, absolute=verb == "subtract")
        made = self.need("calculate", {"expression": {"$text": text}}, [verb, *nodes], patterns, nodes)
        return Node(told, f"{verb} {' and '.join(node.short for node in nodes)}", value, at(made, "value"))

    def email(self, person: Node, node: Node) -> Node:
        """An email that holds a result."""
        rules = {"person": one_of(person.source), "body": one_of(node.source) | {"contains": True}}
        body = {"$text": [f"{node.told[0].upper()}{node.told[1:]}: ", node.source]}
        pattern = {"tool": "email", "arguments": rules}
        made = self.need("email", {"person": person.source, "body": body}, ["email", person, node], [pattern], [node])
        return Node("", f"email {person.short} {node.short}", True, at(made, "sent"))

    def translate(self, node: Node) -> Node:
        self.language = self.rng.choice(LANGUAGES)
        rules = {"text": one_of(node.source), "language": one_of(self.language)}
        arguments = {"text": node.source, "language": self.language}
        made = self.need(
            "translate", arguments, ["translate", node], [{"tool": "translate", "arguments": rules}], [node]
        )
        said = self.world.call("translate", {"text": node.value, "language": self.language}).result["text"]
        return Node("", f"translate {node.short}", said, at(made, "text"))

    def need(
        self, tool: str, arguments: Json, compact: list[Any], patterns: list[dict[str, Any]], uses: Sequence[Node]
    ) -> str:
        """Add a requirement; gives its id."""
        made = f"r{len(self.requirements)}"
        parts = [
            part if isinstance(part, str) else {"$ref": part.ref} if part.ref is not None else part.short
            for part in compact
        ]
        after = list(dict.fromkeys(node.ref for node in uses if node.ref is not None))
        call = {"tool": tool, "arguments": arguments}
        self.requirements.append({"id": made, "any": patterns, "after": after, "call": call, "compact": parts})
        return made


def one_of(source: Json) -> dict[str, Any]:
    return {"values": [source]}


def at(made: str, name: str) -> dict[str, str]:
    """A reference to a field of a result."""
    return {"$ref": made, "field": name}


def computed(value: float, tolerance: float, absolute: bool = False) -> list[dict[str, Any]]:
    """Any computation that comes to this number."""
    rule = {"number": value, "tolerance": tolerance, **({"absolute": True} if absolute else {})}
    return [{"tool": tool, "open": True, "result": rule, "fields": {"value": value}} for tool in ("calculate", "code")]


def found(draft: Draft, hops: int) -> Node:
    """A city: named (0 hops), or to be found by one or two look-ups."""
    if hops == 0:
        return draft.name("city")
    kind, *relations = draft.rng.choice(WAYS[hops])
    node = draft.name(kind)
    for relation in relations:
        node = draft.lookup(node, relation)
    return node


WAYS: Mapping[int, Sequence[tuple[str, ...]]] = {
    1: (("country", "capital"), ("person", "birthplace"), ("event", "venue")),
    2: (("work", "author", "birthplace"), ("event", "winner", "birthplace"), ("country", "leader", "birthplace")),
}
ABOUT: Sequence[tuple[str, str, str]] = (
    ("weather", "the temperature in {c}", "celsius"),
    ("hotel", "the price of the best hotel in {c}", "price"),
    ("time", "the local time in {c}", "hour"),
)


def asked(draft: Draft, city: Node, kinds: Sequence[str] = ("weather", "hotel", "time", "population")) -> Node:
    """One value about a city."""
    kind = draft.rng.choice(list(kinds))
    if kind == "population":
        return draft.lookup(city, "population")
    tool, told, name = next(entry for entry in ABOUT if entry[0] == kind)
    return draft.about(tool, told, name, city)


def _same(draft: Draft, cities: Sequence[Node]) -> list[Node]:
    """The same value about several cities, which must differ."""
    if len({city.value for city in cities}) < len(cities):
        raise Impossible
    kind = draft.rng.choice(("weather", "hotel", "time", "population"))
    return [asked(draft, city, (kind,)) for city in cities]


def difference(draft: Draft, *hops: int) -> tuple[str, Node]:
    nodes = _same(draft, [found(draft, count) for count in hops])
    told = f"the difference between {nodes[0].told} and {nodes[1].told}"
    return f"What is {told}?", draft.compute("subtract", "-", nodes, told)


def plain(draft: Draft, hops: int) -> tuple[str, Node]:
    node = asked(draft, found(draft, hops))
    return f"What is {node.told}?", node


def fahrenheit(draft: Draft, hops: int) -> Node:
    return draft.convert(
        asked(draft, found(draft, hops), ("weather",)), "celsius", "fahrenheit", "in degrees Fahrenheit"
    )


def converted(draft: Draft, hops: int) -> tuple[str, Node]:
    node = fahrenheit(draft, hops)
    return f"What is {node.told}?", node


def price(draft: Draft, *hops: int) -> tuple[str, Node]:
    """One night in the hotels of one or more cities, in crowns."""
    cities = [found(draft, count) for count in hops]
    if len({city.value for city in cities}) < len(cities):
        raise Impossible
    nights = [asked(draft, city, ("hotel",)) for city in cities]
    money = str(draft.world.call("hotel", {"city": cities[0].value}).result["currency"])
    total = nights[0]
    if len(nights) > 1:
        told = "the price of one night in the best hotels of " + " and ".join(city.told for city in cities)
        total = draft.compute("add", "+", nights, f"{told} together")
    node = draft.crowns(total, at(str(nights[0].ref), "currency"), money)
    return f"What is {node.told}?", node


def miles(draft: Draft, *hops: int) -> tuple[str, Node]:
    one, other = (found(draft, count) for count in hops)
    if one.value == other.value:
        raise Impossible
    node = draft.convert(draft.distance(one, other), "kilometres", "miles", "in miles")
    return f"What is {node.told}?", node


def told(draft: Draft, hops: int, in_fahrenheit: bool = False) -> tuple[str, Node]:
    node = fahrenheit(draft, hops) if in_fahrenheit else asked(draft, found(draft, hops))
    person = draft.name("person")
    return f"Send {person.told} an email that says what {node.told} is.", draft.email(person, node)


def translated(draft: Draft, hops: int) -> tuple[str, Node]:
    node = found(draft, hops)
    done = draft.translate(node)
    return f"Translate the name of {node.told} into {draft.language}.", done


Template = Callable[[Draft], tuple[str, Node]]
TEMPLATES: Mapping[str, Sequence[Template]] = {
    "normal": (
        lambda d: plain(d, 1),
        lambda d: converted(d, 0),
        lambda d: converted(d, 1),
        lambda d: price(d, 0),
        lambda d: price(d, 1),
        lambda d: difference(d, 0, 0),
        lambda d: miles(d, 0, 0),
        lambda d: miles(d, 0, 1),
        lambda d: told(d, 0),
        lambda d: told(d, 1),
        lambda d: translated(d, 1),
        lambda d: translated(d, 2),
    ),
    "hard": (
        lambda d: difference(d, 0, 1),
        lambda d: difference(d, 1, 1),
        lambda d: difference(d, 0, 2),
        lambda d: miles(d, 1, 1),
        lambda d: miles(d, 1, 2),
        lambda d: price(d, 2),
        lambda d: price(d, 0, 0),
        lambda d: price(d, 0, 1),
        lambda d: price(d, 0, 0, 0),
        lambda d: told(d, 2),
        lambda d: told(d, 1, True),
        lambda d: told(d, 2, True),
    ),
}


def region_queries(world: World, region: str, per_level: int) -> list[dict[str, Any]]:
    """Data of the tasks of a region: ``per_level`` normal ones and as many hard ones (fewer where it has no more)."""
    members = world.encyclopedia.regions[region]
    rng = random.Random(f"queries/{world.seed}/{region}")
    made: dict[str, dict[str, Any]] = {}
    for level in LEVELS:
        count = len(made) + per_level
        for number in range(TRIES * per_level):
            if len(made) >= count:
                break
            draft = Draft(world, members, rng)
            try:
                query, node = TEMPLATES[level][number % len(TEMPLATES[level])](draft)
            except Impossible:
                continue
            made.setdefault(query, _record(draft, level, query, node))
    return list(made.values())


def _record(draft: Draft, level: str, query: str, node: Node) -> dict[str, Any]:
    """The task's data: JSON-able, all that an episode needs beside the world."""
    needed = {pattern["tool"] for requirement in draft.requirements for pattern in requirement["any"]}
    others = [tool for tool in TOOLS if tool not in needed]
    extra = draft.rng.sample(others, max(0, OFFERED - len(needed)))
    return {
        "level": level,
        "query": query,
        "short": f"want {node.short}",
        "tools": [tool for tool in TOOLS if level == "hard" or tool in needed or tool in extra],
        "names": [[entity.name, entity.kind, entity.short] for entity in draft.named.values()],
        "language": draft.language,
        "requirements": draft.requirements,
        "reference": told_value(node.value),
    }
