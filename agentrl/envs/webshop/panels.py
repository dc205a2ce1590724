"""Which goals are for learning and which for measuring: train, val and test, disjoint by product.

Generated catalogues bring their own splits. Official goals are split in one of two documented ways:

* more than 1,500 goals of human shoppers: the papers' ranges over the shuffled list (0-499 test, 500-1,499 val,
  the rest train), *without* the goals whose product a panel before already holds (the papers leave them in:
  their test products also occur in training);
* all others: by a hash of the asin, 20 % of the products test, 10 % val, the rest train.

Panels take ``size`` goals in an order that visits every product before any twice, fixed by hashes: it depends on
the goals alone, not on run seeds, workers or the machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.envs.webshop.goals import Goal
from agentrl.errors import DataError
from agentrl.hashes import text_hash
from agentrl.types import Split, Task

TEST_END, VAL_END = 500, 1500
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def to_task(record: Mapping[str, Any], split: Split, number: str) -> Task:
    """A task that carries its whole goal; its family is the goal's ``family`` if it names one, else the asin."""
    return Task(id=number, split=split, family=record.get("family", record["asin"]), data={"goal": dict(record)})


def goal_of(task: Task) -> Goal:
    """The goal of a task. Raises DataError when the task is not one of this environment."""
    record = task.data.get("goal")
    if not isinstance(record, Mapping):
        raise DataError(f"task {task.id!r} holds no goal; expected a task made by the webshop environment")
    return Goal.from_dict(record)


def bundled_panels(
    goals: Mapping[Split, Sequence[Mapping[str, Any]]], sizes: Mapping[str, int]
) -> dict[Split, list[Task]]:
    """The catalogue's own splits; val and test cut to ``sizes``."""
    return {
        split: [
            to_task(record, split, f"bundled/{split}/{i}") for i, record in enumerate(goals[split][: sizes.get(split)])
        ]
        for split in SPLITS
    }


def official_panels(goals: Sequence[Goal], kind: str, sizes: Mapping[str, int]) -> dict[Split, list[Task]]:
    """Train, val and test of official goals (``kind`` 'synthetic' or 'human'), ids ``kind/position``."""
    ranges = kind == "human" and len(goals) > VAL_END
    chosen = _by_range(goals) if ranges else _by_hash(goals)
    panels: dict[Split, list[Task]] = {}
    for split in SPLITS:
        places = chosen[split]
        if split != "train":
            places = (places if ranges else _spread(goals, places))[: sizes[split]]
        panels[split] = [to_task(goals[place].to_dict(), split, f"{kind}/{place}") for place in places]
    return panels


def _by_range(goals: Sequence[Goal]) -> dict[Split, list[int]]:
    test = list(range(TEST_END))
    taken = {goals[place].asin for place in test}
    val = [place for place in range(TEST_END, VAL_END) if goals[place].asin not in taken]
    taken |= {goals[place].asin for place in val}
    train = [place for place in range(VAL_END, len(goals)) if goals[place].asin not in taken]
    return {"train": train, "val": val, "test": test}


def _by_hash(goals: Sequence[Goal]) -> dict[Split, list[int]]:
    chosen: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for place, goal in enumerate(goals):
        tenth = text_hash(goal.asin) % 10
        chosen["test" if tenth < 2 else "val" if tenth == 2 else "train"].append(place)
    return chosen


def _spread(goals: Sequence[Goal], places: Sequence[int]) -> list[int]:
    """The places ordered so that every product comes once before any comes again."""
    keyed = sorted((text_hash(f"{goals[p].asin} {goals[p].instruction_text}"), p) for p in places)
    turns: dict[str, int] = defaultdict(int)
    order: list[tuple[int, int, int]] = []
    for key, place in keyed:
        order.append((turns[goals[place].asin], key, place))
        turns[goals[place].asin] += 1
    return [place for _, _, place in sorted(order)]
