"""Many tensors as a few flat ones: what is cheap to share or to send piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from agentrl.engine.base import Arriving

Thing = TypeVar("Thing")
BUCKET = 1 << 28  # bytes: large enough to fill a link, small enough to lie beside a model


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors of one bucket, in the order in which they lie there."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Numbers in the bucket."""
        return sum(map(math.prod, self.shapes))

    def tensors(self, bucket: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Views of ``bucket`` [size]."""
        parts = torch.split(bucket, [math.prod(shape) for shape in self.shapes])
        for name, shape, part in zip(self.names, self.shapes, parts, strict=True):
            yield name, part.view(shape)


@dataclass(frozen=True)
class Buckets:
    """A copy of named tensors in one dtype, on the device where they came from."""

    layouts: tuple[Layout, ...]
    flat: tuple[torch.Tensor, ...]  # one for each layout: [its size]

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All of them under their names, as views."""
        for layout, bucket in zip(self.layouts, self.flat, strict=True):
            yield from layout.tensors(bucket)


def arriving(layouts: Sequence[Layout], each: Iterator[tuple[str, torch.Tensor]]) -> Arriving:
    """``each``, announced by the layouts."""
    names = (pair for layout in layouts for pair in zip(layout.names, layout.shapes, strict=True))
    return Arriving(dict(names), each)


def packed(weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, limit: int = BUCKET) -> Buckets:
    """The weights, copied, in their order; a bucket holds at most ``limit`` bytes, or one larger tensor."""
    layouts: list[Layout] = []
    flat: list[torch.Tensor] = []
    copies = ((name, weight.detach().to(dtype)) for name, weight in weights)
    for part in pieces(copies, lambda pair: pair[1].nbytes, limit):
        layouts.append(Layout(tuple(name for name, _ in part), tuple(tuple(tensor.shape) for _, tensor in part)))
        flat.append(torch.cat([tensor.flatten() for _, tensor in part]))
    return Buckets(tuple(layouts), tuple(flat))


def pieces(things: Iterable[Thing], size: Callable[[Thing], int], most: int) -> Iterator[list[Thing]]:
    """The things in order, cut so that the sizes of each piece sum to at most ``most``, or it holds one that is larger;
    a piece is given as soon as it is full."""
    piece: list[Thing] = []
    room = most
    for thing in things:
        if piece and size(thing) > room:
            yield piece
            piece, room = [], most
        piece.append(thing)
        room -= size(thing)
    if piece:
        yield piece
