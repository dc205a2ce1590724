"""Which kitchens are for learning and which for measuring: train, val and test, disjoint by start state.

Generated kitchens are split by a hash of their family (the start state up to the order of stations): 15 % of the
families are test, 5 % val, the rest train, whatever the world's seed, so what is a test state in one world is never a
training state in another. The benchmark's test panel is its ten tasks on the published seeds; its val and train panels
are the same tasks on other seeds, without any start state that a panel before holds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentrl.envs.robotouille.layouts import cap_of, draw, family
from agentrl.envs.robotouille.problem import to_problem
from agentrl.envs.robotouille.recipes import MENU
from agentrl.envs.robotouille.sources import Tasks
from agentrl.errors import DataError
from agentrl.types import Split, Task

SPLITS: tuple[Split, ...] = ("train", "val", "test")
DRAWS = 30  # layouts drawn for each task asked for, before a panel stays smaller
FIRST_SEED: dict[Split, int] = {"val": 1_000, "train": 1_000_000}  # far from the published seeds 42 to 420
WORLD = 10_000_000  # distance of the seeds of two worlds
HAND_MADE = 0  # stands for the kitchen as its file lays it out


def generated(
    seed: int, size: str, dishes: Sequence[str], counts: Mapping[str, int], factor: float
) -> dict[Split, list[Task]]:
    """Panels of generated kitchens, at most ``counts`` tasks each; every (start state, dish) occurs once.

    ``factor``: of the step caps, where kitchens of this size have one.
    """
    panels: dict[Split, list[Task]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for number in range(DRAWS * sum(counts.values())):
        if all(len(panels[split]) >= counts[split] for split in SPLITS):
            break
        layout = draw(seed, size, number, dishes)
        unit, text = family(layout), json.dumps(layout)
        split = _split(unit)
        cap = cap_of(size, layout["dish"], factor)
        if text in seen or len(panels[split]) >= counts[split] or _served(layout) or (cap and _buried(layout)):
            continue
        seen.add(text)
        name = f"{layout['dish']}/{seed}/{number}" if cap else f"{size}/{seed}/{number}"
        panels[split].append(Task(name, split, unit, layout | ({"cap": cap} if cap else {})))
    return panels


def _split(unit: str) -> Split:
    place = int(hashlib.sha256(unit.encode()).hexdigest()[:8], 16) % 20
    return "test" if place < 3 else "val" if place == 3 else "train"


def _served(layout: Mapping[str, Any]) -> bool:
    """Is some dish, done or not, piled up in its order already? Such kitchens ask for little or nothing."""
    layers = list(MENU[layout["dish"]])
    stacks = ([word.split()[-1] for word in stack[: len(layers)]] for _, stack in layout["stations"])
    return layers in stacks


def _buried(layout: Mapping[str, Any]) -> bool:
    """Do more things lie on others than a third of the dish's layers? Then the step cap may be too low for any plan."""
    lying = sum(max(len(stack) - 1, 0) for _, stack in layout["stations"])
    return lying > len(MENU[layout["dish"]]) // 3


def benchmark_panel(
    split: Split, source: Tasks, seeds: Sequence[int], world: int, count: int, taken: set[str]
) -> list[Task]:
    """One panel of benchmark tasks.

    The test panel takes ``seeds`` (0: hand-made), all names on one seed before the next; the others as many new seeds
    as make ``count`` tasks. ``taken``: start states of panels before, to which this panel's are added.
    """
    tasks: list[Task] = []
    before = set(taken)
    drawn: set[str] = set()
    wanted = seeds if split == "test" else _seeds(split, world, math.ceil(count / max(len(source.caps), 1)))
    for seed in wanted:
        for name, cap in source.caps.items():
            unit = start_state(source.raw(name, seed))
            if split != "test" and (unit in before or f"{name} {unit}" in drawn or len(tasks) >= count):
                continue
            drawn.add(f"{name} {unit}")
            taken.add(unit)
            tasks.append(Task(f"{name}/{seed or 'hand-made'}", split, unit, {"task": name, "seed": seed, "cap": cap}))
    return tasks


def _seeds(split: Split, world: int, count: int) -> Iterator[int]:
    first = FIRST_SEED[split] + world * WORLD
    return iter(range(first, first + 3 * count))


def start_state(raw: Mapping[str, Any]) -> str:
    """A hash (16 hex digits) of everything but the goal: what stands where, in the order of numbering."""
    problem = to_problem(raw)
    told = [
        [kind, [[e.kind, e.x, e.y, e.level, *e.facing, *sorted(e.predicates)] for e in problem.entities(kind)]]
        for kind in ("station", "item", "player", "container", "meal")
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def require(tasks: Sequence[Task], split: Split, what: str) -> Sequence[Task]:
    """The tasks, unless there are none. Raises DataError."""
    if not tasks:
        raise DataError(f"robotouille: {what} leave no {split} tasks; choose more recipes or larger panels")
    return tasks
