"""Seeded kitchens: the original's procedural generation, draw for draw.

A problem file is scattered anew over its grid and joined by random stations and items. All draws come from one
``random.Random(seed)`` in the original's order, so a seed gives the same kitchen as there; a layout that cannot be
finished is drawn again with the next seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.envs.robotouille.problem import by_place
from agentrl.errors import DataError

STATION_NAMES = ("board", "stove", "table", "fryer", "sink")  # order matters: random.choice draws from it
ITEM_NAMES = ("bottombun", "lettuce", "patty", "topbun", "bread", "cheese", "tomato", "onion", "chicken", "potato")
FACINGS = ((0, 1), (1, 0), (0, -1), (-1, 0))
BESIDE = ((0, 1), (0, -1), (1, 0), (-1, 0))  # where a player is tried around its station, in this order
EXTRA = {
    "patty": ["iscookable"], "chicken": ["iscookable"],
    "lettuce": ["iscuttable"], "onion": ["iscuttable"], "tomato": ["iscuttable"],
}  # fmt: skip
TRIES = 1000  # seeds tried before giving up: one that fits is nearly always among the first few

Raw = dict[str, Any]
Cell = tuple[int, int]


class _DoesNotFit(Exception):
    """This seed's draws leave no room; the next seed is tried."""


def generate(raw: Mapping[str, Any], seed: int) -> Raw:
    """A raw problem with the goal of ``raw`` on a new layout. Raises DataError when no seed near this one fits."""
    for attempt in range(seed, seed + TRIES):
        try:
            return _Draw(raw, attempt).problem()
        except _DoesNotFit:
            continue
    raise DataError(f"robotouille: seeds {seed} to {seed + TRIES - 1} all fail; the grid is too small for its entities")


class _Draw:
    """One attempt."""

    def __init__(self, raw: Mapping[str, Any], seed: int) -> None:
        self.raw = raw
        self.width, self.height = int(raw["width"]), int(raw["height"])
        self.rng = random.Random(seed)
        self.old = {key: by_place(raw.get(key, ())) for key in ("stations", "items", "containers", "players")}

    def problem(self) -> Raw:
        new_stations = self._random_stations()
        new_items = self._random_items(new_stations)
        for key, entities in self.old.items():
            for entity in entities:
                entity |= {"x": self.rng.randrange(0, self.width), "y": self.rng.randrange(0, self.height)}
                entity["force_add"] = True
                if key == "players":
                    entity["direction"] = list(self.rng.choice(FACINGS))
        drawn = self.old["players"][0]
        start = (drawn["x"], drawn["y"])
        stations = self._stations(new_stations + self.old["stations"], start)
        players = self._players(stations)
        items = self._placed(new_items + self.old["items"], stations, players)
        made = {**self.raw, "stations": stations, "items": items, "players": players}
        if "containers" in self.raw:
            made["containers"] = self._placed(self.old["containers"], stations, players)
        return made

    def _cell(self) -> Raw:
        return {"x": self.rng.randrange(0, self.width), "y": self.rng.randrange(0, self.height)}

    def _random_stations(self) -> list[Raw]:
        cells = [self._cell() for _ in range(self.rng.randrange(0, self.width * self.height))]
        return [{"name": self.rng.choice(STATION_NAMES), **cell} for cell in cells]

    def _random_items(self, stations: Sequence[Raw]) -> list[Raw]:
        cells = []
        for _ in range(self.rng.randrange(0, len(stations) + 1)):
            x = self.rng.choice(stations)["x"]
            cells.append({"x": x, "y": self.rng.choice(stations)["y"], "stack-level": 0})
        items = []
        for cell in cells:
            name = self.rng.choice(ITEM_NAMES)
            items.append({"name": name, **cell} | ({"predicates": list(EXTRA[name])} if name in EXTRA else {}))
        return items

    def _stations(self, wanted: Sequence[Raw], start: Cell) -> list[Raw]:
        """Random stations where everything stays reachable from ``start``; then the wanted ones, by force."""
        placed: list[Raw] = []
        for station in wanted:
            cell = (station["x"], station["y"])
            there = next((p for p in placed if (p["x"], p["y"]) == cell), None)
            cells = {(p["x"], p["y"]) for p in placed} | {cell}
            if not station.get("force_add"):
                if there is None and self._reaches(cells, start):
                    placed.append(station)
                continue
            if there is not None and not there.get("force_add"):
                placed[placed.index(there)] = station
            elif there is None and self._some_region_reaches(cells):
                placed.append(station)
            else:
                victim = self._unforced(placed)
                station |= {"x": victim["x"], "y": victim["y"]}
                placed[placed.index(victim)] = station
        return placed

    def _unforced(self, placed: Sequence[Raw]) -> Raw:
        free = [p for p in placed if not p.get("force_add")]
        if not free:
            raise _DoesNotFit
        return self.rng.choice(free)

    def _neighbours(self, cell: Cell) -> list[Cell]:
        x, y = cell
        return [(x + dx, y + dy) for dx, dy in BESIDE if 0 <= x + dx < self.width and 0 <= y + dy < self.height]

    def _touched(self, cells: set[Cell], start: Cell) -> set[Cell]:
        """The stations that a walk over free cells from ``start`` touches (a start on a station touches that one)."""
        seen, todo, touched = {start}, [start], set()
        while todo:
            cell = todo.pop()
            if cell in cells:
                touched.add(cell)
                continue
            for beside in self._neighbours(cell):
                if beside not in seen:
                    seen.add(beside)
                    todo.append(beside)
        return touched

    def _reaches(self, cells: set[Cell], start: Cell) -> bool:
        return self._touched(cells, start) == cells

    def _some_region_reaches(self, cells: set[Cell]) -> bool:
        grid = [(x, y) for x in range(self.width) for y in range(self.height)]
        return any(cell not in cells and self._reaches(cells, cell) for cell in grid)

    def _players(self, stations: Sequence[Raw]) -> list[Raw]:
        """Each player beside the first station with a free cell from which every station can be reached."""
        cells = {(s["x"], s["y"]) for s in stations}
        taken: set[Cell] = set()
        players = []
        for player in self.old["players"]:
            x, y, station = self._stand(stations, cells, taken)
            taken.add((x, y))
            players.append({**player, "x": x, "y": y, "direction": [station["x"] - x, station["y"] - y]})
        return players

    def _stand(self, stations: Sequence[Raw], cells: set[Cell], taken: set[Cell]) -> tuple[int, int, Raw]:
        for station in stations:
            for cell in self._neighbours((station["x"], station["y"])):
                if cell not in cells and cell not in taken and self._reaches(cells, cell):
                    return *cell, station
        raise _DoesNotFit

    def _placed(self, wanted: Sequence[Raw], stations: Sequence[Raw], players: Sequence[Raw]) -> list[Raw]:
        """Items (or containers), one on each station or in each hand; stacks of the original are lost."""
        homes = [(p["x"], p["y"]) for p in (*stations, *players)]
        placed: dict[Cell, Raw] = {}
        for entity in wanted:
            cell = (entity["x"], entity["y"])
            if cell in homes and cell not in placed:
                placed[cell] = entity
            elif entity.get("force_add"):
                if cell not in placed or placed[cell].get("force_add"):
                    cell = next((h for h in homes if not placed.get(h, {}).get("force_add")), (-1, -1))
                    if cell == (-1, -1):
                        raise _DoesNotFit
                entity |= {"x": cell[0], "y": cell[1]}
                placed[cell] = entity
        if any("stack-level" in entity for entity in wanted):
            for entity in placed.values():
                entity["stack-level"] = 0
        return list(placed.values())
