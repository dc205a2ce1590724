"""TensorBoard's event files in the run's folder; needs ``pip install 'agentrl[tensorboard]'``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.errors import ConfigError
from agentrl.log.base import Numbers, RunFacts
from agentrl.log.metrics import METRICS

FOLDER = "tensorboard"  # in the run's folder


@dataclass(frozen=True)
class TensorBoard:
    """``every``: batches from one flush to the disk to the next."""

    every: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"log.tensorboard.every: got {self.every}, expected at least 1")

    def open(self, run: RunFacts) -> TensorBoardLog:
        """Raises ConfigError when TensorBoard is not installed."""
        return TensorBoardLog(self, run)


class TensorBoardLog(Numbers):
    """Scalars by their names in the metric table, each with its meaning and unit.

    A resumed run adds a file; TensorBoard shows the newer of two values of one step.
    """

    def __init__(self, settings: TensorBoard, run: RunFacts) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError:
            raise ConfigError(
                "log=tensorboard: TensorBoard is not installed; pip install 'agentrl[tensorboard]', or take log=console"
            ) from None
        self._settings = settings
        self._writer = Writer(str(run.run_dir / FOLDER))
        self._calls = 0
        self._told: set[str] = set()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            known = METRICS.get(name) if name not in self._told else None
            about = f"{known.about} [{known.unit}]" if known else None
            self._writer.add_scalar(name, value, step, description=about)
            self._told.add(name)
        self._calls += 1
        if self._calls % self._settings.every == 0:
            self._writer.flush()

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        self._writer.close()
