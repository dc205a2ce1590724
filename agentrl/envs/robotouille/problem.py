"""Problem files: one kitchen, who stands where, and what is wanted.

The format is the original's (``stations``, ``items``, ``players``, ``containers``, ``meals``, ``goal_description``,
``goal``), so its files load as they are. Entities are sorted by (x, y) and numbered by kind: ``table1``, ``table2`` ...
``num_cuts`` and ``cook_time`` of a file are ignored, as in the original.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.envs.robotouille.domain import KINDS, PREDICATE
from agentrl.errors import DataError

LISTS = {"stations": "station", "items": "item", "players": "player", "containers": "container", "meals": "meal"}


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing at (x, y), in grid cells; ``level``: its place in a stack; ``facing``: where a player looks."""

    kind: str
    name: str
    x: int
    y: int
    level: int = 0
    facing: tuple[int, int] = (0, 0)
    predicates: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One literal of a goal: ``args`` name kinds (or parts of kinds), ``ids`` tell which of them are the same thing."""

    predicate: str
    args: tuple[str, ...]
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A numbered kitchen; every list is in the order of the objects of its type."""

    stations: tuple[Entity, ...]
    items: tuple[Entity, ...]
    players: tuple[Entity, ...]
    containers: tuple[Entity, ...]
    meals: tuple[Entity, ...]
    goal_text: str
    goal: tuple[Wanted, ...]

    def entities(self, kind: str) -> tuple[Entity, ...]:
        """The entities of a type: ``station``, ``item``, ``player``, ``container`` or ``meal``."""
        found: tuple[Entity, ...] = getattr(self, kind + "s")
        return found


def load(path: Path) -> dict[str, Any]:
    """A problem file as it stands. Raises DataError when it is missing or no JSON object."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"robotouille: there is no problem file {path}; give one that exists") from None
    except (OSError, ValueError) as error:
        raise DataError(f"robotouille: problem file {path} cannot be read ({error}); is it whole?") from None
    if not isinstance(raw, dict):
        raise DataError(f"robotouille: problem file {path} holds a {type(raw).__name__}, expected a JSON object")
    return raw


def by_place(entities: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies of raw entities sorted by (x, y), then file order: the order of numbering and of the generator."""
    return sorted((dict(entity) for entity in entities), key=lambda entity: (entity["x"], entity["y"]))


def to_problem(raw: Mapping[str, Any], where: str = "problem") -> Problem:
    """The numbered kitchen of a raw problem. Raises DataError naming the first thing that is wrong."""
    try:
        lists = {key: _entities(raw.get(key, ()), kind, f"{where}: {key}") for key, kind in LISTS.items()}
        goal = tuple(_wanted(entry, f"{where}: goal[{number}]") for number, entry in enumerate(raw["goal"]))
        text = str(raw["goal_description"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: {error!r} while reading it; expected stations, items, players, goal_description and goal"
        ) from None
    if not lists["stations"] or not lists["players"]:
        raise DataError(f"{where}: no stations or no players; a kitchen needs at least one of each")
    return Problem(**lists, goal_text=text, goal=goal)


def _entities(raw: Sequence[Mapping[str, Any]], kind: str, where: str) -> tuple[Entity, ...]:
    counts: Counter[str] = Counter()
    made = []
    for entry in by_place(raw):
        name = entry.get("typed_enum", entry["name"])
        if name not in KINDS[kind]:
            raise DataError(f"{where}: unknown {kind} {name!r}; expected one of {', '.join(KINDS[kind])}")
        counts[name] += 1
        facts = tuple(entry.get("predicates", ()))
        for fact in facts:
            if fact not in PREDICATE or PREDICATE[fact].types != (kind,):
                raise DataError(f"{where}: {name} cannot be {fact!r}; expected a predicate of one {kind}")
        facing = tuple(int(part) for part in entry.get("direction", (0, 0)))
        if len(facing) != 2:
            raise DataError(f"{where}: direction {facing} of {name}; expected two numbers")
        level, thing = int(entry.get("stack-level", 0)), str(entry.get("id", ""))
        made.append(
            Entity(name, f"{name}{counts[name]}", int(entry["x"]), int(entry["y"]), level, facing, facts, thing)
        )
    return tuple(made)


def _wanted(raw: Mapping[str, Any], where: str) -> Wanted:
    predicate, args, ids = raw["predicate"], tuple(raw["args"]), tuple(str(thing) for thing in raw["ids"])
    if predicate not in PREDICATE:
        raise DataError(f"{where}: unknown predicate {predicate!r}; see the domain's list")
    if not len(args) == len(ids) == len(PREDICATE[predicate].types):
        raise DataError(f"{where}: {predicate} takes {len(PREDICATE[predicate].types)} args and ids, got {args}, {ids}")
    return Wanted(predicate, args, ids)
