"""Weights sent from the learner to all workers at once: NCCL between GPUs, gloo between CPUs, on one machine or many.

The learner and the workers form a group of their own, apart from the default group of torch.distributed, which vLLM and
a learner of several processes have for themselves. The group is kept from push to push, and formed anew when a worker
has been replaced. Weights travel in buckets; a worker hands the tensors of each to its engine as it comes, so no second
copy of the model lies beside the engine.

A member that dies or hangs breaks the group, and those who were in the middle of their weights cannot use what they
have: they are replaced, and get the weights, as all who come late, through the host.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from threading import Lock
from typing import Any

import torch

from agentrl.cluster.base import Parcel, Transfer, TransferBroken
from agentrl.cluster.buckets import Buckets, Layout, arriving, packed
from agentrl.engine.base import Arriving

distributed: Any = torch.distributed  # most of what is used here is unknown to type checkers
LOOK_S = 0.05  # between two looks whether others have given up
NEVER = timedelta(days=1)  # NCCL's own limit ends the process; ours does not


class Group:
    """A member's place in the group ``name``; member 0 sends. ``host``: where the members' store is."""

    def __init__(self, store: Any, name: str, rank: int, size: int, kind: str, host: str) -> None:
        self.name, self._store, self._rank, self._size = name, store, rank, size
        self._kind, self._host = kind, host
        self._members: Any = None

    def broadcast(self, flat: torch.Tensor, stopped: Callable[[], bool]) -> None:
        """Send ``flat``, or fill it, in place. Raises TransferBroken when a member is lost or has given up, or
        ``stopped`` says so."""
        try:
            if self._members is None:
                self._members = self._joined()
            options = distributed.BroadcastOptions()
            options.rootRank, options.rootTensor = 0, 0
            work = self._members.broadcast([flat], options)
            self._wait(work.is_completed, stopped)
            work.wait()
        except RuntimeError as error:  # all that torch.distributed raises
            raise TransferBroken(str(error).splitlines()[0].split(". ")[0]) from None

    def wait_for_all(self, stopped: Callable[[], bool]) -> None:
        """At the sender: until all others are there. Raises TransferBroken."""
        self._wait(lambda: self._store.add(f"{self.name}/members", 0) == self._size - 1, stopped)

    def give_up(self) -> None:
        """Tell the others, and leave."""
        with suppress(RuntimeError):  # the store has gone with the learner
            self._store.set(f"{self.name}/broken", "1")
        self.leave()

    def leave(self) -> None:
        """Whatever is under way ends."""
        if self._members is not None:
            self._members.abort()
            self._members = None

    def _wait(self, done: Callable[[], bool], stopped: Callable[[], bool]) -> None:
        look, pause = time.monotonic() + LOOK_S, 1e-5
        while not done():
            if time.monotonic() > look:
                if stopped() or self._store.check([f"{self.name}/broken"]):
                    raise TransferBroken("another member of the group was lost or gave up")
                look = time.monotonic() + LOOK_S
            time.sleep(pause)
            pause = min(2 * pause, 1e-3)

    def _joined(self) -> Any:
        store = distributed.PrefixStore(self.name, self._store)
        if self._kind == "cuda":
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
            nccl = distributed.ProcessGroupNCCL.Options()
            nccl._timeout = NEVER
            return distributed.ProcessGroupNCCL(store, self._rank, self._size, nccl)
        gloo = distributed.ProcessGroupGloo._Options()
        gloo._devices = [distributed.ProcessGroupGloo.create_device(hostname=_own_address(self._host))]
        gloo._timeout = NEVER
        return distributed.ProcessGroupGloo(store, self._rank, self._size, gloo)


class Sent:
    """A parcel (:class:`agentrl.cluster.base.Parcel`) whose numbers stay with the learner until they are sent:
    a worker is handed a :class:`Receipt`."""

    def __init__(self, sender: Broadcasting, group: Group, buckets: Buckets, dtype: torch.dtype, version: int) -> None:
        self._sender, self._group, self._buckets = sender, group, buckets
        self._dtype, self._version = dtype, version
        self._late: Parcel | None = None
        self._turn = Lock()  # several workers come late at once

    def send(self, stopped: Callable[[], bool]) -> None:
        """Raises TransferBroken."""
        try:
            self._group.wait_for_all(stopped)
            for flat in self._buckets.flat:
                self._group.broadcast(flat, stopped)
        except BaseException:
            self._group.give_up()
            self._sender.changed()
            raise

    def late(self) -> Parcel:
        """Through the host: the group is complete without those who come later."""
        with self._turn:
            if self._late is None:
                self._late = self._sender.other.pack(self._buckets.tensors(), self._dtype, self._version)
            return self._late

    def drop(self) -> None:
        self._buckets = Buckets((), ())
        if self._late is not None:
            self._late.drop()

    def __reduce__(self) -> tuple[Any, ...]:
        about = (self._sender.host, self._sender.port, self._group.name, self._sender.size, self._sender.kind)
        return Receipt, (about, self._buckets.layouts, self._dtype)


class Receipt:
    """What a worker has of a :class:`Sent` (an :class:`agentrl.cluster.base.Handed`)."""

    def __init__(self, about: tuple[str, int, str, int, str], layouts: tuple[Layout, ...], dtype: torch.dtype) -> None:
        self._about, self._layouts, self._dtype = about, layouts, dtype

    def open(self) -> Arriving:
        """Takes part in the broadcast while it is read. Raises TransferBroken then."""
        return arriving(self._layouts, self._received())

    def _received(self) -> Iterator[tuple[str, torch.Tensor]]:
        group, whole = _member(*self._about), False
        try:
            for layout in self._layouts:
                flat = torch.empty(layout.size, dtype=self._dtype, device=self._about[-1])
                group.broadcast(flat, lambda: False)
                yield from layout.tensors(flat)
            whole = True
        finally:
            if not whole:  # the engine refused them, or the group broke
                _groups.pop(group.name, None)
                group.give_up()


class Broadcasting:
    """Packs weights so that they are sent to ``workers`` on devices of one ``kind`` (an
    :class:`agentrl.cluster.base.Transfer`). ``host``: the address under which workers reach this process; ``other``:
    how late ones get their weights."""

    def __init__(self, host: str, workers: int, kind: str, other: Transfer) -> None:
        self.host, self.size, self.kind, self.other = host, workers + 1, kind, other
        self._store = distributed.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        self.port: int = self._store.port
        self._group: Group | None = None
        self._formed = 0

    def pack(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, version: int) -> Sent:
        """A copy on the learner's device."""
        if self._group is None:
            self._formed += 1
            self._group = Group(self._store, f"group{self._formed}", 0, self.size, self.kind, self.host)
        return Sent(self, self._group, packed(weights, dtype), dtype, version)

    def changed(self) -> None:
        """One of its members has gone: the group is of no use any more."""
        if self._group is not None:
            self._group.leave()
            self._group = None

    def close(self) -> None:
        """Leave the group, and clean up behind the other way."""
        self.changed()
        self.other.close()


_groups: dict[str, Group] = {}  # of this worker: the one it is in


def _member(host: str, port: int, name: str, size: int, kind: str) -> Group:
    """This worker's place in a group; the order in which they come makes their ranks."""
    if name not in _groups:
        while _groups:
            _groups.popitem()[1].leave()
        store = distributed.TCPStore(host, port, is_master=False)
        _groups[name] = Group(store, name, store.add(f"{name}/members", 1), size, kind, host)
    return _groups[name]


def _own_address(host: str) -> str:
    """The address of this machine in the network in which ``host`` is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((host, 9))  # nothing is sent
        return str(asked.getsockname()[0])
