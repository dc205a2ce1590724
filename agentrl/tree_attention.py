"""Causal attention over a :class:`~agentrl.tree.Tree` of tokens: exact, without copies of keys, without masks.

Each segment attends to itself causally, and everything below a segment attends to all of it. A query's answers from
the segments above it are joined by their log-sum-exp, as flash attention joins its blocks (arXiv:2205.14135). Given
the joined output and log-sum-exp, the kernel's own backward pass of each part is that part of the whole gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from agentrl.tree import Tree

forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class TreeAttention(torch.autograd.Function):
    """``[1, heads, nodes, width]`` queries, ``[1, kv_heads, nodes, width]`` keys and values -> as the queries."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, tree: Tree, blocks: list[Block]
    ) -> torch.Tensor:
        exact = torch.promote_types(q.dtype, torch.float32)  # of what is joined
        out = _line(q, exact)
        lse = out.new_empty(1, q.shape[1], q.shape[2] + 1)
        for block in blocks:
            answer = forward_kernel(block.take(q), block.take(k), block.take(v), 0.0, True, scale=scale)
            block.put(out, answer[0])
            block.put(lse, answer[1])
        for s in tree.alone:
            own = slice(s.start, s.stop)
            answer = forward_kernel(q[:, :, own], k[:, :, own], v[:, :, own], 0.0, True, scale=scale)
            out[:, :, own], lse[:, :, own] = answer
        for s in tree.segments:
            if s.stop < s.end:
                above, below = slice(s.start, s.stop), slice(s.stop, s.end)
                more, more_lse = forward_kernel(q[:, :, below], k[:, :, above], v[:, :, above], 0.0, False, scale=scale)
                gap = more_lse - lse[:, :, below]
                out[:, :, below].lerp_(more.to(exact), gap.sigmoid()[..., None])
                lse[:, :, below] += softplus(gap, threshold=100.0)
        lse[:, :, -1] = torch.inf  # padding of the blocks weighs nothing
        out = out[:, :, :-1].to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.tree, ctx.blocks = scale, tree, blocks
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        totals = tuple(_line(x, x.dtype) for x in (q, k, v))
        for block in ctx.blocks:
            given = (block.take(x) for x in (grad, q, k, v, out))
            gradients = backward_kernel(*given, block.take(lse, full=True), 0.0, True, scale=ctx.scale)
            for total, gradient in zip(totals, gradients, strict=True):
                block.put(total, gradient)

        def part(below: slice, above: slice, causal: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return backward_kernel(  # type: ignore[no-any-return]
                grad[:, :, below], q[:, :, below], k[:, :, above], v[:, :, above], out[:, :, below],
                lse[:, :, below], 0.0, causal, scale=ctx.scale,
            )  # fmt: skip

        for s in ctx.tree.alone:
            own = slice(s.start, s.stop)
            for total, gradient in zip(totals, part(own, own, True), strict=True):
                total[:, :, own] = gradient
        for s in ctx.tree.segments:
            if s.stop < s.end:
                above, below = slice(s.start, s.stop), slice(s.stop, s.end)
                gradients = part(below, above, False)
                for total, where, gradient in zip(totals, (below, above, above), gradients, strict=True):
                    total[:, :, where] += gradient
        return (*(total[:, :, :-1] for total in totals), None, None, None)


def _line(like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Uninitialised ``[1, heads, nodes + 1, width]``, tokens outermost in memory; the last is for padding."""
    _, heads, nodes, width = like.shape
    return like.new_empty(1, nodes + 1, heads, width, dtype=dtype).transpose(1, 2)


class Block:
    """Segments of similar length, padded to one: ``[segments, heads, tokens, ...]``."""

    def __init__(self, places: torch.Tensor, nodes: int) -> None:
        self._shape = places.shape
        self._places = places.flatten()
        self._inside = torch.where(self._places < nodes, self._places, 0)

    def take(self, line: torch.Tensor, full: bool = False) -> torch.Tensor:
        """From a line ``[1, heads, nodes, ...]``; ``full``: one that has a place for padding."""
        found = line[0].transpose(0, 1).index_select(0, self._places if full else self._inside)
        return found.view(*self._shape, *found.shape[1:]).transpose(1, 2)

    def put(self, line: torch.Tensor, block: torch.Tensor) -> None:
        """Into a line that has a place for padding."""
        line[0].transpose(0, 1).index_copy_(0, self._places, block.transpose(1, 2).flatten(0, 1).to(line.dtype))


def blocks_of(tree: Tree) -> list[Block]:
    """The short segments of a tree."""
    return [Block(torch.from_numpy(places), len(tree.ids)) for places in tree.together]
