"""Attention over a tree of tokens by kernels for sequences of unequal length: what a GPU takes in a few calls.

The parts and how they are joined are those of :mod:`agentrl.tree_attention`. All segments attend to themselves in one
call; then for each level of the tree, everything below its segments attends to them in one call. On a GPU these are
torch's own flash attention kernels (bfloat16 and float16). They have not been run yet: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from agentrl.tree import Segment, Tree

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pairs of sequences, queries and keys, that stand one behind the other."""

    queries: torch.Tensor  # [q] int64 places in the line
    keys: torch.Tensor  # [k] int64
    query_ends: torch.Tensor  # [pairs + 1] int32, from 0
    key_ends: torch.Tensor  # [pairs + 1] int32, from 0
    most_queries: int
    most_keys: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[range, range]], device: torch.device) -> Pieces:
        below, above = zip(*pairs, strict=True)

        def places(side: Sequence[range]) -> torch.Tensor:
            return torch.cat([torch.arange(r.start, r.stop) for r in side]).to(device)

        def ends(side: Sequence[range]) -> torch.Tensor:
            return torch.tensor([0, *map(len, side)]).cumsum(0).to(device, torch.int32)

        most = max(map(len, below)), max(map(len, above))
        return cls(places(below), places(above), ends(below), ends(above), *most)


def levels(tree: Tree, device: torch.device) -> list[Pieces]:
    """What is above and what is below, for each level of segments that have something below them."""
    found: dict[int, list[Segment]] = {}
    for segment in tree.segments:
        if segment.stop < segment.end:
            found.setdefault(segment.level, []).append(segment)
    return [
        Pieces.of([(range(s.stop, s.end), range(s.start, s.stop)) for s in found[level]], device)
        for level in sorted(found)
    ]


def owned(tree: Tree, device: torch.device) -> Pieces:
    """Each segment beside itself."""
    return Pieces.of([(range(s.start, s.stop),) * 2 for s in tree.segments], device)


class Kernel(Protocol):
    """Queries ``[q, heads, width]``, keys and values ``[k, kv_heads, width]``, log-sum-exp ``[heads, q]``."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, at: Pieces, causal: bool, scale: float
    ) -> Tensors:
        """(out, log-sum-exp)."""
        ...

    def backward(self, given: Tensors, at: Pieces, causal: bool, scale: float) -> Tensors:
        """(gradient of out, q, k, v, out, log-sum-exp) -> gradients of q, k, v."""
        ...


class Flash:
    """torch's flash attention on a GPU."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, at: Pieces, causal: bool, scale: float
    ) -> Tensors:
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            q, k, v, at.query_ends, at.key_ends, at.most_queries, at.most_keys, 0.0, causal, False, scale=scale
        )
        return out, lse

    def backward(self, given: Tensors, at: Pieces, causal: bool, scale: float) -> Tensors:
        device = given[0].device
        state = (
            torch.zeros(2, dtype=torch.uint64, device=device),
            torch.empty(0, device=device),
        )  # of dropout, of which there is none
        gradients: Tensors = torch.ops.aten._flash_attention_backward(
            *given, at.query_ends, at.key_ends, at.most_queries, at.most_keys, 0.0, causal, *state, scale=scale
        )
        return gradients


class VarlenAttention(torch.autograd.Function):
    """``[1, heads, nodes, width]`` queries, ``[1, kv_heads, nodes, width]`` keys and values -> as the queries."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, own: Pieces, above: list[Pieces],
        kernel: Kernel,
    ) -> torch.Tensor:  # fmt: skip
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))
        out, lse = kernel.forward(q, k, v, own, True, scale)
        dtype, out = out.dtype, out.to(torch.promote_types(out.dtype, torch.float32))
        for at in above:
            keys, values = k.index_select(0, at.keys), v.index_select(0, at.keys)
            more, more_lse = kernel.forward(q.index_select(0, at.queries), keys, values, at, False, scale)
            before = lse.index_select(1, at.queries)
            gap = more_lse - before
            joined = out.index_select(0, at.queries).lerp(more.to(out.dtype), gap.sigmoid().T[..., None])
            out.index_copy_(0, at.queries, joined)
            lse.index_copy_(1, at.queries, before + softplus(gap, threshold=100.0))
        out = out.to(dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.own, ctx.above, ctx.kernel = scale, own, above, kernel
        return out.transpose(0, 1)[None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        grad = grad[0].transpose(0, 1).contiguous()
        totals = ctx.kernel.backward((grad, q, k, v, out, lse), ctx.own, True, ctx.scale)
        for at in ctx.above:
            places = at.queries, at.queries, at.keys, at.keys, at.queries
            given = [x.index_select(0, where) for x, where in zip((grad, q, k, v, out), places, strict=True)]
            some_lse = lse.index_select(1, at.queries)
            gradients = ctx.kernel.backward((*given, some_lse), at, False, ctx.scale)
            for total, where, gradient in zip(totals, places[1:4], gradients, strict=True):
                total.index_add_(0, where, gradient)  # each place once
        return (*(total.transpose(0, 1)[None] for total in totals), *(None,) * 4)
