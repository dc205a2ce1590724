"""Each run as a job of Slurm, through submitit: the sweep waits in the terminal, the runs in the queue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.launch.base import STOPPED, Job
from agentrl.launch.remote import Remote, StopSign, away
from agentrl.ranges import require_least, require_positive

LOOK_S = 1.0  # seconds between looks at the state of a job


@dataclass(frozen=True)
class Slurm:
    """The schema of conf/launcher/slurm.yaml, where every number has its unit."""

    cluster: str
    workers: int
    partition: str | None
    minutes: int
    warning_s: int
    cpus: int
    gpus_per_run: int
    memory_gib: int
    setup: list[str]
    more: dict[str, Any]

    def __post_init__(self) -> None:
        require_least(self, "launcher", workers=0, gpus_per_run=0)
        require_positive(self, "launcher", "minutes", "warning_s", "cpus", "memory_gib")

    def start(self, folder: Path, flags: Sequence[str], usual: int) -> SlurmRunner:
        """Raises ConfigError without submitit or without Slurm."""
        try:
            import submitit
        except ImportError:
            raise ConfigError("launcher=slurm: submitit is not installed; pip install 'agentrl[sweeps]'") from None
        try:
            executor = submitit.AutoExecutor(folder / "submitit", cluster=self.cluster)
            executor.update_parameters(name=f"agentrl-{folder.name}"[:60], **self._parameters(), **self.more)
        except (RuntimeError, ValueError, NameError) as error:
            raise ConfigError(f"launcher=slurm: {error}; run this where sbatch is, or take launcher=local") from None
        return SlurmRunner(executor, self.workers or 1000, flags, StopSign(folder / "submitit"))

    def _parameters(self) -> Mapping[str, Any]:
        asked = {
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus_per_run,
            "mem_gb": self.memory_gib,
            "nodes": 1,
            "tasks_per_node": 1,
        }
        slurm: dict[str, Any] = {"slurm_partition": self.partition, "slurm_setup": self.setup or None}
        slurm |= {"slurm_signal_delay_s": self.warning_s}
        return asked | {name: value for name, value in slurm.items() if value is not None}


class SlurmRunner(Remote):
    """A thread for each run that waits for its end in the queue."""

    def __init__(self, executor: Any, at_once: int, flags: Sequence[str], sign: StopSign) -> None:
        super().__init__(at_once, flags, sign)
        self._executor = executor

    def call(self, job: Job) -> int:
        if self._stopped:
            return STOPPED
        queued = self._executor.submit(away, job, self._flags, self._sign.path)
        while not queued.done():
            if self._stopped and queued.state == "PENDING":
                queued.cancel(check=False)
                return STOPPED
            time.sleep(LOOK_S)
        try:
            return int(queued.result())
        except Exception as error:  # submitit's own: the node died, the queue ended the job
            return self._lost(job, f"job {queued.job_id} of the queue: {' '.join(str(error).split())}")
