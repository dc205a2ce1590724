from __future__ import annotations

import math

import pytest
import torch

from agentrl.batch import Batch, Outputs
from tests.learning import group, method


def batch_of(advantages: list[float], old: list[float], ref: list[float] | None = None) -> Batch:
    """One row whose tokens are all sampled."""
    row = torch.tensor([advantages])
    mask = torch.ones_like(row, dtype=torch.bool)
    return Batch(
        input_ids=torch.zeros_like(row, dtype=torch.int64),
        attention_mask=mask,
        unique=torch.zeros(1, dtype=torch.int64),
        play=torch.zeros(1, dtype=torch.int64),
        group=torch.zeros(1, dtype=torch.int64),
        loss_mask=mask,
        advantages=row,
        weights=mask / mask.sum(),
        rollout_logprobs=torch.tensor([old]),
        old_logprobs=torch.tensor([old]),
        fresh=torch.ones(1, dtype=torch.bool),
        ref_logprobs=None if ref is None else torch.tensor([ref]),
    )


def outputs(logprobs: list[float]) -> Outputs:
    row = torch.tensor([logprobs], requires_grad=True)
    return Outputs(row, torch.full_like(row, 2.0))


def test_advantages_one_success_in_five() -> None:
    found = method("grpo", std_eps=0.0).advantages(group([1, 0, 0, 0, 0], tokens=3))
    assert [a.tolist() for a in found] == [[2.0] * 3] + [[-0.5] * 3] * 4


def test_objective_clips_by_hand() -> None:
    """Ratios 1.5, 1.5, .5, .5 with advantages +1, -1, +1, -1 and clips .2/.28."""
    logs = [math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5)]
    out = outputs(logs)
    j = method("grpo", clip_low=0.2, clip_high=0.28).objective(batch_of([1, -1, 1, -1], [0.0] * 4), out)
    torch.testing.assert_close(j, torch.tensor([[1.28, -1.5, 0.5, -0.8]]))
    (gradient,) = torch.autograd.grad(j.sum(), out.logprobs)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -1.5, 0.5, 0.0]]))


def test_kl_and_entropy_by_hand() -> None:
    gap = 0.5  # log pi_ref - log pi
    k3 = math.exp(gap) - gap - 1
    grpo = method("grpo", kl_coef=0.1, entropy_coef=0.01)
    j = grpo.objective(batch_of([1.0], [-1.0], ref=[-0.5]), outputs([-1.0]))
    assert j.item() == pytest.approx(1.0 - 0.1 * k3 + 0.01 * 2.0)


def test_needs_and_skips_follow_from_the_numbers() -> None:
    assert method("grpo").needs == {"siblings"}
    assert method("grpo").skips_zero_advantage
    assert method("grpo", kl_coef=0.001).needs == {"siblings", "ref_logprobs"}
    assert not method("grpo", kl_coef=0.001).skips_zero_advantage
    assert not method("grpo", entropy_coef=0.001).skips_zero_advantage
