"""Requirements, and how the calls that were made are matched to them.

A requirement is JSON in ``task.data["requirements"]``::

    {"id": "r2",
     "any": [{"tool": "distance",                        one of these patterns must be met by one call
              "arguments": {"origin": {"values": [{"$ref": "r0", "field": "value"}]},      a reference to a result
                            "unit": {"values": ["km", "kilometres"], "optional": true}},
              "result": {"number": 7.5, "tolerance": 0.01},   or {"field": "titles", "has": "Orvel"}; if it matters
              "fields": {"value": "Orvel"}}],                 what references read, where the result has no such field
     "after": ["r0"]}                                         requirements that must be met by earlier calls

Argument rules: ``values`` (any of them), ``optional`` (may be left out), ``schema`` (compare by BFCL's rules),
``contains`` (the argument's text must contain the value). ``{"$text": ["5 * ", {"$ref": ...}]}`` is a text with
references inside. Arguments that no rule names are not allowed.

A trajectory is complete iff every requirement is matched by a call of its own and every reference by the result of
the call that met what it refers to; order counts along references and ``after`` alone. Tasks whose requirements carry a
``turn`` are sequences instead: those of each turn must occur in order among the calls of that turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.completeness.values import allowed, equal
from agentrl.types import Task, Trajectory

MISSING = object()  # a reference that cannot be resolved
REMEMBERED = 4096  # plans whose order is remembered
BUDGET = 10_000  # tries of the search for a best matching; enough for all plans of a dozen calls
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made. ``ok``: it was valid and executed; ``turn``: the user's turn it belongs to (from 0)."""

    tool: str
    arguments: Mapping[str, Any]
    result: Any = None
    ok: bool = True
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """``pairs``: requirement id to index of its call; ``reads``: what references to it read. ``needed``: how many
    requirements; ``made``: how many calls."""

    pairs: Mapping[str, int] = field(default_factory=dict)
    reads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needed: int = 0
    made: int = 0

    @property
    def loose(self) -> bool:
        """All requirements are matched."""
        return len(self.pairs) == self.needed

    @property
    def strict(self) -> bool:
        """All requirements are matched, and no call was made besides."""
        return self.loose and self.made == self.needed

    @property
    def partial(self) -> float:
        """Share of the requirements that are matched (1 where nothing is required)."""
        return len(self.pairs) / self.needed if self.needed else 1.0


def calls_of(trajectory: Trajectory) -> tuple[Call, ...]:
    """The calls of a play, from ``info["calls"]`` of its turns."""
    return tuple(Call(**call) for turn in trajectory.turns for call in turn.info.get("calls", ()))


def scores(task: Task, calls: Sequence[Call]) -> Match:
    """The best matching of a task's requirements by these calls."""
    return match(task.data["requirements"], calls)


def match(requirements: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> Match:
    """A matching with the most requirements met. Exact for plans of up to a dozen calls (see ``BUDGET``)."""
    if any("turn" in requirement for requirement in requirements):
        return Match(_sequences(requirements, calls), {}, len(requirements), len(calls))
    pairs, reads = _Search(requirements, calls).best()
    return Match(pairs, reads, len(requirements), len(calls))


def meets(call: Call, pattern: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> bool:
    """Does the call meet the pattern? ``fields``: what references may read, by requirement."""
    if not call.ok or call.tool != pattern["tool"]:
        return False
    rules: Mapping[str, Mapping[str, Any]] = pattern.get("arguments", {})
    if not pattern.get("open", False) and any(name not in rules for name in call.arguments):
        return False
    for name, rule in rules.items():
        if name not in call.arguments:
            if not rule.get("optional", False):
                return False
        elif not _fits(call.arguments[name], rule, fields):
            return False
    return _results_fit(call.result, pattern.get("result"))


def resolve(node: Any, fields: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value with its references replaced by results; ``MISSING`` where one has none."""
    if isinstance(node, Mapping):
        if "$ref" in node:
            return read_field(fields.get(node["$ref"], {}), str(node.get("field", "")))
        if "$text" in node:
            parts = [resolve(part, fields) for part in node["$text"]]
            return MISSING if MISSING in parts else "".join(_as_text(part) for part in parts)
        inner = {key: resolve(value, fields) for key, value in node.items()}
        return MISSING if MISSING in inner.values() else inner
    if isinstance(node, list):
        listed = [resolve(value, fields) for value in node]
        return MISSING if any(value is MISSING for value in listed) else listed
    return node


def read_field(result: Any, path: str) -> Any:
    """A part of a result: ``""`` all of it, else ``author[0].id``-like paths; a whole path may be a key by itself."""
    if not path:
        return result if result != {} else MISSING
    if isinstance(result, Mapping) and path in result:
        return result[path]
    for key in re.findall(r"[^.\[\]]+", path):
        if isinstance(result, Mapping) and key in result:
            result = result[key]
        elif isinstance(result, list) and key.isdecimal() and int(key) < len(result):
            result = result[int(key)]
        else:
            return MISSING
    return result


def references(node: Any) -> Iterator[str]:
    """Ids of the requirements that a value refers to."""
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield str(node["$ref"])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fits(value: Any, rule: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> bool:
    if "schema" in rule:
        return allowed(value, rule["values"], rule["schema"])
    for node in rule["values"]:
        wanted = resolve(node, fields)
        if wanted is MISSING:
            continue
        if rule.get("contains"):
            if _as_text(wanted).casefold() in _as_text(value).casefold():
                return True
        elif equal(value, wanted):
            return True
    return False


def _results_fit(result: Any, rule: Mapping[str, Any] | None) -> bool:
    """``number``: the last number of the result (``absolute``: whatever its sign); ``field`` and ``has``: a field
    that holds a value."""
    if rule is None:
        return True
    if "number" in rule:
        text = _as_text(next(iter(result.values()), "") if isinstance(result, Mapping) else result)
        found = NUMBER.findall(text.replace(",", ""))
        if not found:
            return False
        value, wanted, tolerance = float(found[-1]), float(rule["number"]), float(rule.get("tolerance", 0.0))
        if rule.get("absolute"):
            value, wanted = abs(value), abs(wanted)
        return abs(value - wanted) <= tolerance + 1e-9
    held = read_field(result, rule["field"])
    return rule["has"] in held if isinstance(held, list | str) else False


class _Search:
    """Depth-first search for the matching with most pairs; requirements in an order that respects dependencies.

    Of equal calls a requirement needs to try only as many of the earliest free ones as there are requirements: any
    solution can be shifted to such calls without harm.
    """

    def __init__(self, requirements: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> None:
        self.calls = calls
        self.plan = _plan(requirements)
        self.order = self.plan.order
        self.kinds = [json.dumps([c.tool, c.arguments, c.result], sort_keys=True, default=str) for c in calls]
        self.found: dict[str, int] = {}
        self.reads: dict[str, Mapping[str, Any]] = {}
        self.fixed: dict[int, list[int]] = {}  # pattern (by its id) -> calls that meet it
        self.tries = 0

    def best(self) -> tuple[dict[str, int], dict[str, Mapping[str, Any]]]:
        """Pairs and reads of a matching with the most pairs."""
        self._extend(0, {}, {})
        return self.found, self.reads

    def _extend(self, place: int, pairs: dict[str, int], fields: dict[str, Mapping[str, Any]]) -> None:
        if len(pairs) > len(self.found):
            self.found, self.reads = dict(pairs), dict(fields)
        left = len(self.order) - place
        if not left or len(pairs) + left <= len(self.found) or self.tries > BUDGET:
            return
        requirement = self.order[place]
        name = str(requirement["id"])
        for index, read in self._candidates(requirement, pairs, fields):
            self.tries += 1
            self._extend(place + 1, pairs | {name: index}, fields | {name: read})
        self._extend(place + 1, pairs, fields)  # without this one

    def _candidates(
        self, requirement: Mapping[str, Any], pairs: Mapping[str, int], fields: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Calls that meet the requirement, and what references to it read."""
        needed = [str(other) for other in requirement.get("after", ())]
        if any(other not in pairs for other in needed):
            return
        used, seen = set(pairs.values()), dict.fromkeys(self.kinds, 0)
        for pattern in requirement["any"]:
            referred = self.plan.referred[id(pattern)]
            earliest = max((pairs[other] for other in (*needed, *referred) if other in pairs), default=-1)
            for index in self._meeting(pattern, fields):
                call, kind = self.calls[index], self.kinds[index]
                if index <= earliest or index in used or seen[kind] >= len(self.order):
                    continue
                seen[kind] += 1
                known = pattern.get("fields", {})
                own = call.result if isinstance(call.result, Mapping) else {"": call.result}
                yield index, {**own, **known}

    def _meeting(self, pattern: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> list[int]:
        """Calls that meet a pattern; remembered where it refers to nothing."""
        found = self.fixed.get(id(pattern))
        if found is None:
            found = [index for index, call in enumerate(self.calls) if meets(call, pattern, fields)]
            if not self.plan.referred[id(pattern)]:
                self.fixed[id(pattern)] = found
        return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """Requirements in an order to try them in; ``referred``: pattern (by its id) to what its arguments refer to."""

    source: Sequence[Mapping[str, Any]]  # kept, so that ids stay those of these objects
    order: Sequence[Mapping[str, Any]]
    referred: Mapping[int, tuple[str, ...]]


def _plan(requirements: Sequence[Mapping[str, Any]]) -> _Plan:
    """The plan of these requirements, remembered while they are in use."""
    plan = _PLANS.get(id(requirements))
    if plan is None or plan.source is not requirements:
        patterns = [pattern for requirement in requirements for pattern in requirement["any"]]
        referred = {id(pattern): tuple(references(pattern.get("arguments", {}))) for pattern in patterns}
        plan = _Plan(requirements, _topological(requirements), referred)
        if len(_PLANS) >= REMEMBERED:
            _PLANS.clear()
        _PLANS[id(requirements)] = plan
    return plan


_PLANS: dict[int, _Plan] = {}


def _topological(requirements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Requirements behind all they refer to (they are listed that way as a rule)."""
    done: set[str] = set()
    order: list[Mapping[str, Any]] = []
    waiting = list(requirements)
    while waiting:
        names = {str(r["id"]) for r in waiting}
        ready = [r for r in waiting if not names & ({*map(str, r.get("after", ())), *references(r["any"])} - done)]
        for requirement in ready or waiting[:1]:
            order.append(requirement)
            done.add(str(requirement["id"]))
            waiting.remove(requirement)
    return order


def _sequences(requirements: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> dict[str, int]:
    """The longest common subsequence of required and made calls, turn by turn."""
    pairs: dict[str, int] = {}
    for turn in sorted({int(r["turn"]) for r in requirements}):
        wanted = [r for r in requirements if int(r["turn"]) == turn]
        made = [index for index, call in enumerate(calls) if call.turn == turn]
        pairs |= _subsequence(wanted, made, calls)
    return pairs


def _subsequence(wanted: Sequence[Mapping[str, Any]], made: Sequence[int], calls: Sequence[Call]) -> dict[str, int]:
    fits = [[any(meets(calls[index], pattern, {}) for pattern in r["any"]) for index in made] for r in wanted]
    best = [[0] * (len(made) + 1) for _ in range(len(wanted) + 1)]
    for i in range(len(wanted) - 1, -1, -1):
        for j in range(len(made) - 1, -1, -1):
            best[i][j] = best[i + 1][j + 1] + 1 if fits[i][j] else max(best[i + 1][j], best[i][j + 1])
    pairs, i, j = {}, 0, 0
    while i < len(wanted) and j < len(made):
        if fits[i][j]:
            pairs[str(wanted[i]["id"])] = made[j]
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs
