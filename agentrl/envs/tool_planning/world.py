"""The world behind the tools: the encyclopedia, and tables (weather, hotels, rates ...) that follow from the seed.

Every tool is a function of its arguments, so calls are remembered. Names are understood as the encyclopedia does
(aliases, any case) and recorded in full, defaults are filled in: equal calls have equal records.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agentrl.encyclopedia import Encyclopedia, Entity, generate
from agentrl.envs.tool_planning.arithmetic import evaluate
from agentrl.envs.tool_planning.sandbox import Sandbox
from agentrl.envs.tool_planning.schemas import CURRENCIES, TOOLS, problem

REMEMBERED = 50_000  # results kept; the oldest go first
SKIES = ("clear", "cloudy", "rain", "fog", "snow")
MILES = 0.621371  # of a kilometre
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: its arguments as understood, its result, and whether it was valid and worked."""

    arguments: Mapping[str, Any]
    result: Mapping[str, Any]
    ok: bool = True


class ToolError(Exception):
    """A call that cannot be served, with the sentence that the caller sees."""


class World:
    """All tools over one encyclopedia; ``size`` is its number of entities."""

    def __init__(self, seed: int, size: int, sandbox: Sandbox) -> None:
        self.seed = seed
        self.encyclopedia: Encyclopedia = generate(seed=seed, size=size)
        self.sandbox = sandbox
        self._known: dict[str, Outcome] = {}

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Outcome:
        """Run one call. Mistakes come back as ``{"error": sentence}``, never as an exception."""
        key = json.dumps([tool, arguments], sort_keys=True)
        found = self._known.get(key)
        if found is None:
            found = self._run(tool, arguments)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = found
        return found

    def _run(self, tool: str, arguments: Mapping[str, Any]) -> Outcome:
        schema = TOOLS.get(tool)
        if schema is None:
            return Outcome(
                arguments, {"error": f"there is no tool '{tool[:60]}'; expected one of {', '.join(TOOLS)}"}, False
            )
        parameters = schema["function"]["parameters"]
        if wrong := problem(parameters, arguments):
            return Outcome(arguments, {"error": f"{tool}: {wrong}"}, False)
        defaults = {key: value["default"] for key, value in parameters["properties"].items() if "default" in value}
        try:
            understood, result = _FUNCTIONS[tool](self, defaults | dict(arguments))
        except ToolError as error:
            return Outcome(arguments, {"error": f"{tool}: {error}"}, False)
        return Outcome(understood, result)

    def draw(self, *what: str) -> random.Random:
        """The generator of one entry of a table."""
        return random.Random("\x1f".join(("tools", str(self.seed), *what)))

    def entity(self, name: str, *kinds: str) -> Entity:
        """The entity of a name. Raises ToolError when there is none of these kinds."""
        found = self.encyclopedia.find(name)
        if found is None or (kinds and found.kind not in kinds):
            raise ToolError(f"no {' or '.join(kinds) or 'entry'} is called '{name[:60]}'")
        return found

    @cached_property
    def _index(self) -> Mapping[str, Mapping[int, float]]:
        """word -> article -> weight: how rare the word is, more in titles."""
        places: dict[str, dict[int, float]] = defaultdict(dict)
        for number, passage in enumerate(self.encyclopedia.passages):
            counts = Counter(words(passage.text)) + Counter(dict.fromkeys(words(passage.title), 3))
            for word, count in counts.items():
                places[word][number] = count / (count + 1.5)
        total = len(self.encyclopedia.passages)
        return {
            word: {n: w * math.log(1 + total / len(found)) for n, w in found.items()} for word, found in places.items()
        }

    def search(self, query: str, top: int) -> list[dict[str, str]]:
        """The articles that share the rarest words with the query, best first."""
        scores: Counter[int] = Counter()
        for word in dict.fromkeys(words(query)):
            scores.update(self._index.get(word, {}))
        best = sorted(scores, key=lambda number: (-scores[number], number))[: max(1, min(top, 10))]
        passages = [self.encyclopedia.passages[number] for number in best]
        return [{"title": passage.title, "text": passage.text} for passage in passages]


def words(text: str) -> list[str]:
    """Lower-case words."""
    return WORD.findall(text.lower())


Served = tuple[Mapping[str, Any], Mapping[str, Any]]


def _search(world: World, given: Mapping[str, Any]) -> Served:
    hits = world.search(given["query"], given["top"])
    return given, {"titles": [hit["title"] for hit in hits], "articles": hits}


def _lookup(world: World, given: Mapping[str, Any]) -> Served:
    entity = world.entity(given["entity"])
    fact = entity.facts.get(given["relation"])
    if fact is None:
        raise ToolError(f"nothing is known about '{given['relation']}' of {entity.name}")
    value = fact.number if fact.number is not None else fact.value
    return {"entity": entity.name, "relation": given["relation"]}, {"value": value}


def _calculate(_world: World, given: Mapping[str, Any]) -> Served:
    try:
        return given, {"value": evaluate(given["expression"])}
    except ValueError as error:
        raise ToolError(str(error)) from None


def _code(world: World, given: Mapping[str, Any]) -> Served:
    ran = world.sandbox.run(given["source"])
    if ran.error:
        raise ToolError(f"{ran.error}{'; output so far: ' + ran.output if ran.output else ''}")
    return given, {"output": ran.output}


def _weather(world: World, given: Mapping[str, Any]) -> Served:
    city = world.entity(given["city"], "city").name
    draw = world.draw("weather", city)
    return {"city": city}, {"celsius": draw.randint(0, 38), "sky": draw.choice(SKIES)}


def _hotel(world: World, given: Mapping[str, Any]) -> Served:
    city = world.entity(given["city"], "city")
    draw, money = world.draw("hotel", city.name), world.draw("money", city.region).choice(CURRENCIES[:2])
    name = f"Hotel {draw.choice(('Astor', 'Bristol', 'Imperial', 'Meridian', 'Pavilion', 'Regent'))}"
    return {"city": city.name}, {"price": draw.randint(20, 99), "currency": money, "name": name}


def _time(world: World, given: Mapping[str, Any]) -> Served:
    city = world.entity(given["city"], "city").name
    return {"city": city}, {"hour": world.draw("time", city).randint(0, 23)}


def _distance(world: World, given: Mapping[str, Any]) -> Served:
    one, other = world.entity(given["origin"], "city").name, world.entity(given["destination"], "city").name
    (a, b), (c, d) = ([world.draw("place", name, axis).uniform(0, 900) for axis in "xy"] for name in (one, other))
    return {"origin": one, "destination": other}, {"kilometres": round(math.hypot(a - c, b - d))}


CONVERSIONS: Mapping[tuple[str, str], Callable[[float], float]] = {
    ("celsius", "fahrenheit"): lambda value: value * 9 / 5 + 32,
    ("fahrenheit", "celsius"): lambda value: (value - 32) * 5 / 9,
    ("kilometres", "miles"): lambda value: value * MILES,
    ("miles", "kilometres"): lambda value: value / MILES,
}


def rounded(value: float) -> float:
    """To two decimals, whole where it is whole."""
    return int(value) if value == int(value) else round(value, 2)


def _convert(_world: World, given: Mapping[str, Any]) -> Served:
    units = given["source"], given["target"]
    if units not in CONVERSIONS:
        raise ToolError(f"{units[0]} cannot become {units[1]}")
    return given, {"value": rounded(CONVERSIONS[units](_sane(given["value"]))), "unit": units[1]}


def _currency(world: World, given: Mapping[str, Any]) -> Served:
    rates = {money: 1.0 + world.draw("rate", money).randint(0, 300) / 100 for money in CURRENCIES}
    amount = _sane(given["amount"]) * rates[given["source"]] / rates[given["target"]]
    return given, {"amount": rounded(amount), "currency": given["target"]}


def _sane(value: float) -> float:
    if not abs(value) <= 1e15:
        raise ToolError("the number is too large")
    return value


def _translate(world: World, given: Mapping[str, Any]) -> Served:
    draw = world.draw("word", given["language"], " ".join(words(given["text"])))
    made = "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(draw.randint(2, 4)))
    return given, {"text": made.capitalize()}


def _email(world: World, given: Mapping[str, Any]) -> Served:
    return {"person": world.entity(given["person"], "person").name, "body": given["body"]}, {"sent": True}


def _calendar(world: World, given: Mapping[str, Any]) -> Served:
    person = world.entity(given["person"], "person").name
    return {"person": person}, {"free": world.draw("calendar", person).randint(8, 18)}


def _news(world: World, given: Mapping[str, Any]) -> Served:
    draw = world.draw("news", " ".join(words(given["topic"])))
    return given, {"headlines": [f"Number {draw.randint(10, 99)} in the {draw.choice(SKIES)} week"]}


def _stock(world: World, given: Mapping[str, Any]) -> Served:
    return given, {"price": world.draw("stock", " ".join(words(given["company"]))).randint(5, 95)}


_FUNCTIONS: Mapping[str, Callable[[World, Mapping[str, Any]], Served]] = {
    "search": _search,
    "lookup": _lookup,
    "calculate": _calculate,
    "code": _code,
    "weather": _weather,
    "hotel": _hotel,
    "time": _time,
    "distance": _distance,
    "convert": _convert,
    "currency": _currency,
    "translate": _translate,
    "email": _email,
    "calendar": _calendar,
    "news": _news,
    "stock": _stock,
}
