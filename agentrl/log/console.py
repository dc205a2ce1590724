"""The person watching: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console as Terminal
from rich.console import Group as Rows
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agentrl.log.base import Advantages, Outlooks, RunFacts
from agentrl.stats import wilson
from agentrl.types import Group

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Console:
    """``live``: a live view where there is a terminal; ``every``: steps between plain lines."""

    live: bool
    every: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"log.console.every: got {self.every}, expected at least 1")

    def open(self, run: RunFacts) -> ConsoleLog:
        return ConsoleLog(run, live=self.live and sys.stdout.isatty(), every=self.every)


class Unstoppable(Terminal):
    """A terminal whose reader may leave (``| head``): the run goes on without it."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ConsoleLog:
    """Shows the newest value of each metric, the course of the success rate, and the time left."""

    def __init__(self, run: RunFacts, *, live: bool, every: int, terminal: Terminal | None = None) -> None:
        self._run = run
        self._every = every
        self._now: dict[str, float] = {}
        self._success: list[float] = []
        self._begin = time.monotonic()
        self._measuring = 0.0  # seconds that the evaluation before training took: the one after it takes as long
        self._terminal = terminal or Unstoppable(highlight=False)
        self._live = Live(console=self._terminal, auto_refresh=False) if live else None
        if self._live:
            self._live.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._now.update(metrics)
        trained = "rollout/success" in metrics
        if trained:
            self._success.append(metrics["rollout/success"])
        elif step >= self._run.steps:
            self._measuring = 0.0
        elif not self._success:
            self._measuring, self._begin = time.monotonic() - self._begin, time.monotonic()
        if self._live:
            self._live.update(self.view(step), refresh=True)
        elif trained and (len(self._success) % self._every == 0 or step >= self._run.steps):
            self._terminal.print(self.line(step), markup=False, soft_wrap=True)

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        """Trajectories are for files; the console leaves them out."""

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        """Nothing to show: the table that follows says it."""

    def note(self, text: str) -> None:
        self._terminal.print(text, markup=False, soft_wrap=True)

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        if self._live:
            self._live.stop()

    def line(self, step: int) -> str:
        """One step as a line of text."""
        parts = [f"step {step}/{self._run.steps}", *(f"{name} {value}" for name, value in self._facts(step))]
        return "  ".join(parts)

    def view(self, step: int) -> Rows:
        """One step as the live view: a bar, the facts, the course of the success rate."""
        table = Table.grid(padding=(0, 2))
        facts = self._facts(step)
        for start in range(0, len(facts), 3):
            table.add_row(*(Text.assemble((f"{name} ", "dim"), value) for name, value in facts[start : start + 3]))
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"step {step}/{self._run.steps}", style="bold"),
            ProgressBar(total=max(self._run.steps, 1), completed=step, width=40),
            Text(self._left(step)),
        )
        return Rows(head, table, Text.assemble(("success ", "dim"), (sparkline(self._success), "green")))

    def _facts(self, step: int) -> list[tuple[str, str]]:
        now = self._now
        facts = [("reward", _number(now.get("rollout/reward")))]
        if "rollout/success" in now:
            n = round(now.get("rollout/episodes", 0) - now.get("rollout/failed", 0))
            low, high = wilson(round(now["rollout/success"] * n), n)
            facts.append(("success", f"{now['rollout/success']:.2f} [{low:.2f}, {high:.2f}]"))
        facts += [
            ("entropy", _number(now.get("learner/entropy"))),
            ("zero-advantage", _share(now.get("rollout/zero_advantage"))),
            ("logprob gap", _number(now.get("learner/logprob_gap"))),
            ("tokens/s", _number(now.get("speed/tokens"), ",.0f")),
        ]
        facts += [("val", f"{now['val/sampled_success']:.2f}")] if "val/sampled_success" in now else []
        return [*facts, ("left", self._left(step))] if self._live is None else facts

    def _left(self, step: int) -> str:
        done = step - self._run.first_step
        seconds = (time.monotonic() - self._begin) / max(done, 1) * max(self._run.steps - step, 0) + self._measuring
        known = duration(seconds) if self._success else "-"
        return known if self._live is None else f"{known} left"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Values in [0, 1] as a row of blocks; more values than ``width`` are averaged in equal stretches."""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    return "".join(BLOCKS[min(7, max(0, int(mean * 8)))] for mean in means)


def duration(seconds: float) -> str:
    """Seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float | None, form: str = ".3g") -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
