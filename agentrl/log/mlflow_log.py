"""MLflow, on a server or in a folder; needs ``pip install 'agentrl[mlflow]'`` (its small package, mlflow-skinny).

Config as parameters by their dotted keys, metrics by their names in the metric table over optimiser steps, the summary
as an artifact. A resumed run goes on in the same MLflow run. No key leaves the machine: all of it is redacted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentrl import redact
from agentrl.errors import ConfigError
from agentrl.log.base import Numbers, RunFacts

ID = "mlflow_id.txt"  # in the run's folder: under which MLflow run a resumed one goes on
LONGEST = 6000  # characters of a parameter
AT_ONCE = 100  # parameters of one request


@dataclass(frozen=True)
class MLflow:
    """``uri``: of the tracking server, empty for what MLFLOW_TRACKING_URI says, or MLflow's own default."""

    experiment: str
    uri: str

    def open(self, run: RunFacts) -> MLflowLog:
        """Raises ConfigError when MLflow is not installed, or its server does not answer."""
        return MLflowLog(self, run)


class MLflowLog(Numbers):
    """One MLflow run."""

    def __init__(self, settings: MLflow, run: RunFacts) -> None:
        try:
            from mlflow.entities import Metric, Param
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise ConfigError(
                "log=mlflow: MLflow is not installed; pip install 'agentrl[mlflow]', or take log=console"
            ) from None
        self._metric, self._param = Metric, Param
        try:
            self._client = MlflowClient(settings.uri or None)
            self._id = self._begun(settings, run)
        except Exception as error:  # MLflow raises its own and network errors of many kinds
            said = " ".join(redact.text(str(error)).split())[:300]
            raise ConfigError(
                f"log.mlflow: MLflow could not start: {said}; mend log.mlflow.uri, or take log=console"
            ) from None

    def _begun(self, settings: MLflow, run: RunFacts) -> str:
        """The id of the run of this folder, which is made if there is none yet."""
        earlier = run.run_dir / ID
        if run.first_step and earlier.is_file():
            found = earlier.read_text(encoding="utf-8").strip()
            self._client.set_terminated(found, "RUNNING")
            return found
        known = self._client.get_experiment_by_name(settings.experiment)
        place = known.experiment_id if known else self._client.create_experiment(settings.experiment)
        choices = {name: str(value) for name, value in dict(run.config.get("choices") or {}).items()}
        made: str = self._client.create_run(place, run_name=run.run_dir.name, tags=choices).info.run_id
        earlier.write_text(f"{made}\n", encoding="utf-8")
        params = [self._param(key, value[:LONGEST]) for key, value in _flat(redact.tree(dict(run.config)))]
        for first in range(0, len(params), AT_ONCE):
            self._client.log_batch(made, params=params[first : first + AT_ONCE])
        return made

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [self._metric(name, value, now, step) for name, value in metrics.items()])

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """The run's result becomes an artifact; a run without one is marked as failed."""
        if summary is not None:
            self._client.log_dict(self._id, redact.tree(dict(summary)), "summary.json")
        done = summary is not None and summary.get("status") != "failed"
        self._client.set_terminated(self._id, "FINISHED" if done else "FAILED")


def _flat(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value of each leaf; empty nodes are none."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(node)
