"""Our own menu: what each dish is made of, and the kitchen in which the benchmark asks for it.

A dish is a stack of layers from bottom to top. Strict dishes name what lies on what; free ones the lowest and the top
layer and what is between. The ten benchmark dishes have the ingredients of Robotouille's ten synchronous tasks
and their published numbers of steps; the files are not copied, and the six kitchens with cutting are laid out by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MADE = {"lettuce": "iscut", "tomato": "iscut", "onion": "iscut", "patty": "iscooked", "chicken": "iscooked"}
RAW = {"lettuce": "iscuttable", "tomato": "iscuttable", "onion": "iscuttable", "patty": "iscookable",
       "chicken": "iscookable"}  # fmt: skip
GRID = 5  # cells each way, as in the original's tasks

Layers = tuple[str, ...]


def _bread(*fillings: str) -> Layers:
    return ("bread", *fillings, "bread")


def _bun(*fillings: str) -> Layers:
    return ("bottombun", *fillings, "topbun")


MENU: dict[str, Layers] = {
    "cheese_sandwich": _bread("cheese"),
    "lettuce_sandwich": _bread("lettuce"),
    "tomato_sandwich": _bread("tomato"),
    "onion_sandwich": _bread("onion"),
    "chicken_sandwich": _bread("chicken"),
    "cheese_tomato_sandwich": _bread("cheese", "tomato"),
    "cheese_onion_sandwich": _bread("onion", "cheese"),
    "lettuce_tomato_sandwich": _bread("lettuce", "tomato"),
    "lettuce_chicken_sandwich": _bread("chicken", "lettuce"),
    "cheese_chicken_sandwich": _bread("chicken", "cheese"),
    "burger": _bun("patty"),
    "cheeseburger": _bun("patty", "cheese"),
    "double_cheeseburger": _bun("patty", "cheese", "patty", "cheese"),
    "lettuce_burger": _bun("patty", "lettuce"),
    "onion_burger": _bun("patty", "onion"),
    "tomato_cheeseburger": _bun("patty", "cheese", "tomato"),
    "lettuce_tomato_burger": _bun("lettuce", "patty", "tomato"),
    "lettuce_tomato_cheeseburger": _bun("patty", "cheese", "lettuce", "tomato"),
    "chicken_burger": _bun("chicken"),
    "cheese_chicken_burger": _bun("chicken", "cheese"),
}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark task: its dishes, the published number of steps, and the hand-made kitchen.

    ``stacks``: what stands on each station at the start, bottom to top; ``boards``: how many cutting boards.
    """

    dishes: tuple[Layers, ...]
    text: str
    steps: int
    stacks: tuple[Layers, ...]
    tables: int
    boards: int = 0
    strict: bool = False


BUNS = ("bottombun", "topbun")
BENCHMARK: dict[str, Benchmark] = {
    "cheese_sandwich": Benchmark(
        (MENU["cheese_sandwich"],), "Prepare a cheese sandwich on a table", 10,
        (("bread",), ("bread",), ("cheese",)), 4, strict=True,
    ),
    "lettuce_sandwich": Benchmark(
        (MENU["lettuce_sandwich"],), "Prepare a lettuce sandwich on a table", 14,
        (("bread",), ("bread",), ("lettuce",)), 4, 1, strict=True,
    ),
    "lettuce_tomato_sandwich": Benchmark(
        (MENU["lettuce_tomato_sandwich"],), "Prepare a sandwich of lettuce and tomato on a table", 24,
        (("bread",), ("bread",), ("lettuce",), ("tomato",)), 4, 1,
    ),
    "burger": Benchmark(
        (MENU["burger"],), "Prepare a hamburger on a table", 10,
        (("bottombun",), ("topbun",), ("patty",)), 3, strict=True,
    ),
    "cheeseburger": Benchmark(
        (MENU["cheeseburger"],), "Prepare a cheeseburger on a table", 15, (BUNS, ("cheese",), ("patty",)), 4,
    ),
    "double_cheeseburger": Benchmark(
        (MENU["double_cheeseburger"],),
        "Prepare a double cheeseburger on a table: patty, cheese, patty and cheese between the buns", 23,
        (BUNS, ("cheese", "cheese"), ("patty", "patty")), 4, strict=True,
    ),
    "lettuce_tomato_cheeseburger": Benchmark(
        (MENU["lettuce_tomato_cheeseburger"],), "Prepare a cheeseburger with lettuce and tomato on a table", 36,
        (BUNS, ("cheese",), ("patty",), ("lettuce",), ("tomato",)), 6, 1,
    ),
    "two_lettuce_chicken_sandwiches": Benchmark(
        (MENU["lettuce_chicken_sandwich"],) * 2, "Prepare two sandwiches of lettuce and chicken, on two tables", 44,
        (("bread",) * 4, ("lettuce",), ("lettuce",), ("chicken",), ("chicken",)), 6, 1,
    ),
    "two_lettuce_tomato_burgers": Benchmark(
        (MENU["lettuce_tomato_burger"],) * 2, "Prepare two burgers with lettuce and tomato, on two tables", 63,
        (BUNS, BUNS, ("lettuce",), ("lettuce",), ("patty", "patty"), ("tomato",), ("tomato",)), 8, 1,
    ),
    "onion_cheeseburger_and_chicken_sandwich": Benchmark(
        (_bread("lettuce", "chicken", "tomato"), _bun("onion", "patty", "cheese")),
        "Prepare a burger with onion and cheese, and on another table a chicken sandwich with lettuce and tomato",
        57, (BUNS, ("bread", "bread"), ("cheese",), ("onion",), ("patty",), ("chicken",), ("lettuce",), ("tomato",)),
        8, 1,
    ),
}  # fmt: skip
PAPER = ("cheese_sandwich", "burger", "cheeseburger", "double_cheeseburger")  # of single-turn GRPO, arXiv 2509.20616


def goal_of(dishes: Sequence[Layers], strict: bool) -> list[dict[str, Any]]:
    """The goal literals of dishes, each on a table of its own."""
    goal: list[dict[str, Any]] = []
    free = iter(range(1, 1000))
    for layers in dishes:
        table, ids = next(free), [next(free) for _ in layers]

        def literal(predicate: str, *things: int, table: int = table, layers: Layers = layers,
                    ids: list[int] = ids) -> None:  # fmt: skip
            places = {**{thing: layers[k] for k, thing in enumerate(ids)}, table: "table"}
            goal.append({"predicate": predicate, "args": [places[t] for t in things], "ids": list(things)})

        literal("item_on", ids[0], table)
        for place, kind in enumerate(layers):
            if kind in MADE:
                literal(MADE[kind], ids[place])
            if place and strict:
                literal("atop", ids[place], ids[place - 1])
            elif place:
                literal("item_at", ids[place], table)
        if not strict:
            literal("clear", ids[-1])
    return goal


def item(kind: str, raw: bool, x: int, y: int, level: int) -> dict[str, Any]:
    """An item of a problem; what needs cutting or cooking is ``raw`` or done already."""
    facts = [RAW[kind] if raw else MADE[kind]] if kind in MADE else []
    return {"name": kind, "x": x, "y": y, "stack-level": level} | ({"predicates": facts} if facts else {})


def benchmark_problem(name: str) -> dict[str, Any]:
    """The hand-made kitchen of a benchmark task: patties and chicken come cooked, vegetables have to be cut."""
    task = BENCHMARK[name]
    cells = [(x, y) for x in range(GRID) for y in (1, 3)]
    kinds = ["table"] * task.tables + ["board"] * task.boards
    items = [
        item(kind, MADE.get(kind) == "iscut", *cells[place], level)
        for place, stack in enumerate(task.stacks)
        for level, kind in enumerate(stack)
    ]
    return {
        "width": GRID,
        "height": GRID,
        "stations": [{"name": kind, "x": x, "y": y} for kind, (x, y) in zip(kinds, cells, strict=False)],
        "items": items,
        "players": [{"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}],
        "goal_description": task.text,
        "goal": goal_of(task.dishes, task.strict),
    }
