"""Rows as a tree of tokens: numbers worked by hand, and what must hold for any rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.tree import Segment, Tree, prefixes, unique_tokens
from agentrl.tree_attention import TreeAttention, blocks_of
from agentrl.tree_varlen import Pieces, Tensors, VarlenAttention, levels, owned

CPU = torch.device("cpu")
Rows = list[tuple[int, ...]]
some_rows = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple), min_size=1, max_size=9)


def tensors(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded on the right, with a token that also stands in rows."""
    width = max(map(len, rows))
    ids = torch.tensor([(*row, *(1,) * (width - len(row))) for row in rows])
    return ids, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]


def tree_of(rows: Rows) -> Tree:
    return Tree.of(*tensors(rows))


def test_four_rows_by_hand() -> None:
    tree = tree_of([(1, 2, 7), (8, 9), (1, 2, 3, 4, 5), (1, 2, 3, 6)])
    assert tree.ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert tree.positions.tolist() == [0, 1, 2, 3, 4, 3, 2, 0, 1]
    assert tree.parents.tolist() == [-1, 0, 1, 2, 3, 2, 1, -1, 7]
    assert tree.nodes.tolist() == [[0, 1, 6, 0, 0], [7, 8, 0, 0, 0], [0, 1, 2, 3, 4], [0, 1, 2, 5, 0]]
    assert tree.segments == [
        Segment(0, 2, 7, 0), Segment(2, 3, 6, 1), Segment(3, 5, 5, 2), Segment(5, 6, 6, 2), Segment(6, 7, 7, 1),
        Segment(7, 9, 9, 0),
    ]  # fmt: skip


def test_a_row_that_is_the_beginning_of_another_costs_nothing() -> None:
    tree = tree_of([(5, 6, 7), (5, 6), (5, 6, 7)])
    assert tree.ids.tolist() == [5, 6, 7]
    assert tree.segments == [Segment(0, 3, 3, 0)]
    assert tree.nodes.tolist() == [[0, 1, 2], [0, 1, 0], [0, 1, 2]]


def test_large_tokens_are_sorted_as_numbers() -> None:
    order, shared = prefixes(np.array([[300, 1], [2, 1], [300, 0]]), np.array([2, 2, 2]))
    assert (order.tolist(), shared.tolist()) == ([1, 2, 0], [0, 0, 1])


def test_no_rows_are_no_tree() -> None:
    tree = Tree.of(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool))
    assert (len(tree.ids), tree.segments) == (0, [])


@given(some_rows)
@settings(max_examples=150, deadline=None)
def test_each_beginning_is_one_token_and_sees_what_went_before(rows: Rows) -> None:
    tree = tree_of(rows)
    beginnings = {row[: end + 1] for row in rows for end in range(len(row))}
    ids, mask = tensors(rows)
    assert len(tree.ids) == len(beginnings) == unique_tokens(ids.numpy(), mask.sum(-1).numpy())
    for row, nodes in zip(rows, tree.nodes, strict=True):
        assert tuple(tree.ids[nodes[: len(row)]]) == row
        assert tree.positions[nodes[: len(row)]].tolist() == list(range(len(row)))
    assert (seen(tree) == ancestors(tree)).all()
    short = [node for block in tree.together for node in block.flatten().tolist() if node < len(tree.ids)]
    long = [node for s in tree.alone for node in range(s.start, s.stop)]
    assert sorted(short + long) == list(range(len(tree.ids)))


def seen(tree: Tree) -> np.ndarray:
    """``[nodes, nodes]``: what attention lets each token see, by the segments."""
    found = np.zeros((len(tree.ids),) * 2, bool)
    for s in tree.segments:
        found[s.start : s.stop, s.start : s.stop] = np.tri(s.stop - s.start, dtype=bool)
        found[s.stop : s.end, s.start : s.stop] = True
    return found


def ancestors(tree: Tree) -> np.ndarray:
    """``[nodes, nodes]``: what each token must see, by the parents."""
    found = np.zeros((len(tree.ids),) * 2, bool)
    for node in range(len(tree.ids)):
        above = node
        while above >= 0:
            found[node, above] = True
            above = tree.parents[above]
    return found


@given(some_rows, st.sampled_from([0, 2, 64]), st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_attention_and_its_gradients_are_those_of_a_dense_mask(rows: Rows, short: int, kv_heads: int) -> None:
    tree = tree_of(rows)
    tree.__dict__["alone"] = [s for s in tree.segments if s.stop - s.start > short]  # segments taken in both ways
    tree.__dict__["together"] = [
        np.arange(s.start, s.stop)[None] for s in tree.segments if s.stop - s.start <= short
    ] or tree.together[:0]
    generator = torch.Generator().manual_seed(len(rows))

    def some(heads: int) -> torch.Tensor:
        return (3 * torch.randn(1, len(tree.ids), heads, 8, generator=generator)).transpose(1, 2).requires_grad_()

    given = some(2), some(kv_heads), some(kv_heads)
    ours = TreeAttention.apply(*given, 0.3, tree, blocks_of(tree))  # type: ignore[no-untyped-call]
    mask = torch.from_numpy(ancestors(tree))
    dense = torch.nn.functional.scaled_dot_product_attention(*given, mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(ours, dense, rtol=1e-5, atol=1e-5)
    down = torch.randn(ours.shape, generator=generator)
    wanted = torch.autograd.grad(dense, given, down)
    for a, b in zip(torch.autograd.grad(ours, given, down), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=3e-5)
    parts = owned(tree, CPU), levels(tree, CPU), ByPairs()
    varlen = VarlenAttention.apply(*given, 0.3, *parts)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(varlen, dense, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(varlen, given, down), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=3e-5)


class ByPairs:
    """The kernel of a GPU in the words of the CPU's: pair by pair."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, at: Pieces, causal: bool, scale: float
    ) -> Tensors:
        outs, lses = [], []
        for i, j in self._pairs(at):
            given = (x.transpose(0, 1)[None] for x in (q[i], k[j], v[j]))
            out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*given, 0.0, causal, scale=scale)
            outs.append(out[0].transpose(0, 1))
            lses.append(lse[0])
        return torch.cat(outs), torch.cat(lses, -1)

    def backward(self, given: Tensors, at: Pieces, causal: bool, scale: float) -> Tensors:
        grad, q, k, v, out, lse = given
        found: list[list[torch.Tensor]] = [[], [], []]
        for i, j in self._pairs(at):
            asked = [x.transpose(0, 1)[None] for x in (grad[i], q[i], k[j], v[j], out[i])]
            answers = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *asked, lse[None, :, i], 0.0, causal, scale=scale
            )
            for side, answer in zip(found, answers, strict=True):
                side.append(answer[0].transpose(0, 1))
        return tuple(map(torch.cat, found))

    def _pairs(self, at: Pieces) -> list[tuple[slice, slice]]:
        ends = [x.tolist() for x in (at.query_ends, at.key_ends)]
        sides = [[slice(a, b) for a, b in pairwise(side)] for side in ends]
        assert [max(s.stop - s.start for s in side) for side in sides] == [at.most_queries, at.most_keys]
        return list(zip(*sides, strict=True))


def test_padding_of_blocks_weighs_nothing_even_beside_huge_scores() -> None:
    tree = tree_of([(1, 2, 2, 2), (2, 1, 1)])  # two segments of one class: one of them is padded
    assert [block.shape for block in tree.together] == [(2, 4)]
    q, k, v = ((200 * torch.randn(1, 7, 1, 8)).transpose(1, 2).requires_grad_() for _ in range(3))
    out = TreeAttention.apply(q, k, v, 1.0, tree, blocks_of(tree))  # type: ignore[no-untyped-call]
    for gradient in torch.autograd.grad(out, (q, k, v), torch.ones_like(out)):
        assert bool(torch.isfinite(gradient).all())
