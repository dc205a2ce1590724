"""Tool planning: call every tool that a query needs, then stop; somebody else writes the answer, or the policy does.

The setting of RLTR (Li et al. 2025, arXiv 2508.19598) over an invented world or official sets of function calls;
its data, prompts and code are not public, so queries, tools and texts are ours. One real task and turn (text view)::

    user       What is the difference between the temperature in Ulford and the temperature in the capital of Fiazouia?
    assistant  <tool_call>{"name": "lookup", "arguments": {"entity": "Fiazouia", "relation": "capital"}}</tool_call>
    tool       {"value": "Jarundwick"}
    ...
    assistant  <answer>                                         <answer>The answer is 3.</answer> with ``answers``

Tools are offered and called in the model's own chat template. The return is 1 when every needed call was made (see
``completeness``) before ``<answer>``, else 0. Calls that fail change nothing and are recorded. There is no limit of
turns inside: the rollout sets one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.encyclopedia import split_of
from agentrl.envs.base import Expert, FieldsTravel
from agentrl.envs.tool_planning.episode import EpisodeState, PlanningEpisode
from agentrl.envs.tool_planning.official import SPLITS, load, official_panels
from agentrl.envs.tool_planning.queries import LEVELS, region_queries
from agentrl.envs.tool_planning.rows import AUTO, Columns
from agentrl.envs.tool_planning.sandbox import Sandbox
from agentrl.envs.tool_planning.simulate import Simulated
from agentrl.envs.tool_planning.world import World
from agentrl.errors import ConfigError, DataError
from agentrl.hashes import text_hash
from agentrl.types import Split, Task

BUNDLED = "bundled"
VIEWS = ("auto", "text", "compact")
DIFFICULTIES = ("mixed", *LEVELS)
SCORES = ("auto", "loose", "strict", "partial")


@dataclass(frozen=True)
class ToolPlanning(FieldsTravel):
    """The environment; its fields are the keys of ``conf/env/tool_planning.yaml``. Building it loads nothing.

    data           ``bundled``, a folder of BFCL or NESTFUL files, or a table (see ``rows``: file, folder, ``hub:NAME``)
    subset         of a set in files: ``all``, or a part of their names (``parallel``); of the hub: a configuration
    question_column, tools_column, calls_column    of a table: their names, or ``auto``
    view           ``text``, ``compact`` (bundled only), ``auto`` (bundled: compact, official: text)
    difficulty     of the bundled queries: ``mixed``, ``normal`` (2-3 calls), ``hard`` (4-6 calls, all tools on offer)
    score          the return: ``loose``, ``strict`` (no call besides), ``partial`` (share of needed calls), ``auto``
                   (as the set's own rules: strict for BFCL's single turns, else loose)
    answers        the policy writes the answer itself in its last action (see ``answers``; bundled only)
    max_turns      actions per episode, for the rollout (no limit inside)
    seed           of the bundled world and its queries; part of the data, never of a run
    size           entities of the bundled world
    per_region     queries of each level for each region of 25 entities, at most
    distractors    tools offered beside the needed ones (NESTFUL; 0: the needed ones alone)
    code_cpu_s, code_memory_mib, code_output_chars    limits of the ``code`` tool
    val, test      panel sizes (tasks), at most
    """

    data: str = BUNDLED
    subset: str = "all"
    question_column: str = AUTO
    tools_column: str = AUTO
    calls_column: str = AUTO
    view: str = "auto"
    difficulty: str = "mixed"
    score: str = "auto"
    answers: bool = False
    max_turns: int = 8
    seed: int = 0
    size: int = 2000
    per_region: int = 16
    distractors: int = 5
    code_cpu_s: int = 1
    code_memory_mib: int = 256
    code_output_chars: int = 2000
    val: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        for name, expected in (("view", VIEWS), ("difficulty", DIFFICULTIES), ("score", SCORES)):
            if getattr(self, name) not in expected:
                raise ConfigError(f"env.{name} is {getattr(self, name)!r}; expected one of {', '.join(expected)}")
        least = {"max_turns": 1, "size": 1, "per_region": 1, "distractors": 0, "val": 1, "test": 1}
        for name, smallest in (least | {"code_cpu_s": 1, "code_memory_mib": 64, "code_output_chars": 1}).items():
            if getattr(self, name) < smallest:
                raise ConfigError(f"env.{name} is {getattr(self, name)}; expected at least {smallest}")
        if self.view == "compact" and self.data != BUNDLED:
            raise ConfigError(
                f"env.view is 'compact' but env.data is {self.data!r}; only the bundled world has a compact view: "
                "use env.view=text and a model that reads text"
            )

        if self.answers and self.data != BUNDLED:
            raise ConfigError(
                f"env.answers is true but env.data is {self.data!r}; only the bundled queries have reference answers: "
                "leave it out, and score the calls"
            )

    @property
    def success_return(self) -> float:
        """All needed calls were made."""
        return 1.0

    @property
    def compact_view(self) -> bool:
        """Whether episodes show the compact view (``auto`` resolved)."""
        return self.data == BUNDLED if self.view == "auto" else self.view == "compact"

    @cached_property
    def world(self) -> World:
        """The bundled world, made at first use."""
        return World(self.seed, self.size, self._sandbox)

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self.code_cpu_s, self.code_memory_mib, self.code_output_chars)

    @property
    def _columns(self) -> Columns:
        return Columns(self.question_column, self.tools_column, self.calls_column)

    @cached_property
    def _panels(self) -> Mapping[Split, Sequence[Task]]:
        sizes = {"val": self.val, "test": self.test}
        if self.data == BUNDLED:
            return self._bundled_panels(sizes)
        return official_panels(load(self.data, self.subset, self.distractors, self._columns), sizes)

    def _bundled_panels(self, sizes: Mapping[str, int]) -> Mapping[Split, Sequence[Task]]:
        """Queries by region; a region is of one split."""
        panels: dict[Split, list[Task]] = {split: [] for split in SPLITS}
        for region in self.world.encyclopedia.regions:
            split = split_of(region)
            for number, data in enumerate(region_queries(self.world, region, self.per_region)):
                if self.difficulty in ("mixed", data["level"]):
                    name = f"{data['level']}/{self.seed}/{region}/{number}"
                    panels[split].append(Task(name, split, region, data))
        return {
            split: sorted(tasks, key=lambda t: text_hash(t.id))[: sizes.get(split)] for split, tasks in panels.items()
        }

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What results depend on."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        data = BUNDLED if self.data == BUNDLED else Path(self.data).name
        view = "compact" if self.compact_view else "text"
        return {"env": "tool_planning", **named, "data": data, "view": view, "tools": 2}

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split, always in the same order. Raises DataError when there are none."""
        tasks = self._panels[split]
        if not tasks:
            raise DataError(
                f"tool_planning: data {self.data!r} leave no {split} tasks; use more data, or a larger env.size"
            )
        return tasks

    def start(self, task: Task) -> PlanningEpisode:
        if "requirements" not in task.data:
            raise DataError(
                f"task {task.id!r} names no requirements; expected a task made by the tool_planning environment"
            )
        if "fields" in task.data:
            return PlanningEpisode(task, Simulated(task.data["tools"], task.data["fields"]), None, False, self.score)
        return PlanningEpisode(task, self.world, self.world, self.compact_view, self.score, self.answers)

    def restore(self, state: EpisodeState) -> PlanningEpisode:
        episode = self.start(state.task)
        episode.state = state.state
        return episode

    def expert(self, noise: float, seed: int) -> Expert:
        """A planner that knows the needed calls and errs with probability ``noise``."""
        from agentrl.envs.tool_planning.planner import Planner

        return Planner(noise, seed)

    def bench(self, seconds: float) -> dict[str, Any]:
        """Speed and memory (see ``bench``), measured for about ``seconds``."""
        from agentrl.envs.tool_planning.bench import bench

        return bench(self, seconds)

    def close(self) -> None:
        """Stop the code tool's server, if it was used."""
        if "_sandbox" in self.__dict__:
            self._sandbox.close()
