"""Runs as processes of this machine, within a budget of cores or GPUs."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from agentrl.errors import ConfigError
from agentrl.launch.base import Job, carry_out
from agentrl.ranges import require_least


@dataclass(frozen=True)
class Local:
    """The schema of conf/launcher/local.yaml, where every number has its unit."""

    workers: int
    gpus: int
    gpus_per_run: int

    def __post_init__(self) -> None:
        require_least(self, "launcher", workers=0, gpus=0, gpus_per_run=1)
        if 0 < self.gpus < self.gpus_per_run:
            raise ValueError(
                f"launcher.gpus_per_run: got {self.gpus_per_run}, expected at most gpus={self.gpus}; raise gpus"
            )

    def start(self, folder: Path, flags: Sequence[str], usual: int) -> LocalRunner:
        """Raises ConfigError when the machine shows fewer GPUs than asked for."""
        return LocalRunner(self.shares(usual), flags)

    def shares(self, usual: int) -> list[dict[str, str]]:
        """For each run at a time what it finds in its environment. Raises ConfigError."""
        at_once = self.workers or self.gpus // self.gpus_per_run or usual
        threads = {"OMP_NUM_THREADS": "1"} if at_once > 1 and not self.gpus else {}
        if not self.gpus:
            return [threads] * at_once
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = shown.split(",") if shown else [str(number) for number in range(self.gpus)]
        if len(names) < self.gpus:
            raise ConfigError(
                f"gpus={self.gpus}: CUDA_VISIBLE_DEVICES={shown} shows only {len(names)}; take gpus={len(names)}"
            )
        size = self.gpus_per_run
        sets = [names[first : first + size] for first in range(0, self.gpus - size + 1, size)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(sets[slot % len(sets)])} for slot in range(at_once)]


class LocalRunner:
    """Threads that wait for processes; each process takes a free share of the machine."""

    def __init__(self, shares: Sequence[dict[str, str]], flags: Sequence[str]) -> None:
        self.at_once = len(shares)
        self._flags = tuple(flags)
        self._asked: list[int] = []
        self._free: SimpleQueue[dict[str, str]] = SimpleQueue()
        for share in shares:
            self._free.put(share)

    def call(self, job: Job) -> int:
        share = self._free.get()
        try:
            return carry_out(job, self._flags, share, lambda: self._asked)
        finally:
            self._free.put(share)

    def stop(self, number: int = signal.SIGINT) -> None:
        self._asked.append(number)

    def close(self) -> None:
        """Nothing is left: ``call`` waits for its processes."""
