"""Each run as a task of Ray, on any machine of its cluster that has room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.cluster.ray_join import join, require_ray
from agentrl.launch.base import STOPPED, Job
from agentrl.launch.remote import Remote, StopSign, away
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


class RayRunner(Remote):
    """A thread for each run that waits for its task."""

    def __init__(self, task: Any, at_once: int, flags: Sequence[str], sign: StopSign) -> None:
        super().__init__(at_once, flags, sign)
        self._task = task

    def call(self, job: Job) -> int:
        import ray

        if self._stopped:
            return STOPPED
        try:
            return int(ray.get(self._task.remote(job, self._flags, self._sign.path)))
        except ray.exceptions.RayError as error:
            return self._lost(job, f"the run's task was lost: {' '.join(str(error).split())[:500]}")

    def close(self) -> None:
        import ray

        ray.shutdown()
        super().close()
