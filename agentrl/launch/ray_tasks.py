"""Each run as a task of Ray, on any machine of its cluster that has room."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.cluster.ray_join import join, require_ray
from agentrl.launch.base import STOPPED, Job
from agentrl.launch.remote import StopSign, away
from agentrl.ranges import require_least, require_positive


@dataclass(frozen=True)
class RayTasks:
    """The schema of conf/launcher/ray.yaml, where every number has its unit."""

    address: str
    workers: int
    cpus: float
    gpus_per_run: float

    def __post_init__(self) -> None:
        require_least(self, "launcher", workers=0, gpus_per_run=0)
        require_positive(self, "launcher", "cpus")

    def start(self, folder: Path, flags: Sequence[str], usual: int) -> RayRunner:
        """Join the cluster at ``address``, or start a Ray of this machine. Raises ConfigError."""
        ray = require_ray("launcher", "local")
        join(ray, self.address, "launcher")
        task = ray.remote(away).options(num_cpus=self.cpus, num_gpus=self.gpus_per_run, max_retries=0)
        return RayRunner(task, self.workers or 1000, flags, StopSign(folder / "ray"))


class RayRunner:
    """A thread for each run that waits for its task."""

    def __init__(self, task: Any, at_once: int, flags: Sequence[str], sign: StopSign) -> None:
        self.at_once = at_once
        self._task = task
        self._flags = tuple(flags)
        self._sign = sign
        self._stopped = False

    def call(self, job: Job) -> int:
        import ray

        if self._stopped:
            return STOPPED
        try:
            return int(ray.get(self._task.remote(job, self._flags, self._sign.path)))
        except ray.exceptions.RayError as error:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a", encoding="utf-8") as log:
                log.write(f"agentrl: the run's task was lost: {' '.join(str(error).split())[:500]}\n")
            return 1

    def stop(self, number: int = signal.SIGINT) -> None:
        self._stopped = True
        self._sign.raise_it()

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._sign.clear()
