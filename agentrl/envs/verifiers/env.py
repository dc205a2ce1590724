"""Environments of the ``verifiers`` package, as they are: ``env=verifiers env.id=NAME``.

Its classic contract (0.1.9 to 0.1.14): ``load_environment(name)`` gives an object with data sets of prompts and
answers, coroutines that answer the policy (``SingleTurnEnv``, ``MultiTurnEnv``, ``ToolEnv`` and what descends from
them) and a rubric of weighted reward functions. One real turn of an environment with tools::

    user       What is 17 times 23?
    assistant  <tool_call>{"name": "multiply", "arguments": {"a": 17, "b": 23}}</tool_call>
    tool       391

A task is a row, known by a hash of its content, so panels do not follow the order of the data. Snapshots are the
actions so far, played again: an environment must follow from its row and the actions, and its tools must bear it.
Differs from the package: rows that are equal are one task; each play is scored alone, never with its group.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest.mock import patch

from agentrl.envs.base import Expert, FieldsTravel
from agentrl.envs.verifiers.episode import VerifiersEpisode
from agentrl.envs.verifiers.own_loop import Loops
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.hashes import text_hash
from agentrl.ranges import require_least, require_positive
from agentrl.types import Split, Task

NEEDED = (
    "init_state",
    "setup_state",
    "is_completed",
    "get_prompt_messages",
    "add_trajectory_step",
    "render_completion",
)
VERSIONS = "verifiers>=0.1.9,<0.2"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Verifiers(FieldsTravel):
    """The schema of conf/env/verifiers.yaml, where every number has its unit."""

    id: str
    kwargs: dict[str, Any]
    success_return: float
    val_tasks: int
    test_tasks: int
    max_turns: int
    timeout_s: float

    def __post_init__(self) -> None:
        require_least(self, "env", val_tasks=1, test_tasks=1, max_turns=1)
        require_positive(self, "env", "timeout_s")

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "env": "verifiers",
            "id": self.id,
            "kwargs": dict(self.kwargs),
            "verifiers": str(getattr(_package(), "__version__", "unknown")),
            "success_return": self.success_return,
            "max_turns": self.max_turns,
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split in an order fixed by hashes. Raises DataError when there are none."""
        tasks = self._panels[split]
        if not tasks:
            raise DataError(f"env=verifiers: the rows of {self.id} leave no {split} tasks; give it more rows")
        return tasks

    def start(self, task: Task) -> VerifiersEpisode:
        row = self._rows.get(str(task.data.get("row")))
        if row is None:
            raise DataError(f"task {task.id!r}: {self.id} has no such row now; expected the data it was made from")
        return VerifiersEpisode(self.original, row, task, self._loops.get(), self.timeout_s, self.max_turns)

    def restore(self, state: Any) -> VerifiersEpisode:
        """An equal episode: the same row, the same actions."""
        task, said = state
        episode = self.start(task)
        for action in said:
            episode.step(action)
        return episode

    def expert(self, noise: float, seed: int) -> Expert:
        """Raises EnvError: nobody knows the right actions of an environment of somebody else."""
        raise EnvError(f"env=verifiers: {self.id} has no expert; take a method that needs none, such as grpo or vspo")

    def close(self) -> None:
        """Stop the loop; what the environment holds it frees itself when the process ends."""
        if "_loops" in self.__dict__:
            self._loops.stop()

    @cached_property
    def original(self) -> Any:
        """The package's environment, loaded at first use. Raises ConfigError."""
        package = _package()
        try:
            with _signals_kept():
                made = package.load_environment(self.id, **self.kwargs)
        except Exception as error:  # of somebody else's code
            told = " ".join(str(error).split())
            raise ConfigError(
                f"env.id={self.id}: verifiers cannot load it ({told}); install the package of that environment, and "
                "give its arguments as env.kwargs"
            ) from error
        inner = list(getattr(made, "envs", ())) or [made]
        lacking = [name for name in NEEDED if not all(hasattr(env, name) for env in inner)]
        if lacking:
            raise ConfigError(
                f"env.id={self.id}: {type(made).__name__} has no {', '.join(lacking)}; expected a MultiTurnEnv or what "
                f"descends from it ({VERSIONS})"
            )
        return made

    @cached_property
    def _loops(self) -> Loops:
        return Loops()

    @cached_property
    def _tables(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Rows for training and for evaluation by their hashes; one of the two may be empty."""
        env = self.original
        train, held = (_by_hash(rows) for rows in (_data(env, "dataset"), _data(env, "eval_dataset")))
        return train, held

    @cached_property
    def _rows(self) -> Mapping[str, Any]:
        train, held = self._tables
        return {**held, **train}

    @cached_property
    def _panels(self) -> Mapping[Split, Sequence[Task]]:
        """By the hash of the prompt: with rows for evaluation, a third of them is val and the rest test, without, 10 %
        of all rows are val and 20 % test (likewise where those for evaluation are the training rows). A prompt of the
        training rows is never in another split."""
        train, held = self._tables
        panels: dict[Split, list[Task]] = {split: [] for split in SPLITS}
        trained = {_family(row) for row in train.values()}
        both = bool(train) and any(_family(row) not in trained for row in held.values())
        for name, row in sorted(self._rows.items()):
            family = _family(row)
            split: Split
            if both:
                split = "train" if family in trained else "val" if text_hash(family) % 3 == 0 else "test"
                if split == "train" and name not in train:
                    continue
            else:
                tenth = text_hash(family) % 10
                split = "test" if tenth < 2 else "val" if tenth == 2 else "train"
            panels[split].append(Task(f"{self.id}/{name}", split, family, {"row": name}))
        return {
            "train": panels["train"],
            "val": panels["val"][: self.val_tasks],
            "test": panels["test"][: self.test_tasks],
        }


def _package() -> Any:
    try:
        import verifiers
    except ImportError as error:
        raise ConfigError(
            f"env=verifiers: the package is not installed ({error}); pip install '{VERSIONS}', best with the "
            "environment's own package"
        ) from None
    if not hasattr(verifiers, "load_environment"):
        version = getattr(verifiers, "__version__", "this version")
        raise ConfigError(f"env=verifiers: verifiers {version} has no load_environment; pip install '{VERSIONS}'")
    return verifiers


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Environments of the package take SIGINT and SIGTERM for themselves; stops of a run are ours."""
    with patch.object(signal, "signal", lambda *_: None):
        yield


def _data(env: Any, name: str) -> Iterable[Mapping[str, Any]]:
    """The rows of a data set, built now where the environment builds it at first use."""
    found = getattr(env, name, None)
    if found is None and callable(build := getattr(env, f"build_{name}", None)):
        found = build()
    return found if found is not None else ()


def _by_hash(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Rows by the hash of their content, but for their number."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        content = {key: value for key, value in row.items() if key != "example_id"}
        found.setdefault(_hash(content), dict(row) | {"prompt": _without_none(row.get("prompt"))})
    return found


def _family(row: Mapping[str, Any]) -> str:
    return _hash(row["prompt"])


def _hash(content: Any) -> str:
    return f"{text_hash(json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)):016x}"


def _without_none(value: Any) -> Any:
    """Tables fill fields that a message does not have with None."""
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
