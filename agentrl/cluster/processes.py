"""Workers that are processes of this machine, each on a GPU or some cores of its own, asked through a pipe.

A worker's process does nothing but serve its engine; it ends when the pipe closes, so it never outlives the run, and
leaves Ctrl-C to the run. How weights get there is a setting (``transfer``): as one file, in memory where the machine
has such a folder (:class:`Files`), as memory of the same device, or sent from device to device.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from agentrl.cluster.base import SILENT_S, EngineSettings, Transfer, WorkerLost, answered, begun, value_of
from agentrl.cluster.broadcast import Broadcasting
from agentrl.cluster.files import Files
from agentrl.cluster.forks import HERE, PRELOAD, Forks, ended
from agentrl.cluster.pool import Pooled, PoolEngine, require_transfer
from agentrl.cluster.shared import Sharing
from agentrl.device import resolve_device, visible_gpus
from agentrl.errors import ConfigError
from agentrl.ranges import require_least
from agentrl.watchdog import patience, show_stacks

TRANSFERS = ("host", "shared", "broadcast")


@dataclass(frozen=True)
class Processes(Pooled):
    """The schema of conf/cluster/processes.yaml."""

    threads: int
    devices: list[str]
    transfer: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_transfer(self.transfer, TRANSFERS)
        require_least(self, "cluster", threads=0)
        if self.devices and len(self.devices) != self.workers:
            raise ConfigError(
                f"cluster.devices: got {len(self.devices)} for {self.workers} workers, expected one each (as cuda:1) "
                "or none"
            )

    def start(self, engine: EngineSettings, source: Any, device: str) -> PoolEngine:
        """All workers, up and equal. Raises ConfigError, EngineError."""
        return PoolEngine(Fork(self, engine, source, device), self)

    def hands(self, count: int, kind: str) -> Forks:
        """Further processes of this machine. Raises ConfigError."""
        return Forks(count, kind)

    def describe(self) -> str:
        where = f" on {', '.join(self.devices)}" if self.devices else ""
        how = "" if self.transfer == "host" else f", weights {self.transfer}"
        return f"{self.workers} process(es) of this machine{where}, parts of {self.part} requests{how}"


class Fork:
    """Hires processes (an :class:`agentrl.cluster.base.Agency`)."""

    def __init__(self, settings: Processes, engine: EngineSettings, source: Any, device: str) -> None:
        self._settings, self._engine, self._source, self._device = settings, engine, source, device
        self.transfer = self._transfer(settings.transfer, resolve_device(device))

    def hire(self, number: int) -> Process:
        """A process whose engine is on its way."""
        where = self._where(number)
        env = {"OMP_NUM_THREADS": str(self._settings.threads or _share(self._settings.workers))}
        if where.startswith("cuda:"):  # the worker sees this GPU alone
            env["CUDA_VISIBLE_DEVICES"], where = _name_of(where), "cuda:0"
        return Process(self._engine, self._source, where, env)

    def close(self) -> None:
        """Remove what was shared."""
        self.transfer.close()

    def _transfer(self, name: str, learner: torch.device) -> Transfer:
        """Raises ConfigError where the devices do not allow it."""
        if name == "host":
            return Files()
        here = f"cuda:{learner.index or 0}" if learner.type == "cuda" else "cpu"
        places = [self._where(number) for number in range(self._settings.workers)]
        if name == "shared":
            for number, place in enumerate(places):
                if place != here:
                    raise ConfigError(
                        f"cluster.transfer: got shared, but worker {number} computes on {place} and the learner on "
                        f"{here}; name one device (cluster.devices), or use broadcast or host"
                    )
            return Sharing()
        if learner.type == "cuda" and len({here, *places}) <= len(places):
            raise ConfigError(
                f"cluster.transfer: got broadcast, but the learner ({here}) and the workers ({', '.join(places)}) have "
                "not a GPU each; name others (cluster.devices), or use shared or host"
            )
        if any(place.split(":")[0] != learner.type for place in places):
            raise ConfigError(
                f"cluster.transfer: got broadcast, but the learner computes on {here} and the workers on "
                f"{', '.join(places)}; name devices of one kind (cluster.devices), or use host"
            )
        return Broadcasting(HERE, len(places), learner.type, Files())

    def _where(self, number: int) -> str:
        """The device of a worker: as listed, else the GPUs of this machine in turn."""
        if self._settings.devices:
            return self._settings.devices[number]
        if resolve_device(self._device).type == "cpu":
            return "cpu"
        return f"cuda:{number % torch.cuda.device_count()}"


class Process:
    """One process (an :class:`agentrl.cluster.base.Worker`). ``env``: further environment variables of its own."""

    def __init__(self, engine: EngineSettings, source: Any, device: str, env: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")  # what is imported there is imported once for all workers
        context.set_forkserver_preload(list(PRELOAD))
        self._pipe, theirs = context.Pipe()
        about = (theirs, engine, source, device, dict(env))
        self._process = context.Process(target=serve, args=about, daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid

    def ready(self, timeout_s: float) -> dict[str, Any]:
        """Wait until its engine is up; gives what ``Served.about`` says. Raises WorkerLost, EngineError."""
        found: dict[str, Any] = self._exchange("start", timeout_s)
        return found

    def ask(self, what: str, *args: Any, timeout_s: float) -> Any:
        """Its answer to ``what``. Raises WorkerLost, EngineError."""
        return self._exchange(what, timeout_s, (what, args))

    def leave(self) -> None:
        """Let it end by itself as soon as it is idle."""
        self._pipe.close()

    def kill(self, grace_s: float = 0.0) -> None:
        """End it, whatever it does, at the latest in ``grace_s``."""
        if grace_s:
            self._process.join(grace_s)
        self._process.kill()
        self._process.join(10.0)
        self._pipe.close()

    def _exchange(self, what: str, timeout_s: float, message: Any = None) -> Any:
        """Send (where there is a message) and receive. A process that is stopped can also hang the sending, or leave
        half an answer in the pipe: at the deadline it is killed, which ends either."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            with patience("engine", f"a worker's answer to '{what}'", timeout_s + SILENT_S):
                if message is not None:
                    self._pipe.send(message)
                answer = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerLost(
                f"did not answer '{what}' within {timeout_s:g} s" if late.is_set() else self._end()
            ) from None
        finally:
            timer.cancel()
        return value_of(answer)

    def _end(self) -> str:
        self._process.join(10.0)
        return ended(self._process.exitcode)


def serve(pipe: Connection, engine: EngineSettings, source: Any, device: str, env: Mapping[str, str]) -> None:
    """The life of a worker's process."""
    os.environ.update(env)  # before any GPU is looked at
    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    show_stacks()
    served, told = begun(engine, source, device)
    pipe.send(told)
    while served is not None:
        try:
            what, args = pipe.recv()
        except (EOFError, OSError):  # the run has gone
            served.engine.close()
            return
        pipe.send(answered(served, what, args))


def _name_of(where: str) -> str:
    """The GPU ``cuda:N`` as CUDA_VISIBLE_DEVICES names it. Raises ConfigError."""
    seen, number = visible_gpus(), where.removeprefix("cuda:")
    if not number.isdigit() or int(number) >= len(seen):
        raise ConfigError(
            f"cluster.devices: got '{where}', but this machine shows {len(seen)} GPU(s) here, expected cpu or cuda:N "
            "with N below that"
        )
    return seen[int(number)]


def _share(workers: int) -> int:
    return max(1, (os.cpu_count() or 1) // workers)
