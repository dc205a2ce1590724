from __future__ import annotations

import torch

from agentrl.batch import Batch
from agentrl.samples import collate, rows
from agentrl.types import Group
from tests.learning import group, method, play, random_groups, turn

CPU = torch.device("cpu")


def batch_of(groups: list[Group]) -> Batch:
    return collate(rows(groups, method("sft").advantages), method("sft").weights, False, CPU)


def test_plays_are_lines_of_their_sampled_tokens_in_any_context() -> None:
    history = play([turn((1, 2), (3, 4)), turn((1, 2, 3, 4, 9), (5,))], task="h")
    window = play([turn((1, 2), (6,)), turn((9,), (7, 8)), turn((9, 9), (10, 11))], task="w")
    batch = batch_of([Group(p.task, (p,)) for p in (history, window)])
    assert batch.group.tolist() == [0, 1, 1, 1]
    assert batch.play.tolist() == [0, 1, 1, 1]
    lines = batch.to_plays(batch.input_ids[batch.unique])
    assert lines.tolist() == [[3, 4, 5, 0, 0], [6, 7, 8, 10, 11]]
    starts = batch.to_plays(batch.turn_starts)
    assert starts.int().tolist() == [[1, 0, 1, 0, 0], [1, 1, 0, 1, 0]]


def test_lines_and_rows_are_inverse() -> None:
    for seed in range(4):
        batch = batch_of(random_groups(seed, window=bool(seed % 2)))
        there = torch.randn(batch.loss_mask.shape) * batch.loss_mask
        lines = batch.to_plays(there)
        assert len(lines) == 12
        assert torch.equal(batch.to_rows(lines), there)


def test_an_empty_batch_has_no_lines() -> None:
    batch = batch_of([])
    assert batch.to_plays(batch.advantages).shape == (0, 0)
    assert batch.to_rows(torch.zeros(0, 0)).shape == batch.loss_mask.shape


def test_plays_and_groups_are_counted_through_all_groups() -> None:
    batch = batch_of([group([1, 0], "a"), group([1, 0, 0], "b")])
    assert batch.play.tolist() == [0, 1, 2, 3, 4]
    assert batch.group.tolist() == [0, 0, 1, 1, 1]
