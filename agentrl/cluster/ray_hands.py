"""Processes that are Ray actors and live for one function each (an :class:`agentrl.cluster.base.Hands`).

On a cluster each reserves a GPU, or some cores, all as near to each other as Ray finds room. On a Ray of this machine
they reserve no cores: a learner computes while engines rest. They talk with the run over the addresses of their nodes.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from agentrl.cluster.forks import HERE, LEAVING_S
from agentrl.cluster.ray_join import cause, require_ray

GLOO = "GLOO_SOCKET_IFNAME"  # over which of this machine's networks gloo talks
SIOCGIFADDR = 0x8915  # linux/sockios.h: the address of a network interface


@dataclass(frozen=True)
class Wants:
    """How many actors, and what each of them reserves."""

    count: int
    cpus: float
    gpus: float


class Actors:
    """``own``: their Ray ends with them; ``local``: it is one of this machine alone."""

    def __init__(self, ray: Any, own: bool, local: bool, wants: Wants) -> None:
        self._ray, self._own, self._local, self._wants = ray, own, local, wants
        self.host: str = HERE if local else ray.util.get_node_ip_address()
        self._actors: list[Any] = []
        self._lives: list[Any] = []
        self._ends: dict[int, str] = {}
        self._group: Any = None
        if not local:
            over_network_of(self.host)

    def gpu(self, number: int) -> int:
        return 0  # Ray shows an actor the GPU that it reserves, and no other

    def hire(self, life: Callable[[Any], None], given: Sequence[Any]) -> None:
        """They start as soon as Ray finds places for all."""
        if not given:
            return
        wants = self._wants
        cpus = 0.0 if self._local else wants.cpus
        options = {"num_cpus": cpus, "num_gpus": wants.gpus, "max_restarts": 0, "max_task_retries": 0}
        if not self._local and (cpus or wants.gpus):
            bundle = {name: amount for name, amount in (("CPU", cpus), ("GPU", wants.gpus)) if amount}
            self._group = self._ray.util.placement_group([bundle] * len(given), strategy="PACK")
            near = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
            options["scheduling_strategy"] = near(placement_group=self._group)
        seat = self._ray.remote(Hand).options(**options)
        for one in given:
            actor = seat.remote(max(1, int(wants.cpus)), self._local)
            self._actors.append(actor)
            self._lives.append(actor.live.remote(list(sys.path), pickle.dumps((life, one))))

    def end(self, number: int, wait_s: float) -> str:
        """How it ended, if it has; the traceback of one that failed is printed."""
        if number in self._ends:
            return self._ends[number]
        ray, life = self._ray, self._lives[number - 1]
        over, _ = ray.wait([life], timeout=wait_s)
        if not over:
            return ""
        try:
            ray.get(life)
            text = "has ended"
        except ray.exceptions.RayTaskError as error:
            print(error, file=sys.stderr, flush=True)
            text = f"failed with {type(error.cause).__name__}: {error.cause}"
        except ray.exceptions.RayError as error:
            text = f"was lost by Ray ({cause(error)}; what it printed is in Ray's logs)"
        self._ends[number] = text
        return text

    def help(self) -> str:
        wants = self._wants
        free = self._ray.available_resources()
        found = " and ".join(
            f"{free.get(name, 0.0):g} {what}" for name, what in (("CPU", "core(s)"), ("GPU", "GPU(s)"))
        )
        return (
            f"{wants.count} actor(s) want {0.0 if self._local else wants.cpus:g} core(s) and {wants.gpus:g} GPU(s) "
            f"each, free on the Ray cluster are now {found}; what they print is in Ray's logs"
        )

    def leave(self) -> None:
        if self._lives and self._ray.is_initialized():
            self._ray.wait(self._lives, num_returns=len(self._lives), timeout=LEAVING_S)
        self.kill()

    def kill(self) -> None:
        if not self._ray.is_initialized():
            return
        for actor in self._actors:
            self._ray.kill(actor, no_restart=True)
        if self._group is not None:
            self._ray.util.remove_placement_group(self._group)
        if self._own:
            self._ray.shutdown()


class Hand:
    """The life of such a process inside of its actor."""

    def __init__(self, threads: int, local: bool) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        if not local:
            over_network_of(require_ray().util.get_node_ip_address())

    def live(self, path: list[str], about: bytes) -> None:
        """``path``: where the run found its modules, a plug-in's among them."""
        sys.path.extend(place for place in path if place not in sys.path)
        life, given = pickle.loads(about)
        life(given)


def over_network_of(address: str) -> None:
    """Have gloo talk over the network of this address (Linux; elsewhere, and where it is set, it stays as it is): by
    itself it takes what the machine's name means, which may be the machine alone."""
    if sys.platform != "linux":
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                packed = fcntl.ioctl(asked.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(packed[20:24]) == address:
                    os.environ.setdefault(GLOO, name)
