"""Weights & Biases, online or offline. Imported only when ``log=wandb`` asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from agentrl.errors import ConfigError
from agentrl.log.base import Advantages, Outlooks, RunFacts
from agentrl.log.metrics import FAMILIES, METRICS
from agentrl.types import Group


class Mode(StrEnum):
    """Offline runs are written into the run's folder and sent later by ``wandb sync``."""

    online = auto()
    offline = auto()


@dataclass(frozen=True)
class Wandb:
    """Where a run appears in Weights & Biases; null ``entity``, ``name`` and ``group`` take its defaults."""

    project: str
    entity: str | None
    name: str | None
    group: str | None
    tags: list[str]
    mode: Mode

    def open(self, run: RunFacts) -> WandbLog:
        """Raises ConfigError when wandb cannot start (no login, no network)."""
        return WandbLog(self, run)


class WandbLog:
    """One wandb run; numbers of one step are collected and sent when the next step begins."""

    def __init__(self, settings: Wandb, run: RunFacts) -> None:
        import wandb

        try:
            self._wandb = wandb.init(
                project=settings.project,
                entity=settings.entity,
                name=settings.name or run.run_dir.name,
                group=settings.group,
                tags=list(settings.tags),
                mode="offline" if settings.mode is Mode.offline else "online",
                dir=str(run.run_dir),
                config=dict(run.config),
            )
        except Exception as error:  # wandb raises its own and network errors of many kinds
            raise ConfigError(
                f"log.wandb: wandb could not start: {str(error).rstrip('.')}; run `wandb login`, "
                "or set log.wandb.mode=offline"
            ) from None
        self._wandb.define_metric("step")
        for metric in METRICS.values():
            self._wandb.define_metric(metric.name, step_metric="step", summary=str(metric.best))
        for family in FAMILIES:
            self._wandb.define_metric(f"{family}/*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._wandb.log({"step": step, **metrics})

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        """Trajectories stay in the run's folder."""

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        """Single plays stay in the run's folder; their means are among the metrics."""

    def note(self, text: str) -> None:
        """Notes stay in the run's folder and on the console."""

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """The run's result becomes the wandb summary's ``result``; a run without one is marked as failed."""
        if summary is not None:
            self._wandb.summary.update({"result": dict(summary)})
        self._wandb.finish(exit_code=0 if summary is not None else 1)
