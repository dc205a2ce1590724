"""One rollout worker: an engine in a process of its own, asked through a pipe.

The process does nothing but serve its engine; it ends when the pipe closes, so it never outlives the run, and leaves
Ctrl-C to the run. What goes wrong inside comes back as a sentence with the worker's traceback; a process that dies or
does not answer in time is told apart (:class:`WorkerLost`), because another one can take its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import torch

from agentrl.engine.base import Engine
from agentrl.errors import AgentRLError, EngineError
from agentrl.watchdog import patience, show_stacks

GRACE_S = 15.0  # beyond a worker's own deadline until the watchdog counts it as silent
PRELOAD = ("agentrl.engine.torch_engine", "transformers", "transformers.models.auto.modeling_auto")


class WorkerLost(Exception):
    """A worker died or did not answer in time; the text says which."""


class Settings(Protocol):
    """Starts an engine: the dataclass of conf/engine/torch.yaml, vllm.yaml, ..."""

    def start(self, source: Any, device: str) -> Engine: ...


class Served:
    """What a worker can be asked: its engine, with weights that come as a file."""

    def __init__(self, settings: Settings, source: Any, device: str) -> None:
        self.engine = settings.start(source, device)

    def about(self) -> dict[str, Any]:
        """The engine's dtype, by name."""
        return {"dtype": str(self.engine.dtype).removeprefix("torch.")}

    def generate(self, *args: Any) -> Any:
        return self.engine.generate(*args)

    def logprobs(self, *args: Any) -> Any:
        return self.engine.logprobs(*args)

    def checksum(self) -> str | None:
        return self.engine.checksum()

    def load(self, path: str, version: int) -> None:
        """Take over the weights in a file that ``torch.save`` wrote: name -> tensor."""
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        self.engine.load(weights.items(), version)


def answer(served: Served, what: str, args: tuple[Any, ...]) -> tuple[str, Any]:
    """``("ok", value)``, or ``("error", sentence)`` with the traceback where it was no mistake of a user."""
    try:
        return "ok", getattr(served, what)(*args)
    except AgentRLError as error:
        return "error", str(error)
    except Exception as error:  # whatever an engine raises has to reach the person at the other end
        return "error", f"engine: the worker failed with {type(error).__name__}: {error}\n{traceback.format_exc()}"


def serve(pipe: Connection, settings: Settings, source: Any, device: str, env: Mapping[str, str]) -> None:
    """The life of a worker's process."""
    os.environ.update(env)  # before any GPU is looked at
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", torch.get_num_threads())))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    show_stacks()
    try:
        served = Served(settings, source, device)
    except AgentRLError as error:
        pipe.send(("error", str(error)))
        return
    except Exception as error:
        pipe.send(("error", f"engine: the worker could not start: {error}\n{traceback.format_exc()}"))
        return
    pipe.send(("ok", served.about()))
    while True:
        try:
            what, args = pipe.recv()
        except (EOFError, OSError):  # the run has gone
            return
        pipe.send(answer(served, what, args))


class Worker:
    """A worker as the pool sees it, one request at a time. ``env``: further environment variables of its process."""

    def __init__(self, settings: Settings, source: Any, device: str, env: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")  # what is imported there is imported once for all workers
        context.set_forkserver_preload(list(PRELOAD))
        self._pipe, theirs = context.Pipe()
        about = (theirs, settings, source, device, dict(env))
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
        """Its answer to ``what``, a method of :class:`Served`. Raises WorkerLost, EngineError."""
        return self._exchange(what, timeout_s, (what, args))

    def kill(self) -> None:
        """End it at once, whatever it does."""
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
            with patience("engine", f"a worker's answer to '{what}'", timeout_s + GRACE_S):
                if message is not None:
                    self._pipe.send(message)
                kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerLost(
                f"did not answer '{what}' within {timeout_s:g} s" if late.is_set() else self._end()
            ) from None
        finally:
            timer.cancel()
        if kind == "error":
            raise EngineError(value)
        return value

    def _end(self) -> str:
        self._process.join(10.0)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"was ended by signal {-code} ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"


def shared_folder() -> Path | None:
    """A folder in memory for weights on their way, where the machine has one."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None
