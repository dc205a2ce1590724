"""What the learner saw of each token comes back to its play, turn and place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agentrl.batch import Batch, Outputs
from agentrl.seen import Seen
from tests.toy import save_toy_model
from tests.toy_run import toy_train


def part(rows: list[int], mask: list[list[int]], logprobs: list[list[float]]) -> tuple[Batch, Outputs]:
    """A micro-batch of which only mask and row numbers matter; entropies are ten times the logprobs."""
    grid = torch.tensor(mask, dtype=torch.bool)
    zero = torch.zeros(grid.shape)
    one = torch.arange(len(rows))
    ids = torch.zeros(grid.shape, dtype=torch.int64)
    batch = Batch(ids, grid, one, one, one, grid, zero, zero, zero, zero, grid[:, 0], row=torch.tensor(rows))
    values = torch.tensor(logprobs)
    return batch, Outputs(values, 10 * values)


def test_by_hand() -> None:
    """Two plays: one of two rows, of which the second is not computed; rows come back in another order."""
    seen = Seen(plays=[0, 0, 1, 2], tokens=[2, 1, 3, 1], computed=[0, 2])
    seen.add(*part([1], [[0, 1, 1, 1]], [[0, -1, -2, -3]]))
    seen.add(*part([0], [[1, 0, 1]], [[-4, 0, -5]]))
    seen.add(*part([0], [[1, 0, 1]], [[-9, 0, -9]]))  # a later epoch changes nothing
    found = seen.by_play()
    nan = np.nan
    np.testing.assert_array_equal(found[0], [[-4, -5, nan], [-40, -50, nan]])
    np.testing.assert_array_equal(found[1], [[-1, -2, -3], [-10, -20, -30]])
    np.testing.assert_array_equal(found[2], [[nan], [nan]])


@pytest.mark.parametrize("context", ["history", "window"])
def test_a_run_writes_what_its_learner_saw(context: str, tmp_path: Path) -> None:
    """On policy the learner's logprobs are the engine's, token by token: any mistake of order would show."""
    save_toy_model(tmp_path / "model")
    words = [f"context={context}", "learner.micro_tokens=64", "steps=2"]
    toy_train(tmp_path / "model", tmp_path / "run", *words)
    known, credited = 0, 0
    for text in (tmp_path / "run" / "trajectories.jsonl").read_text().splitlines():
        for turn in json.loads(text)["turns"]:
            learned = any(turn["advantages"])
            credited += learned
            assert ("learner_logprobs" in turn) >= learned
            if "learner_logprobs" in turn:
                known += 1
                assert turn["learner_logprobs"] == pytest.approx(turn["logprobs"], abs=2e-5)
                assert len(turn["entropies"]) == len(turn["action_ids"])
                assert min(turn["entropies"]) >= 0
    assert known >= credited > 20
