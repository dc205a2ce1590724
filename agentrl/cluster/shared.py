"""Weights in memory that learner and workers share: CUDA IPC on a GPU, shared memory on a CPU.

The learner makes one copy, in the engines' dtype, on its own device; workers of the same device open it by a handle and
copy from it. Nothing goes through the host, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.multiprocessing.reductions import rebuild_cuda_tensor, reduce_tensor

from agentrl.cluster.base import AtRest
from agentrl.cluster.buckets import Buckets, Layout, arriving, packed
from agentrl.engine.base import Arriving

DEVICE = 6  # place of the device's number among the arguments of torch's rebuild_cuda_tensor


class Shared(AtRest):
    """A parcel (:class:`agentrl.cluster.base.Parcel`) for processes of this machine, handed to them by
    :mod:`multiprocessing` alone: whoever is told of it opens the same memory."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets: Buckets | None = buckets

    def open(self) -> Arriving:
        assert self._buckets is not None
        return arriving(self._buckets.layouts, self._buckets.tensors())

    def drop(self) -> None:
        """Give the copy back. On a GPU its memory is free as soon as no worker has it open."""
        self._buckets = None
        if torch.cuda.is_available():
            torch.cuda.ipc_collect()  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Any, ...]:
        """Handles instead of numbers; new ones for each worker, as CUDA counts who has a handle."""
        assert self._buckets is not None
        handles = [reduce_tensor(flat) for flat in self._buckets.flat]  # type: ignore[no-untyped-call]
        return _opened, (self._buckets.layouts, handles)


class Sharing:
    """Packs weights so that they are shared (an :class:`agentrl.cluster.base.Transfer`)."""

    def pack(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, version: int) -> Shared:
        """A copy on the learner's device."""
        buckets = packed(weights, dtype)
        if any(flat.is_cuda for flat in buckets.flat):
            torch.cuda.synchronize()  # they are read by other processes from now on
        return Shared(buckets)

    def changed(self) -> None:
        """Nothing: every worker opens for itself."""

    def close(self) -> None:
        """Nothing of its own is left."""


def _opened(layouts: tuple[Layout, ...], handles: list[tuple[Callable[..., torch.Tensor], tuple[Any, ...]]]) -> Shared:
    """At the worker."""
    flat = []
    for rebuild, given in handles:
        if rebuild is rebuild_cuda_tensor:  # the GPU has another number where it is the only one to be seen
            given = (*given[:DEVICE], torch.cuda.current_device(), *given[DEVICE + 1 :])
        flat.append(rebuild(*given))
    return Shared(Buckets(layouts, tuple(flat)))
