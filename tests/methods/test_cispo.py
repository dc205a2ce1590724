from __future__ import annotations

import math

import pytest
import torch

from tests.learning import group, method
from tests.methods.test_grpo import batch_of, outputs

RATIOS = [1.5, 1.5, 0.1, 0.1, 1.1]
ADVANTAGES = [1.0, -1.0, 1.0, -1.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [1.28, -1.28, 0.1, -0.1, 2.2]),  # no lower bound
        ({"clip_low": 0.2}, [1.28, -1.28, 0.8, -0.8, 2.2]),
        ({"clip_low": 0.2, "cispo_mask": "trinity"}, [0.0, -1.28, 0.8, 0.0, 2.2]),
        ({"cispo_mask": "trinity"}, [0.0, -1.28, 0.1, -0.1, 2.2]),  # nothing falls below 1 - clip_low = 0
    ],
)
def test_the_gradient_is_the_clipped_weight_times_the_advantage(
    changes: dict[str, object], wanted: list[float]
) -> None:
    out = outputs([math.log(r) - 1.0 for r in RATIOS])
    j = method("cispo", **changes).objective(batch_of(ADVANTAGES, [-1.0] * 5), out)
    (gradient,) = torch.autograd.grad(j.sum(), out.logprobs)
    torch.testing.assert_close(gradient, torch.tensor([wanted]))
    torch.testing.assert_close(j, gradient * out.logprobs)


def test_advantages_are_grpos() -> None:
    found = method("cispo", std_eps=0.0).advantages(group([1, 0, 0, 0, 0], tokens=1))
    assert [a.item() for a in found] == [2.0, -0.5, -0.5, -0.5, -0.5]


def test_on_policy_it_is_the_plain_policy_gradient() -> None:
    given = batch_of([1.0, -2.0], [-1.0, -3.0])
    for name in ("cispo", "grpo"):
        out = outputs([-1.0, -3.0])
        (gradient,) = torch.autograd.grad(method(name).objective(given, out).sum(), out.logprobs)
        assert gradient.tolist() == [[1.0, -2.0]]
