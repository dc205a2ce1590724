"""Where engines live: ``engine`` says what samples, ``cluster`` says in which processes, on which machines.

A cluster of several workers is one pool (:mod:`agentrl.cluster.pool`) over an agency that hires: processes of this
machine, or Ray actors anywhere. What a worker does inside is the same in both (:class:`Served`). A cluster has places
for other processes of the run, too: its :class:`Hands`, with which a learner of several processes learns.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self

import torch

from agentrl.digest import Digest
from agentrl.engine.base import Completion, Engine, Request, Sampling, Stream
from agentrl.errors import AgentRLError, EngineError

SILENT_S = 15.0  # beyond a worker's own deadline until the watchdog counts it as silent


class EngineSettings(Protocol):
    """Starts an engine: the dataclass of conf/engine/torch.yaml, vllm.yaml, ..."""

    def start(self, source: Any, device: str) -> Engine: ...


class Cluster(Protocol):
    """The dataclass of conf/cluster/*.yaml."""

    def start(self, engine: EngineSettings, source: Any, device: str) -> Engine:
        """The engine (or many as one), up. ``source``: where its first weights come from. Raises ConfigError,
        EngineError."""
        ...

    def hands(self, count: int, kind: str) -> Hands:
        """``count`` processes beside this one, not yet at work; of ``kind`` cuda each gets a GPU of its own, and this
        process has the first of those that it sees. Raises ConfigError."""
        ...

    def describe(self) -> str:
        """Where engines live, in a few words that follow 'in'."""
        ...


class Others(Protocol):
    """Processes beside this one, each of which lives for one function. They are counted from 1."""

    host: str  # the address under which they reach this process

    def end(self, number: int, wait_s: float) -> str:
        """How a process ended, in words that follow its name; empty while it lives. Waits so long for its end."""
        ...

    def help(self) -> str:
        """What a person should look at when one does not come up."""
        ...

    def leave(self) -> None:
        """They have been told to end: see that they do, and clean up behind them."""
        ...


class Hands(Others, Protocol):
    """Those that are started here."""

    def gpu(self, number: int) -> int:
        """Which of the GPUs that process ``number`` sees is its own."""
        ...

    def hire(self, life: Callable[[Any], None], given: Sequence[Any]) -> None:
        """Begin to start them all: ``life(given[k])`` in process k + 1."""
        ...

    def kill(self) -> None:
        """End them, whatever they do, and clean up behind them."""
        ...


class WorkerLost(Exception):
    """A worker died or did not answer in time; the text says which, as what follows 'worker 1'."""


class Broken(WorkerLost):
    """A worker lives, but its engine is of no use: a transfer of weights ended in the middle."""


class TransferBroken(Exception):
    """A transfer of weights ended in the middle; the text says why."""


class Worker(Protocol):
    """A worker as the pool sees it, one question at a time."""

    def ready(self, timeout_s: float) -> dict[str, Any]:
        """Wait until its engine is up; gives what ``Served.about`` says. Raises WorkerLost, EngineError."""
        ...

    def ask(self, what: str, *args: Any, timeout_s: float) -> Any:
        """Its answer to ``what``, a method of :class:`Served`. Raises WorkerLost, EngineError."""
        ...

    def leave(self) -> None:
        """Let it end by itself as soon as it is idle. Nothing is asked of it any more."""
        ...

    def kill(self, grace_s: float = 0.0) -> None:
        """End it, whatever it does; one that leaves by itself within ``grace_s`` cleans up behind itself."""
        ...


class Handed(Protocol):
    """Weights as a worker gets them."""

    def open(self) -> Iterable[tuple[str, torch.Tensor]]:
        """Tensors under their checkpoint names, to be copied from, not written to. Raises TransferBroken, also while
        they are read."""
        ...


class Parcel(Protocol):
    """Weights on their way, as the run has them: made once for all workers, who are told of it and get what it is
    pickled to, a :class:`Handed`. It outlives the push, since a worker that takes another's place opens it as well; so
    it shares no memory with weights that go on learning."""

    def send(self, stopped: Callable[[], bool]) -> None:
        """While all workers open it: do what has to be done at this end. Raises TransferBroken, also where ``stopped``
        says that it is in vain."""
        ...

    def late(self) -> Parcel:
        """The same weights for a worker that opens them by itself, later."""
        ...

    def drop(self) -> None:
        """No worker will open it any more."""
        ...


class AtRest:
    """What parcels have in common that lie where every worker finds them, at any time: nothing is sent."""

    def send(self, stopped: Callable[[], bool]) -> None:
        """Nothing."""

    def late(self) -> Self:
        """Itself."""
        return self


class Transfer(Protocol):
    """How weights get from the learner to its workers."""

    def pack(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, version: int) -> Parcel:
        """``weights`` come as the learner holds them, on its device and in its dtype; the engines want ``dtype``."""
        ...

    def changed(self) -> None:
        """A new worker is in the place of another."""
        ...

    def close(self) -> None:
        """All workers have ended: give back what they shared."""
        ...


class Agency(Protocol):
    """Hires workers, and knows how weights get to them."""

    def hire(self, number: int) -> Worker:
        """Begin to start worker ``number``; it is waited for by its ``ready``."""
        ...

    @property
    def transfer(self) -> Transfer: ...

    def close(self) -> None:
        """Give back what is shared by the workers, all of which have ended."""
        ...


def on_host(weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """In this machine's memory, one tensor at a time, so that a GPU holds no second copy of all of them."""
    return {name: tensor.detach().to("cpu", dtype) for name, tensor in weights}


class Served:
    """What a worker can be asked: its engine, with weights that come as a parcel."""

    def __init__(self, settings: EngineSettings, source: Any, device: str) -> None:
        self.engine = settings.start(source, device)
        self._stream: Stream | None = None

    def about(self) -> dict[str, Any]:
        """The engine's dtype, by name, and whether pushes bring it an adapter alone."""
        return {
            "dtype": str(self.engine.dtype).removeprefix("torch."),
            "adapter_only": self.engine.adapter_only,
        }

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return self.engine.generate(requests, sampling)

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        return self.engine.logprobs(sequences)

    def checksum(self) -> Digest | None:
        return self.engine.checksum()

    def advance(
        self, sampling: Sampling, new: Sequence[tuple[int, Request]], dropped: Sequence[int], wait_s: float
    ) -> list[tuple[int, Completion]]:
        """One call of the engine's stream, which is opened by the first one."""
        if self._stream is None:
            self._stream = self.engine.stream(sampling)
        return self._stream.advance(new, dropped, wait_s)

    def close_stream(self) -> None:
        """Forget what the stream has under way."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def load(self, parcel: Handed, version: int) -> None:
        """Take over the weights of a parcel; when this returns, they are there."""
        self.engine.load(parcel.open(), version)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def begun(settings: EngineSettings, source: Any, device: str) -> tuple[Served | None, tuple[str, Any]]:
    """A worker's engine, and the answer to 'are you up?' (see :func:`answered`); none where it could not start."""
    try:
        served = Served(settings, source, device)
    except AgentRLError as error:
        return None, ("error", str(error))
    except Exception as error:
        return None, ("error", f"engine: the worker could not start: {error}\n{traceback.format_exc()}")
    return served, ("ok", served.about())


def answered(served: Served, what: str, args: tuple[Any, ...]) -> tuple[str, Any]:
    """``("ok", value)``, or ``("error", sentence)`` with the traceback where it was no mistake of a user, or
    ``("broken", why)``; to be taken apart by :func:`value_of`."""
    try:
        return "ok", getattr(served, what)(*args)
    except TransferBroken as error:
        return "broken", str(error)
    except AgentRLError as error:
        return "error", str(error)
    except Exception as error:  # whatever an engine raises has to reach the person at the other end
        return "error", f"engine: the worker failed with {type(error).__name__}: {error}\n{traceback.format_exc()}"


def value_of(answer: tuple[str, Any]) -> Any:
    """What a worker :func:`answered`. Raises EngineError, Broken."""
    kind, value = answer
    if kind == "error":
        raise EngineError(value)
    if kind == "broken":
        raise Broken(f"did not get all weights ({value})")
    return value
