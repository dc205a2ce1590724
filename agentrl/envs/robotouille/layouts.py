"""Generated kitchens: random start states for the dishes of the menu; small ones, large ones, the paper's four dishes.

Ours. A layout is a short plain record (what stands where), fixed by (seed, size, number, dishes), so that the same
number is the same kitchen on every machine. Its family is the start state up to the order of stations: tasks of one
family never stand in two splits, whatever their dish.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.envs.robotouille.recipes import BENCHMARK, MADE, MENU, PAPER, RAW, goal_of, item

STATION = {"iscut": "board", "iscooked": "stove"}
COOKED = "cooked "  # prefixes of items that are done already
CUT = "cut "


@dataclass(frozen=True, slots=True)
class Size:
    """How large kitchens are; ranges are inclusive.

    ``raw``: chance that what needs work has not been done yet, in dishes of at most ``raw_layers``. ``stacked``: chance
    that a thing lies on another one; ``mixed``: in kitchens with raw things, too. ``capped``: kitchens are for the four
    dishes of single-turn GRPO alone, end at the step caps of these tasks (``cap_of``), and never bury so much that a
    shortest plan would not fit (``panels``).
    """

    stations: tuple[int, int]
    extras: tuple[int, int]
    most_layers: int
    raw: float
    raw_layers: int
    stacked: float
    mixed: bool
    capped: bool = False


SIZES = {
    "small": Size((4, 5), (0, 1), most_layers=4, raw=0.15, raw_layers=3, stacked=0.15, mixed=False),
    "large": Size((6, 8), (1, 3), most_layers=5, raw=0.6, raw_layers=5, stacked=0.2, mixed=True),
    "paper": Size((4, 5), (0, 1), most_layers=6, raw=0.0, raw_layers=0, stacked=0.15, mixed=True, capped=True),
}


def dishes_of(size: str) -> list[str]:
    """The dishes that kitchens of a size are asked for."""
    if SIZES[size].capped:
        return list(PAPER)
    return [name for name, layers in MENU.items() if len(layers) <= SIZES[size].most_layers]


def cap_of(size: str, dish: str, factor: float) -> int:
    """Steps of the original after which a kitchen ends: ``factor`` times the published ones, rounded up; 0: never."""
    return math.ceil(factor * BENCHMARK[dish].steps) if SIZES[size].capped else 0


def draw(seed: int, size: str, number: int, dishes: Sequence[str]) -> dict[str, Any]:
    """One layout: ``{"dish", "stations": [[kind, [items bottom to top]], ...], "at": index}``."""
    rng = random.Random(f"robotouille/{size}/{seed}/{number}")
    limits = SIZES[size]
    dish = rng.choice(dishes)
    layers = list(MENU[dish])
    chance = limits.raw if len(layers) <= limits.raw_layers else 0.0
    raw = {kind for kind in layers if kind in MADE and rng.random() < chance}
    stations = sorted({STATION[MADE[kind]] for kind in raw})
    wanted = max(rng.randint(*limits.stations), len(stations) + 2)
    stations += ["table", "table"]
    while len(stations) < wanted:
        stations.append(rng.choice(("table", "table", "board", "stove") if size == "large" else ("table",)))
    rng.shuffle(stations)
    extras = [rng.choice(sorted(set(MENU_ITEMS) - set(layers))) for _ in range(rng.randint(*limits.extras))]
    things = [kind if kind in raw else done(kind) for kind in layers] + [done(kind) for kind in extras]
    rng.shuffle(things)
    stacks: list[list[str]] = [[] for _ in stations]
    stacked = limits.stacked if limits.mixed or not raw else 0.0
    for thing in things:
        free = [stack for stack in stacks if not stack]
        full = [stack for stack in stacks if stack]
        rng.choice(full if not free or (full and rng.random() < stacked) else free).append(thing)
    return {
        "dish": dish,
        "stations": [[kind, stack] for kind, stack in zip(stations, stacks, strict=True)],
        "at": rng.randrange(len(stations)),
    }


MENU_ITEMS = tuple(sorted({kind for layers in MENU.values() for kind in layers}))


def done(kind: str) -> str:
    """The word for an item on which no work is left: ``cooked patty``, ``cut lettuce``, ``bread``."""
    return {"iscut": CUT, "iscooked": COOKED}.get(MADE.get(kind, ""), "") + kind


def problem_of(layout: Mapping[str, Any]) -> dict[str, Any]:
    """The raw problem of a layout: stations in a row, the player in front of one."""
    stations, items = [], []
    for x, (kind, stack) in enumerate(layout["stations"]):
        stations.append({"name": kind, "x": x, "y": 1})
        for level, word in enumerate(stack):
            name = word.removeprefix(COOKED).removeprefix(CUT)
            items.append(item(name, name == word and name in RAW, x, 1, level))
    name = layout["dish"]
    words = name.replace("_", " ")
    text = BENCHMARK[name].text if name in BENCHMARK else f"Prepare a {words} on a table"
    return {
        "width": len(stations),
        "height": 2,
        "stations": stations,
        "items": items,
        "players": [{"name": "robot", "x": layout["at"], "y": 0, "direction": [0, 1]}],
        "goal_description": text + ", bottom to top: " + ", ".join(done(kind) for kind in MENU[name]),
        "goal": goal_of((MENU[name],), strict=True),
    }


def family(layout: Mapping[str, Any]) -> str:
    """A hash (16 hex digits) of the start state, the same for every order of the stations."""
    at = layout["at"]
    rows = sorted(json.dumps([kind, stack, place == at]) for place, (kind, stack) in enumerate(layout["stations"]))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
