"""Fixed panels of tasks: the lists on which results are compared, hashed by content.

A panel depends on the environment's settings alone, never on the run's seed, the workers or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.envs.base import Env
from agentrl.errors import ConfigError, EnvError
from agentrl.types import Split, Task, panel_hash

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Panel:
    """The first ``len(tasks)`` tasks of a split and their content hash."""

    split: Split
    tasks: tuple[Task, ...]
    hash: str


def panel(env: Env, split: Split, count: int, key: str = "eval.tasks") -> Panel:
    """The first ``count`` tasks of a split (0: all). Raises ConfigError naming ``key`` when the split holds fewer."""
    available = env.tasks(split)
    if len(available) < max(count, 1):
        raise ConfigError(
            f"{key}: the {split} split of this environment has {len(available)} tasks, got {count}; ask for "
            "fewer, or enlarge the split in conf/env"
        )
    tasks = tuple(available[:count] if count else available)
    return Panel(split, tasks, panel_hash(tasks))


def require_disjoint(env: Env) -> Mapping[str, Any]:
    """Assert that no family (product, database, start state) and no task id is shared between splits.

    Returns the number of tasks and the content hash of every split. Raises EnvError naming the first overlap.
    """
    owner: dict[str, Split] = {}
    facts: dict[str, Any] = {}
    for split in SPLITS:
        tasks = env.tasks(split)
        _require_unique(tasks, split)
        for family in {task.family for task in tasks}:
            other = owner.setdefault(family, split)
            if other != split:
                raise EnvError(
                    f"environment: family '{family}' is in both the {other} and the {split} split; held-out results "
                    "would not be held out"
                )
        facts[split] = {"tasks": len(tasks), "hash": panel_hash(tasks)}
    return facts


def _require_unique(tasks: Sequence[Task], split: Split) -> None:
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            raise EnvError(f"environment: task id '{task.id}' occurs twice in the {split} split; ids must be unique")
        seen.add(task.id)
