"""What a log is: five functions the loop calls; one object may stand for many.

A *sink* is the frozen dataclass that ``conf/log/*.yaml`` names; ``open`` makes the log of one run from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agentrl.log.metrics import UndefinedMetric, defined
from agentrl.types import Group

Advantages = Sequence[Sequence[NDArray[np.float32]]]
Outlooks = Sequence[Sequence[NDArray[np.float32]]]


@dataclass(frozen=True)
class RunFacts:
    """What a log needs to know of its run.

    ``first_step``: steps that a resumed run had already made; ``facts``: what its summary says of panel, data, model
    and code.
    """

    run_dir: Path
    steps: int
    config: Mapping[str, Any] = field(default_factory=dict)
    first_step: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class Log(Protocol):
    """Where a run tells what happened."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Numbers known after ``step`` optimiser steps, by names of the metric table; may be called more than once."""
        ...

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        """The episodes of one step; ``advantages[g][v]`` is ``[tokens]`` of the v-th valid member of group g, and
        ``seen[g][v]`` the learner's logprobs and entropies of these tokens, ``[2, tokens]``, NaN where unknown."""
        ...

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        """The plays of an evaluation (``before``, ``val``, ``after``, ``eval``), one record each."""
        ...

    def note(self, text: str) -> None:
        """A sentence for the person watching."""
        ...

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """The run ended; ``summary`` is its result (None when it failed)."""
        ...


class Numbers(Log):
    """A log of numbers alone."""

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        """Trajectories stay in the run's folder."""

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        """Single plays stay in the run's folder; their means are among the metrics."""

    def note(self, text: str) -> None:
        """Notes stay in the run's folder and on the console."""


class Sink(Protocol):
    """The settings of a log."""

    def open(self, run: RunFacts) -> Log: ...


class Many:
    """Several logs as one. Warns (an error in tests) about metrics that the table does not define."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = tuple(logs)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name in metrics:
            if not defined(name):
                warnings.warn(
                    f"{name}: not in agentrl.log.metrics.METRICS; define it there", UndefinedMetric, stacklevel=2
                )
        for log in self._logs:
            log.log(step, metrics)

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        for log in self._logs:
            log.trajectories(step, groups, advantages, seen)

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        for log in self._logs:
            log.evaluation(step, moment, plays)

    def note(self, text: str) -> None:
        for log in self._logs:
            log.note(text)

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        for log in self._logs:
            log.close(summary)


def open_logs(sinks: Sequence[Sink], run: RunFacts) -> Many:
    """Open every log of a run. The run's folder is made."""
    run.run_dir.mkdir(parents=True, exist_ok=True)
    return Many([sink.open(run) for sink in sinks])
