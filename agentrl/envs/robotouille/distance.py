"""How far from done, at least: the admissible estimate that makes optimal planning fast.

Ours. For one goal set it counts what no plan can avoid: every thing that must change its place is picked up and put
down; what has to be cut, cooked or fried is brought to such a station first; what stands on something that has to
leave, or in the way of what has to arrive, is carried off, and back where it belongs there. A hand holds one thing, so
every carry costs a walk, and another one leads to the next (with ``travel``; the compact view's actions walk for free).
Only needs that follow from the goal set are counted, each once, hence it never overestimates (checked against
breadth-first search). It knows kitchens with one player; meals and containers count as one action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentrl.envs.robotouille.domain import CUTS
from agentrl.envs.robotouille.goals import Fact
from agentrl.envs.robotouille.kitchen import Kitchen, State

STATION_OF = {"iscut": "board", "iscooked": "stove", "isfried": "fryer"}
LAYOUTS = 200_000  # remembered per kitchen
PROCESS_OF = {"iscut": "cutting", "iscooked": "cooking", "isfried": "frying"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are: the player's station (-1: nowhere), the held item (-1: none), and items bottom to top.

    ``spot``: {item: (station, height)} of everything that stands somewhere.
    """

    here: int
    held: int
    stacks: tuple[tuple[int, ...], ...]
    spot: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A goal set taken apart, as positions among items and stations."""

    mask: int
    on: tuple[tuple[int, int], ...]  # (item, station): directly on it
    at: tuple[tuple[int, int], ...]  # (item, station): somewhere in its stack
    atop: tuple[tuple[int, int], ...]  # (upper, lower)
    clear: tuple[int, ...]
    made: tuple[tuple[str, int, int], ...]  # (predicate, item, its mask)
    home: dict[int, int] = field(default_factory=dict)  # the station where an item must end


def shape_of(kitchen: Kitchen, facts: Sequence[Fact]) -> Shape | None:
    """A goal set as the estimate needs it; None when it can never come true."""
    on: list[tuple[int, int]] = []
    at: list[tuple[int, int]] = []
    atop: list[tuple[int, int]] = []
    clear: list[int] = []
    made: list[tuple[str, int, int]] = []
    mask = 0
    for predicate, names in facts:
        bit = kitchen.fact(predicate, names)
        if bit is None:
            return None
        mask |= bit
        if predicate in ("item_on", "item_at"):
            item, station = kitchen.place("item", names[0]), kitchen.place("station", names[1])
            if item is None or station is None:
                return None
            (on if predicate == "item_on" else at).append((item, station))
        elif predicate in ("atop", "clear", *STATION_OF):
            places = [kitchen.place("item", name) for name in names]
            item, lower = places[0], places[-1]
            if item is None or lower is None:
                return None
            if predicate == "atop":
                atop.append((item, lower))
            elif predicate == "clear":
                clear.append(item)
            else:
                made.append((predicate, item, bit))
    home = dict([*at, *on])
    for _ in atop:
        home |= {upper: home[lower] for upper, lower in atop if lower in home}
    return Shape(mask, tuple(on), tuple(at), tuple(atop), tuple(clear), tuple(made), home)


class Places:
    """Reads layouts out of bits, for one kitchen with one player."""

    def __init__(self, kitchen: Kitchen) -> None:
        names = kitchen.names
        items, stations = range(len(names["item"])), range(len(names["station"]))
        self._stations = len(stations)
        self._locs = {kitchen.bit("loc", 0, s): s for s in stations}
        self._held = {kitchen.bit("has_item", 0, i): i for i in items}
        self._on = {kitchen.bit("item_on", i, s): (i, s) for i in items for s in stations}
        self._atop = {kitchen.bit("atop", i, j): (i, j) for i in items for j in items if i != j}
        self._masks = tuple(sum(bits) for bits in (self._locs, self._held, self._on, self._atop))
        self._mask = sum(self._masks)
        self._layouts: dict[int, Layout] = {}

    def layout(self, bits: int) -> Layout:
        """The places of all items, remembered."""
        told = bits & self._mask
        found = self._layouts.get(told)
        if found is None:
            if len(self._layouts) > LAYOUTS:
                self._layouts.clear()
            found = self._layouts[told] = self._read(bits)
        return found

    def _read(self, bits: int) -> Layout:
        locs, held, on, atop = self._masks
        above = {lower: upper for upper, lower in map(self._atop.__getitem__, _ones(bits & atop))}
        stacks: list[tuple[int, ...]] = [()] * self._stations
        spot: dict[int, tuple[int, int]] = {}
        for item, station in map(self._on.__getitem__, _ones(bits & on)):
            stack = [item]
            while stack[-1] in above:
                stack.append(above[stack[-1]])
            stacks[station] = tuple(stack)
            spot |= {thing: (station, height) for height, thing in enumerate(stack)}
        return Layout(self._locs.get(bits & locs, -1), self._held.get(bits & held, -1), tuple(stacks), spot)


class Estimate:
    """Lower bounds on the actions to go, for one kitchen with one player. ``travel``: walking costs an action."""

    def __init__(self, kitchen: Kitchen, places: Places, travel: bool) -> None:
        self._places = places
        self.travel = travel
        self._kinds = [station.kind for station in kitchen.problem.stations]
        self._only = {kind: self._kinds.index(kind) for kind in self._kinds if self._kinds.count(kind) == 1}

    def __call__(self, state: State, shape: Shape) -> int:
        """Actions to go for one goal set, at least; 0 exactly when it is reached."""
        bits = state.bits
        if bits & shape.mask == shape.mask:
            return 0
        layout = self._places.layout(bits)
        work, wants = self._work(state, shape, layout)
        leaving = self._leaving(shape, layout, wants)
        return max(1, self._count(shape, layout, wants, leaving, work))

    def _work(self, state: State, shape: Shape, layout: Layout) -> tuple[int, dict[int, list[str]]]:
        """Uses of stations to go, and {item: kinds of station that it has to be brought to}."""
        work = 0
        wants: dict[int, list[str]] = {}
        running = dict(state.running) if state.running else {}
        for predicate, item, mask in shape.made:
            if state.bits & mask:
                continue
            kind = STATION_OF[predicate]
            spot = layout.spot.get(item)
            in_place = spot is not None and spot[1] == 0 and self._kinds[spot[0]] == kind
            if not in_place:
                wants.setdefault(item, []).append(kind)
            if predicate == "iscut":
                work += CUTS - running.get(("cutting", (item,)), 0)
            elif spot is None or not in_place or (PROCESS_OF[predicate], (item, spot[0])) not in running:
                started = any(name == PROCESS_OF[predicate] and args[0] == item for name, args in running)
                work += not started
        return work, wants

    def _leaving(self, shape: Shape, layout: Layout, wants: dict[int, list[str]]) -> set[int]:
        """Items that must be picked up where they are (or put down, if held)."""
        spot, stacks = layout.spot, layout.stacks
        low: dict[int, int] = {}  # station: lowest height that must go

        def go(station: int, height: int) -> None:
            if height < len(stacks[station]) and height < low.get(station, 99):
                low[station] = height

        out = {layout.held} & (wants.keys() | shape.home.keys() | {upper for upper, _ in shape.atop})
        for item, kinds in wants.items():
            if item in spot:
                go(*spot[item])
            for kind in kinds:
                if kind in self._only:  # whatever occupies the one such station has to go
                    go(self._only[kind], 0)
        for item, station in shape.on:
            if spot.get(item) != (station, 0):
                go(station, 0)
                if item in spot:
                    go(*spot[item])
        for item, station in shape.at:
            if item in spot and spot[item][0] != station:
                go(*spot[item])
        for upper, lower in shape.atop:
            up, down = spot.get(upper), spot.get(lower)
            if down is None or up != (down[0], down[1] + 1):
                if up is not None:
                    go(*up)
                if down is not None:
                    go(down[0], down[1] + 1)
        self._tops(shape, layout, low, go)
        for station, height in low.items():
            out.update(stacks[station][height:])
        return out

    def _tops(self, shape: Shape, layout: Layout, low: dict[int, int], go: object) -> None:
        """What must be clear: nothing may stay on it, and it must give way to whatever still has to arrive below."""
        for item in shape.clear:
            if item not in layout.spot:
                continue
            station, height = layout.spot[item]
            assert callable(go)
            go(station, height + 1)
            if shape.home.get(item) == station and any(
                home == station and other not in layout.stacks[station] for other, home in shape.home.items()
            ):
                go(station, height)

    def _count(self, shape: Shape, layout: Layout, wants: dict[int, list[str]], leaving: set[int], work: int) -> int:
        """Carries and uses as actions, with the walks between them."""
        home = shape.home
        placed = {upper for upper, _ in shape.atop}
        carries = chained = 0
        for item in leaving:
            stops = wants.get(item, ())
            end = home.get(item)
            goes_on = (end is not None and self._kinds[end] not in stops) or (end is None and item in placed)
            spot = layout.spot.get(item)
            if stops:
                carries += len(stops) + goes_on
                chained += len(stops) - 1 + goes_on
                carries += spot is not None and self._only.get(stops[0]) == spot[0]  # off it, then on it again
            else:
                carries += 2 if spot is not None and spot[0] == end else 1
        held = layout.held
        full = held >= 0
        if full and held not in leaving and (leaving or work):
            carries += 1  # put down whatever it is, to have a free hand
            first = 0
        elif full and held in leaving:
            first, parked = self._first(shape, layout, wants, leaving)
            carries += parked
        else:
            first = 0
            full = False
        total = 2 * carries - full + work
        if self._ends_held(shape, layout, wants, leaving):
            total -= 1 + self.travel
        if not self.travel:
            return total
        if full:
            rest = carries - 1
            return total + first + max(rest, 2 * rest - chained)
        if not carries:
            return total + (not self._useful_here(layout, leaving, shape))
        start = not self._useful_here(layout, leaving, shape)
        return total + start + carries + max(0, carries - 1 - chained)

    def _ends_held(self, shape: Shape, layout: Layout, wants: dict[int, list[str]], leaving: set[int]) -> bool:
        """May the last thing stay in the hand? Only what is merely in the way of something that must be clear."""
        spots = [layout.spot[item] for item in shape.clear if item in layout.spot]
        needed = wants.keys() | shape.home.keys() | {upper for upper, _ in shape.atop}
        return any(
            item not in needed and item in leaving
            for station, height in spots
            for item in layout.stacks[station][height + 1 :]
        )

    def _useful_here(self, layout: Layout, leaving: set[int], shape: Shape) -> bool:
        """Could the first thing to do be done where the player stands?"""
        if layout.here < 0:
            return True
        stack = layout.stacks[layout.here]
        return any(item in leaving for item in stack) or any(item in stack for _, item, _ in shape.made) or not leaving

    def _first(self, shape: Shape, layout: Layout, wants: dict[int, list[str]], leaving: set[int]) -> tuple[int, int]:
        """For the held item: walks before it can be put down usefully, and 1 if it must be put aside first."""
        held, here = layout.held, layout.here
        stops = wants.get(held)
        if stops and any(kind in self._only and layout.stacks[self._only[kind]] for kind in stops):
            return 0, 1
        if stops:
            return int(self._kinds[here] not in stops), 0
        lower = next((low for up, low in shape.atop if up == held), None)
        if lower is not None:
            spot = layout.spot.get(lower)
            if spot is None or lower in leaving or spot[1] + 1 < len(layout.stacks[spot[0]]):
                return 0, 1
            return int(spot[0] != here), 0
        end = shape.home.get(held)
        if end is None:
            return 0, 0
        if (held, end) in shape.on and layout.stacks[end]:
            return 0, 1
        if held in shape.clear and any(
            home == end and other != held and layout.spot.get(other, (-1, 0))[0] != end
            for other, home in shape.home.items()
        ):
            return 0, 1
        return int(end != here), 0


def _ones(bits: int) -> list[int]:
    found = []
    while bits:
        low = bits & -bits
        found.append(low)
        bits ^= low
    return found
