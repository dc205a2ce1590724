"""Rows that begin alike, as one tree of tokens: what the learner computes once.

The rows of a group share their prompt, turns of a ``window`` context their system text and goal, forked plays all that
went before. Sorted, such rows are a prefix tree; written down depth first it is one line of tokens in which everything
below a token stands right behind it. A *segment* is a stretch of that line without a fork. So a token sees its own
segment up to itself, and all of the segments above its own: attention needs no mask, only slices of the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

SHORT = 64  # tokens; calls of a kernel on shorter segments cost more than the padding of a few in one call


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``start`` to ``stop`` of the line; everything below them stands from ``stop`` to ``end``."""

    start: int
    stop: int
    end: int
    level: int  # segments above it


@dataclass(frozen=True)
class Tree:
    """Rows as one line of tokens, each once. Arrays of the line are ``[nodes]``, those of rows ``[rows, seq]``."""

    ids: NDArray[np.int64]  # [nodes] the tokens
    positions: NDArray[np.int64]  # [nodes] their places in their rows, from 0
    parents: NDArray[np.int64]  # [nodes] place in the line of the token before, -1 at the beginning of a row
    nodes: NDArray[np.int64]  # [rows, seq] place in the line of each token of each row; 0 on padding

    @classmethod
    def of(cls, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Tree:
        """The tree of rows ``[rows, seq]`` that are padded on the right."""
        ids = input_ids.cpu().numpy()
        lengths = attention_mask.sum(-1).cpu().numpy()
        order, shared = prefixes(ids, lengths)
        nodes = np.zeros(ids.shape, np.int64)
        size, before = 0, nodes[:1].reshape(-1)
        for row, known in zip(order.tolist(), shared.tolist(), strict=True):
            length = int(lengths[row])
            nodes[row, :known] = before[:known]
            nodes[row, known:length] = np.arange(size, size + length - known)
            size += length - known
            before = nodes[row]
        new = np.arange(ids.shape[1]) < lengths[order, None]
        new &= np.arange(ids.shape[1]) >= shared[:, None]
        row, place = new.nonzero()
        row = order[row]
        parents = np.where(place > 0, nodes[row, np.maximum(place - 1, 0)], -1)
        return cls(ids[row, place], place.astype(np.int64), parents, nodes)

    @cached_property
    def segments(self) -> list[Segment]:
        """Depth first: in the order of the line."""
        size = len(self.ids)
        children = np.bincount(self.parents[self.parents >= 0], minlength=size)
        begins = (self.parents != np.arange(size) - 1) | (self.parents < 0)
        begins |= children[np.maximum(self.parents, 0)] > 1
        starts = begins.nonzero()[0].tolist()
        depths = self.positions[starts].tolist()
        stops = [*starts, size][1:]
        ends, levels = [size] * len(starts), [0] * len(starts)
        above: list[int] = []  # the segments that are still open
        for number, (start, depth) in enumerate(zip(starts, depths, strict=True)):
            while above and depths[above[-1]] >= depth:
                ends[above.pop()] = start
            levels[number] = len(above)
            above.append(number)
        return [Segment(*values) for values in zip(starts, stops, ends, levels, strict=True)]

    @cached_property
    def alone(self) -> list[Segment]:
        """Segments that attention takes one by one to themselves: those longer than SHORT."""
        return [s for s in self.segments if s.stop - s.start > SHORT]

    @cached_property
    def together(self) -> list[NDArray[np.int64]]:
        """Places of the tokens of the other segments, those of similar length in one array ``[segments, tokens]``.

        Padded on the right with ``nodes``, the place behind the end of the line.
        """
        short = [s for s in self.segments if s.stop - s.start <= SHORT]
        classes: dict[int, list[Segment]] = {}
        for segment in short:
            classes.setdefault((segment.stop - segment.start - 1).bit_length(), []).append(segment)
        blocks = []
        for members in classes.values():
            lengths = np.array([s.stop - s.start for s in members])[:, None]
            steps = np.arange(lengths.max())
            places = np.array([s.start for s in members])[:, None] + steps
            blocks.append(np.where(steps < lengths, places, len(self.ids)))
        return blocks


def prefixes(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in an order in which those that begin alike stand together, and how many tokens each shares with the one
    before it in that order: ``[rows]``, ``[rows]``. No row shares more with any that stands before it.

    ``ids``: ``[rows, seq]`` padded on the right, ``lengths``: ``[rows]``.
    """
    if not len(ids):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    words = ids.astype(">i8")  # whose bytes are in the order of the numbers
    keys = [words[row, :length].tobytes() for row, length in enumerate(lengths.tolist())]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    one, other = order[:-1], order[1:]
    both = np.minimum(lengths[one], lengths[other])
    differ = (ids[one] != ids[other]) | (np.arange(ids.shape[1]) >= both[:, None])
    first = np.where(differ.any(-1), differ.argmax(-1), both) if ids.shape[1] else both
    return order, np.concatenate([np.zeros(1, np.int64), first])


def unique_tokens(ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> int:
    """Nodes of the tree of these rows."""
    return int(lengths.sum() - prefixes(ids, lengths)[1].sum())
