"""Workers that are Ray actors, on this machine or on any node of a Ray cluster.

Ray places them by the cores and GPUs that each of them reserves, keeps one copy of pushed weights on each node, and
tells when an actor has died. What a worker does is what a process of :mod:`agentrl.cluster.processes` does; the learner
and the environments stay in the run's own process.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from agentrl.cluster.base import (
    SILENT_S,
    AtRest,
    EngineSettings,
    Served,
    Transfer,
    WorkerLost,
    answered,
    begun,
    on_host,
    value_of,
)
from agentrl.cluster.broadcast import Broadcasting
from agentrl.cluster.forks import HERE
from agentrl.cluster.pool import Pooled, PoolEngine, require_transfer
from agentrl.cluster.ray_hands import Actors, Wants
from agentrl.cluster.ray_join import cause, join, require_ray
from agentrl.device import resolve_device
from agentrl.errors import ConfigError
from agentrl.ranges import require_least
from agentrl.watchdog import patience

TRANSFERS = ("host", "broadcast")


@dataclass(frozen=True)
class Ray(Pooled):
    """The schema of conf/cluster/ray.yaml."""

    cpus: float
    gpus: float
    address: str
    transfer: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_transfer(self.transfer, TRANSFERS)
        require_least(self, "cluster", cpus=0, gpus=0)
        if self.gpus > 1:
            raise ConfigError(
                f"cluster.gpus: got {self.gpus:g}, expected at most 1: an engine computes on one GPU or a share of it"
            )

    def start(self, engine: EngineSettings, source: Any, device: str) -> PoolEngine:
        """All actors, up and equal. Raises ConfigError, EngineError."""
        if device == "cuda" and not self.gpus:
            raise ConfigError("cluster.gpus: got 0 with device=cuda, expected the share of a GPU for each worker, as 1")
        apart = self.transfer == "broadcast"
        if apart and (self.gpus not in (0, 1) or (self.gpus == 1) != (resolve_device(device).type == "cuda")):
            raise ConfigError(
                f"cluster.transfer: got broadcast with cluster.gpus={self.gpus:g} and the learner on "
                f"{resolve_device(device).type}, expected a GPU for each of them or for none; use host"
            )
        ray = require_ray()
        own = join(ray, self.address, first_gpu=not apart)
        try:
            if own:
                self._require_room(ray.cluster_resources())
            crew = Crew(ray, own, self, pickle.dumps((engine, source, "cuda" if self.gpus else "cpu")))
        except BaseException:
            if own:
                ray.shutdown()
            raise
        return PoolEngine(crew, self)

    def hands(self, count: int, kind: str) -> Actors:
        """Actors beside those of the engines, on a GPU each or ``cpus`` cores. Raises ConfigError."""
        ray = require_ray()
        own = join(ray, self.address, first_gpu=kind != "cuda")
        try:
            if own:
                self._require_room(ray.cluster_resources(), count if kind == "cuda" else 0)
            return Actors(ray, own, not self.address, Wants(count, self.cpus, float(kind == "cuda")))
        except BaseException:
            if own:
                ray.shutdown()
            raise

    def describe(self) -> str:
        where = f"the Ray cluster at {self.address}" if self.address else "a Ray of this machine"
        return (
            f"{self.workers} actor(s) of {self.cpus:g} core(s) and {self.gpus:g} GPU(s) on {where}, parts of "
            f"{self.part} requests{', weights broadcast' * (self.transfer == 'broadcast')}"
        )

    def _require_room(self, there: Mapping[str, float], learners: int = 0) -> None:
        """On one machine nothing can be waited for. ``learners``: GPUs that others have. Raises ConfigError."""
        for name, unit, others in (("cpus", "CPU", 0), ("gpus", "GPU", learners)):
            wanted, found = getattr(self, name) * self.workers + others, there.get(unit, 0.0)
            if wanted > found:
                more = f" and {others} actor(s) of the learner" if others else ""
                raise ConfigError(
                    f"cluster.{name}: {self.workers} workers of {getattr(self, name):g}{more} want {wanted:g}, this "
                    f"machine has {found:g}{' beside the first' * bool(others)}; lower cluster.{name} or "
                    "cluster.workers, or name a cluster by cluster.address"
                )


class Crew:
    """Hires actors (an :class:`agentrl.cluster.base.Agency`). ``own``: the Ray they live on ends with them."""

    def __init__(self, ray: Any, own: bool, settings: Ray, about: bytes) -> None:
        self._ray, self._own, self._about = ray, own, about
        self._threads = max(1, int(settings.cpus))
        self._actors = ray.remote(Seat).options(
            num_cpus=settings.cpus, num_gpus=settings.gpus, max_restarts=0, max_task_retries=0
        )
        self._wants = f"{settings.cpus:g} core(s) and {settings.gpus:g} GPU(s)"
        self.transfer: Transfer = Store(ray)
        if settings.transfer == "broadcast":
            host = ray.util.get_node_ip_address() if settings.address else HERE
            self.transfer = Broadcasting(host, settings.workers, "cuda" if settings.gpus else "cpu", self.transfer)

    def hire(self, number: int) -> Actor:
        """An actor whose engine is on its way, as soon as Ray finds a place for it."""
        return Actor(self._ray, self._actors.remote(self._threads), list(sys.path), self._about, self._wants)

    def close(self) -> None:
        """End the Ray that this run started; leave any other."""
        self.transfer.close()
        if self._own:
            self._ray.shutdown()


class Store:
    """Weights in Ray's object store, put there once for all workers (an :class:`agentrl.cluster.base.Transfer`)."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def pack(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, version: int) -> Stored:
        """Through the host's memory."""
        return Stored.put(self._ray, on_host(weights, dtype))

    def changed(self) -> None:
        """Nothing: what is in the store is there for all."""

    def close(self) -> None:
        """Nothing: Ray cleans up."""


@dataclass(frozen=True)
class Stored(AtRest):
    """Weights in Ray's object store (an :class:`agentrl.cluster.base.Parcel`, and what is handed over)."""

    place: Any  # a ray.ObjectRef

    @classmethod
    def put(cls, ray: Any, weights: Mapping[str, torch.Tensor]) -> Stored:
        """As bytes: numpy, in whose arrays Ray shares memory, knows no bfloat16."""
        plain = {
            name: (tensor.contiguous().flatten().view(torch.uint8).numpy(), str(tensor.dtype), tuple(tensor.shape))
            for name, tensor in weights.items()
        }
        return cls(ray.put(plain))

    def open(self) -> Iterable[tuple[str, torch.Tensor]]:
        for name, (data, dtype, shape) in require_ray().get(self.place).items():
            flat = torch.tensor(data)  # a copy: what lies in the store is read-only
            yield name, flat.view(getattr(torch, dtype.removeprefix("torch."))).reshape(shape)

    def drop(self) -> None:
        """Nothing to do: Ray forgets it with the last reference."""


class Actor:
    """One actor (an :class:`agentrl.cluster.base.Worker`)."""

    def __init__(self, ray: Any, actor: Any, path: list[str], about: bytes, wants: str) -> None:
        self._ray, self._actor, self._wants = ray, actor, wants
        self._begun = actor.begin.remote(path, about)

    def ready(self, timeout_s: float) -> dict[str, Any]:
        """Wait until its engine is up; gives what ``Served.about`` says. Raises WorkerLost, EngineError."""
        try:
            found: dict[str, Any] = self._receive(self._begun, timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            free = {name: self._ray.available_resources().get(name, 0.0) for name in ("CPU", "GPU")}
            raise WorkerLost(
                f"was not up within {timeout_s:g} s (it wants {self._wants}; free on the Ray cluster are "
                f"{free['CPU']:g} and {free['GPU']:g})"
            ) from None
        return found

    def ask(self, what: str, *args: Any, timeout_s: float) -> Any:
        """Its answer to ``what``. Raises WorkerLost, EngineError."""
        try:
            return self._receive(self._actor.ask.remote(what, args), timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            raise WorkerLost(f"did not answer '{what}' within {timeout_s:g} s") from None

    def leave(self) -> None:
        """Nothing: Ray cleans up behind a killed actor."""

    def kill(self, grace_s: float = 0.0) -> None:
        """End it at once, whatever it does."""
        if self._ray.is_initialized():
            self._ray.kill(self._actor, no_restart=True)

    def _receive(self, answer: Any, timeout_s: float) -> Any:
        errors = self._ray.exceptions
        try:
            with patience("engine", "a worker's answer", timeout_s + SILENT_S):
                found = self._ray.get(answer, timeout=timeout_s)
        except errors.GetTimeoutError:
            raise
        except errors.RayError as error:  # the actor, its node or an object has gone
            raise WorkerLost(f"was lost by Ray ({cause(error)}; what it printed is in Ray's logs)") from None
        return value_of(found)


class Seat:
    """The life of a worker inside of its actor."""

    def __init__(self, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        self._served: Served | None = None

    def begin(self, path: list[str], about: bytes) -> tuple[str, Any]:
        """Start the engine, which may be of a plug-in that the run found on its ``path``."""
        sys.path.extend(place for place in path if place not in sys.path)
        try:
            engine, source, device = pickle.loads(about)
        except (ImportError, AttributeError) as error:
            return "error", f"engine: a worker cannot import what this run uses: {error}; install it on every node"
        self._served, told = begun(engine, source, device)
        return told

    def ask(self, what: str, args: tuple[Any, ...]) -> tuple[str, Any]:
        assert self._served is not None
        return answered(self._served, what, args)

    def pid(self) -> int:
        """Its process id, on its own machine."""
        return os.getpid()
