"""Robotouille: a robot cooks. Pick up, carry, cut, cook and stack until the dish stands; reward 1 when it does.

A re-implementation of the synchronous domain of portal-cornell/robotouille, exact to the recorded step, without window,
pygame or global random state. One real task and turn in the text view::

    Station table1:
    table1 is a table
    table1 is occupied by robot1
    ...
    Valid Actions:
    Move robot1 from table1 to table2
    Pick up bread1 from table1 using robot1
    Do nothing

    Goal: Prepare a cheese sandwich on a table
    > Move robot1 from table1 to table2

The original pays nothing; ours pays 1 on done. An invalid action changes nothing and costs a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.envs.base import Expert, FieldsTravel
from agentrl.envs.robotouille.episode import EpisodeState, RobotouilleEpisode
from agentrl.envs.robotouille.kitchen import Kitchen
from agentrl.envs.robotouille.layouts import SIZES, dishes_of, problem_of
from agentrl.envs.robotouille.panels import SPLITS, benchmark_panel, generated, require
from agentrl.envs.robotouille.problem import to_problem
from agentrl.envs.robotouille.recipes import BENCHMARK
from agentrl.envs.robotouille.sources import Tasks, choose
from agentrl.envs.robotouille.views import VIEWS, Stage
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.types import Split, Task

BUNDLED = "bundled"
SOURCES = ("auto", "generated", "benchmark")
SEEDS = tuple(range(42, 421, 42))  # of the published benchmark
KITCHENS = 64  # kitchens kept ready


@dataclass(frozen=True)
class Robotouille(FieldsTravel):
    """The environment; its fields are the keys of ``conf/env/robotouille.yaml``. Building it loads nothing.

    data         ``bundled``, or the folder of the original problem files (its ``synchronous`` folder is used)
    source       ``auto`` (bundled: generated; folder: benchmark), ``generated``, ``benchmark``
    size         of generated kitchens: ``small``, ``large`` or ``paper`` (see ``layouts``)
    recipes      names of dishes or tasks, ``paper`` for the four of single-turn GRPO; empty: all
    seeds        of the benchmark's test panel; 0: the hand-made kitchen
    view         ``text`` or ``compact``
    max_turns    actions per episode, for the rollout
    cap          benchmark tasks and kitchens of size ``paper`` end after this many times the published number of steps
                 of their task, rounded up; 0: never
    free_invalid invalid replies in a row that cost no step
    compat       the original's quirks: effects skipped on removal, goal names matched by substring
    seed         of the generated world; part of the data, not of a run: panels depend on it
    plan_states  states the planner may expand for one question
    train, val, test  panel sizes (tasks), at most; the benchmark's test panel is recipes times seeds
    """

    data: str = BUNDLED
    source: str = "auto"
    size: str = "small"
    recipes: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: list(SEEDS))
    view: str = "text"
    max_turns: int = 10
    cap: float = 1.5
    free_invalid: int = 0
    compat: bool = True
    seed: int = 0
    plan_states: int = 20_000
    train: int = 2000
    val: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        for name, value, known in (("source", self.source, SOURCES), ("size", self.size, tuple(SIZES)),
                                   ("view", self.view, tuple(VIEWS))):  # fmt: skip
            if value not in known:
                raise ConfigError(f"env.{name} is {value!r}; expected one of {', '.join(known)}")
        least = {"max_turns": 1, "cap": 0, "free_invalid": 0, "plan_states": 1, "train": 1, "val": 1, "test": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"env.{name} is {getattr(self, name)}; expected at least {low}")
        if self.data != BUNDLED and self.source == "generated":
            raise ConfigError(f"env.source is 'generated' but env.data is {self.data!r}; use source=benchmark there")
        if not self.seeds or any(seed < 0 for seed in self.seeds):
            raise ConfigError(f"env.seeds is {list(self.seeds)}; expected seeds from 1, or 0 for the hand-made kitchen")
        if self.data == BUNDLED:
            choose(tuple(BENCHMARK) if self.is_benchmark else dishes_of(self.size), self.recipes)

    @cached_property
    def _ready(self) -> dict[str, Stage]:
        return {}

    @property
    def is_benchmark(self) -> bool:
        """Benchmark tasks (or files of a folder) instead of generated kitchens?"""
        return self.source == "benchmark" or self.data != BUNDLED

    @property
    def success_return(self) -> float:
        """The dish is done."""
        return 1.0

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What results depend on."""
        told: dict[str, Any] = {
            "env": "robotouille",
            "source": "benchmark" if self.is_benchmark else "generated",
            "recipes": list(self.recipes),
            "view": self.view,
            "free_invalid": self.free_invalid,
            "compat": self.compat,
            "seed": self.seed,
            "sizes": [self.train, self.val, self.test],
        }
        if self.is_benchmark:
            return told | {"data": self.benchmark.fingerprint, "seeds": list(self.seeds), "cap": self.cap}
        return told | {"size": self.size} | ({"cap": self.cap} if SIZES[self.size].capped else {})

    @cached_property
    def benchmark(self) -> Tasks:
        """The benchmark's tasks, bundled or from files."""
        return Tasks("" if self.data == BUNDLED else self.data, self.recipes, self.cap)

    @cached_property
    def _panels(self) -> dict[Split, list[Task]]:
        counts = {"train": self.train, "val": self.val, "test": self.test}
        if not self.is_benchmark:
            return generated(self.seed, self.size, choose(dishes_of(self.size), self.recipes), counts, self.cap)
        taken: set[str] = set()
        return {
            split: benchmark_panel(split, self.benchmark, self.seeds, self.seed, counts[split], taken)
            for split in reversed(SPLITS)
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split, always in the same order. Raises DataError when the settings leave it none."""
        return require(self._panels[split], split, f"recipes {list(self.recipes)} with sizes and seeds as set")

    def stage(self, task: Task) -> Stage:
        """The kitchen of a task, shared by its episodes. Raises DataError for a task that is not one of ours."""
        key = task.content()
        found = self._ready.get(key)
        if found is None:
            found = Stage(self._kitchen(task), self.plan_states)
            if self.view == "compact" and len(found.kitchen.names["player"]) > 1:
                raise EnvError(f"robotouille: {task.id} has several players, which only view=text can show")
            while len(self._ready) >= KITCHENS:
                self._ready.pop(next(iter(self._ready)))
            self._ready[key] = found
        return found

    def _kitchen(self, task: Task) -> Kitchen:
        try:
            raw = (
                self.benchmark.raw(task.data["task"], task.data["seed"])
                if "task" in task.data
                else problem_of(task.data)
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(f"task {task.id!r} holds no kitchen; expected one made by this environment") from None
        return Kitchen(to_problem(raw, f"task {task.id}"), skip=self.compat, substring=self.compat)

    def start(self, task: Task) -> RobotouilleEpisode:
        return RobotouilleEpisode(task, self.stage(task), VIEWS[self.view], self.free_invalid)

    def restore(self, state: EpisodeState) -> RobotouilleEpisode:
        episode = self.start(state.task)
        episode.resume(state)
        return episode

    def optimal_actions(self, episode: RobotouilleEpisode) -> tuple[frozenset[str], int]:
        """All first actions of shortest plans, in the words of the view, and the actions to go.

        Raises EnvError where that is not proven within ``plan_states``, so that no label is wrong.
        """
        advice = episode.advice()
        if not advice.optimal:
            raise EnvError(
                f"robotouille: no proof within {self.plan_states} states that a plan for task {episode.task.id} is"
                " shortest; raise env.plan_states"
            )
        return frozenset(advice.actions), advice.remaining

    def expert(self, noise: float, seed: int) -> Expert:
        """A cook who knows shortest plans and errs with probability ``noise`` by any valid action (see ``cook``)."""
        from agentrl.envs.robotouille.cook import Cook

        expert: Expert = Cook(noise, seed)
        return expert

    def replay(self, golden: Path) -> dict[str, Any]:
        """Compare with a recorded file of the original (see ``replay``). Raises DataError on a damaged file.

        Problem files come from ``data``, else from the folder ``examples`` beside the recording.
        """
        from agentrl.envs.robotouille.replay import replay

        beside = golden.parent / "examples"
        folder = Path(self.data) if self.data != BUNDLED else beside if beside.is_dir() else None
        return replay(golden, folder, skip=self.compat, substring=self.compat)

    def bench(self, seconds: float) -> dict[str, Any]:
        """Speed and memory (see ``bench``), measured for about ``seconds``."""
        from agentrl.envs.robotouille.bench import bench

        return bench(self, seconds)

    def close(self) -> None:
        """Nothing to free."""
