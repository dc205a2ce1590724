"""Weights & Biases, online or offline. Imported only when ``log=wandb`` asks for it.

What makes many runs readable at a glance: a run is called after its arm and seed, the seeds of an arm are one group
(W&B then draws their mean and spread), a sweep is a tag; a resumed run goes on in the same W&B run. ``after/…`` keeps
its one value in the summary, other metrics what the metric table says sums them up (``rollout/success.max``). No key
leaves the machine: config and command line are redacted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from agentrl import redact
from agentrl.errors import ConfigError
from agentrl.log.base import Advantages, Outlooks, RunFacts
from agentrl.log.metrics import FAMILIES, METRICS, Best
from agentrl.ranges import require_least
from agentrl.types import Group, Trajectory

ID = "wandb_id.txt"  # in the run's folder: under which W&B run a resumed one goes on
PLAYED = ("step", "task", "member", "success", "reward", "turns", "stop", "transcript")
MEASURED = ("moment", "decoding", "task", "member", "success", "return", "turns", "stop")


class Mode(StrEnum):
    """Offline runs are written into the run's folder and sent later by ``wandb sync``."""

    online = auto()
    offline = auto()


@dataclass(frozen=True)
class Wandb:
    """Where a run appears in Weights & Biases, and how much of its plays; conf/log/wandb.yaml says what null means."""

    project: str
    entity: str | None
    name: str | None
    group: str | None
    tags: list[str]
    mode: Mode
    plays: int
    plays_every: int

    def __post_init__(self) -> None:
        require_least(self, "log.wandb", plays=0, plays_every=1)

    def open(self, run: RunFacts) -> WandbLog:
        """Raises ConfigError when wandb cannot start (no login, no network)."""
        return WandbLog(self, run)


class WandbLog:
    """One wandb run; numbers of one step are collected and sent when the next step begins."""

    def __init__(self, settings: Wandb, run: RunFacts) -> None:
        import wandb

        self._settings = settings
        self._tables = 0
        try:
            with _redacted_argv():
                self._wandb = wandb.init(
                    project=settings.project,
                    entity=settings.entity,
                    mode="offline" if settings.mode is Mode.offline else "online",
                    dir=str(run.run_dir),
                    config={**redact.tree(dict(run.config)), "facts": _facts(run.facts)},
                    **_place(settings, run),
                )
        except Exception as error:  # wandb raises its own and network errors of many kinds
            raise ConfigError(
                f"log.wandb: wandb could not start: {redact.text(str(error)).rstrip('.')}; run `wandb login`, "
                "or set log.wandb.mode=offline"
            ) from None
        (run.run_dir / ID).write_text(f"{self._wandb.id}\n", encoding="utf-8")
        self._wandb.define_metric("step", hidden=True)
        for metric in METRICS.values():
            summed = None if metric.best is Best.last else str(metric.best)  # None: the last value, under its own name
            self._wandb.define_metric(metric.name, step_metric="step", summary=summed)
        for family in FAMILIES:
            self._wandb.define_metric(f"{family}/*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._wandb.log({"step": step, **metrics})

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        """Every so many batches a table: one play of each of the first groups, as a person reads it."""
        import wandb

        self._tables += 1
        if self._settings.plays and (self._tables - 1) % self._settings.plays_every == 0:
            plays = [group.trajectories[0] for group in groups[: self._settings.plays] if group.trajectories]
            table = wandb.Table(columns=list(PLAYED), data=[_row(step, play) for play in plays])
            self._wandb.log({"step": step, "plays/training": table})

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        """A table of the plays of an evaluation, one row each, under the name of its moment."""
        import wandb

        rows = [[moment, *(play.get(name) for name in MEASURED[1:])] for play in plays]
        self._wandb.log({"step": step, f"plays/{moment}": wandb.Table(columns=list(MEASURED), data=rows)})

    def note(self, text: str) -> None:
        """Notes stay in the run's folder and on the console."""

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """The run's result becomes the wandb summary's ``result``; a run without one is marked as failed."""
        if summary is not None:
            short = {name: value for name, value in summary.items() if name != "facts"}  # these are in the config
            self._wandb.summary.update({"result": redact.tree(short)})
        done = summary is not None and summary.get("status") != "failed"
        self._wandb.finish(exit_code=0 if done else 1)


def _place(settings: Wandb, run: RunFacts) -> dict[str, Any]:
    """Name, group, job type, tags and id. What a sweep or the person says by WANDB_* variables goes before our own
    words, and what the config says before both."""
    choices = dict(run.config.get("choices") or {})
    learns = "steps" in run.config
    what = " ".join(str(choices[key]) for key in ("method", "env") if choices.get(key)) or run.run_dir.name
    group = settings.group or os.environ.get("WANDB_RUN_GROUP") or what
    name = settings.name or os.environ.get("WANDB_NAME") or f"{group} seed{run.config.get('seed', 0)}"
    said = [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
    known = [str(choices[key]) for key in ("method", "env", "model") if choices.get(key)]
    found: dict[str, Any] = {
        "name": name,
        "group": group[:128],  # W&B's limit
        "job_type": os.environ.get("WANDB_JOB_TYPE") or ("train" if learns else "eval"),
        "tags": list(dict.fromkeys([*settings.tags, *said, *known])),
    }
    earlier = run.run_dir / ID
    if run.config.get("resume") and earlier.is_file():
        found |= {"id": earlier.read_text(encoding="utf-8").strip(), "resume": "allow"}
    return found


def _facts(facts: Mapping[str, Any]) -> Any:
    """Panel hash, data, model, git state, machine; W&B takes down the packages itself."""
    origin = {key: value for key, value in facts.get("provenance", {}).items() if key in ("git", "machine")}
    return redact.tree({**facts, "provenance": origin})


@contextmanager
def _redacted_argv() -> Iterator[None]:
    """wandb writes down the command line that it finds when it starts."""
    before = sys.argv
    sys.argv = [redact.text(word) for word in before]
    try:
        yield
    finally:
        sys.argv = before


def _row(step: int, play: Trajectory) -> list[Any]:
    return [
        step, play.task.id, play.member, bool(play.success), play.reward, len(play.turns), str(play.stop), _told(play),
    ]  # fmt: skip


def _told(play: Trajectory) -> str:
    """The play as text: what the policy saw first, then its actions and the answers."""
    lines = [message.content for message in play.first_observation]
    for turn in play.turns:
        lines += [f"> {turn.action.content}", *(message.content for message in turn.observation)]
    return "\n".join(lines)
