"""Who learns together. The first process leads: it plays, credits, logs and says what is done next; the others follow.

What has to be done everywhere is a method of an object that has a seat in every process (``learner``, ``policy``):
``team.each("learner.gradient", shares)`` calls it with the own share in each process and gives all answers. Between two
such calls the others wait, for as long as it takes; inside, silence beyond the deadline and the end of a process are
errors in words. Tensors of the model never take this way: they are summed and spread by torch.distributed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch

from agentrl.cluster.buckets import pieces

BUCKET = 1 << 24  # gradients summed at once, 64 MiB of float32: enough to fill a link


class Team(Protocol):
    """What learner and policy see of those who learn with them."""

    rank: int  # 0 leads
    size: int  # processes
    lockstep: bool  # a forward pass is one of all processes: each must make as many

    def seat(self, name: str, thing: object) -> None:
        """``thing`` is what ``each`` and ``tell`` mean by ``name`` in this process."""
        ...

    def each(self, name: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call ``seat.method`` in every process, with the arguments of its rank; gives all answers by rank.

        Raises TeamError.
        """
        ...

    def tell(self, name: str, *args: Any) -> Any:
        """The same with equal arguments; gives the own answer."""
        ...

    def others(self, name: str, *args: Any) -> None:
        """The same in the other processes alone."""
        ...

    def spread(self, tensor: torch.Tensor) -> torch.Tensor:
        """Fill ``tensor`` with that of the leader, in place; all processes take part."""
        ...

    def add_up(self, parameters: Iterable[torch.Tensor]) -> None:
        """Replace each gradient by its sum over all processes, summed in float32; all processes take part."""
        ...

    def close(self) -> None:
        """Let the others go."""
        ...


class Alone:
    """A team of one: calls are calls, sums are what they were."""

    rank = 0
    size = 1
    lockstep = False

    def __init__(self) -> None:
        self.seats: dict[str, object] = {}

    def seat(self, name: str, thing: object) -> None:
        self.seats[name] = thing

    def each(self, name: str, args: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [self.here(name, args[0])]

    def tell(self, name: str, *args: Any) -> Any:
        return self.here(name, args)

    def others(self, name: str, *args: Any) -> None:
        return None

    def here(self, name: str, args: tuple[Any, ...]) -> Any:
        """The call in this process."""
        seat, _, method = name.partition(".")
        return getattr(self.seats[seat], method)(*args)

    def spread(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def add_up(self, parameters: Iterable[torch.Tensor]) -> None:
        return None

    def close(self) -> None:
        return None


class Together(Alone):
    """What leader and followers have in common: their collectives. The default process group is up."""

    def __init__(self, rank: int, size: int, device: torch.device, lockstep: bool) -> None:
        super().__init__()
        self.rank, self.size, self.device, self.lockstep = rank, size, device, lockstep

    def spread(self, tensor: torch.Tensor) -> torch.Tensor:
        torch.distributed.broadcast(tensor, src=0)
        return tensor

    @torch.no_grad()
    def add_up(self, parameters: Iterable[torch.Tensor]) -> None:
        found = list(parameters)
        if not found:
            return
        there = torch.tensor([p.grad is not None for p in found], dtype=torch.int32, device=self.device)
        torch.distributed.all_reduce(there, torch.distributed.ReduceOp.MAX)
        wanted = [p for p, some in zip(found, there.tolist(), strict=True) if some]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in buckets([p.numel() for p in wanted], BUCKET):
            gradients = [wanted[i].grad for i in bucket]
            flat = torch.cat([g.flatten().float() for g in gradients if g is not None])
            torch.distributed.all_reduce(flat)
            for gradient, total in zip(gradients, torch.split(flat, [wanted[i].numel() for i in bucket]), strict=True):
                assert gradient is not None
                gradient.copy_(total.view_as(gradient))


def buckets(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Indices in order, cut so that each piece sums to at most ``most``, or holds one that is larger."""
    return list(pieces(range(len(sizes)), sizes.__getitem__, most))


def deal(costs: Sequence[int], hands: int) -> list[list[int]]:
    """Indices of parts for each of ``hands``: equally many (one more at most), and round by round parts of like cost,
    the dearest to the hand that has least so far. One hand gets all, in their order.
    """
    if hands == 1:
        return [list(range(len(costs)))]
    order = sorted(range(len(costs)), key=lambda i: (-costs[i], i))
    dealt: list[list[int]] = [[] for _ in range(hands)]
    sums = [0] * hands
    for start in range(0, len(order), hands):
        poorest = heapq.nsmallest(hands, range(hands), key=lambda hand: (sums[hand], hand))
        for index, hand in zip(order[start : start + hands], poorest, strict=False):
            dealt[hand].append(index)
            sums[hand] += costs[index]
    return dealt
