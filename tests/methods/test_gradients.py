"""The gradient of every objective is that of its value: finite differences, for each method as its YAML ships it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agentrl.batch import Batch, Layout, Outputs
from agentrl.config import CONF
from tests.learning import method

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
STOPPED = {"cispo"}  # its objective stops a gradient on purpose: see test_cispo.py


def random_batch(seed: int) -> Batch:
    """Two groups of two plays in double precision; ratios on both sides of every clip."""
    draw = torch.Generator().manual_seed(seed)
    shape = (4, 6)

    def normal(scale: float, shift: float = 0.0) -> torch.Tensor:
        return shift + scale * torch.randn(shape, generator=draw, dtype=torch.float64)

    mask = torch.rand(shape, generator=draw) < 0.7
    mask[:, 0], mask[:, 1] = False, True
    old = normal(0.5, -2.0)
    return Batch(
        input_ids=torch.zeros(shape, dtype=torch.int64),
        attention_mask=torch.ones(shape, dtype=torch.bool),
        unique=torch.arange(4),
        play=torch.arange(4),
        group=torch.tensor([0, 0, 1, 1]),
        loss_mask=mask,
        advantages=normal(1.0) * mask,
        weights=torch.zeros(shape, dtype=torch.float64),
        rollout_logprobs=old,
        old_logprobs=old,
        fresh=torch.ones(4, dtype=torch.bool),
        ref_logprobs=old + normal(0.2),
        values=normal(0.5),
        returns=normal(0.5),
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in STOPPED])
def test_finite_differences(name: str, seed: int) -> None:
    one = method(name)
    given = random_batch(seed)
    given = replace(given, weights=one.weights(Layout(given.loss_mask, given.play, given.group)).double())
    draw = torch.Generator().manual_seed(seed + 10)

    def near(base: torch.Tensor, scale: float) -> torch.Tensor:
        return (base + scale * torch.randn(base.shape, generator=draw, dtype=torch.float64)).requires_grad_()

    assert given.values is not None
    logprobs, values = near(given.old_logprobs, 0.4), near(given.values, 0.3)
    entropy = near(torch.ones_like(given.old_logprobs), 0.1)

    def loss(logprobs: torch.Tensor, entropy: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return -(one.objective(given, Outputs(logprobs, entropy, values)) * given.weights).sum()

    assert torch.autograd.gradcheck(loss, (logprobs, entropy, values), atol=1e-6)
    (gradient,) = torch.autograd.grad(loss(logprobs, entropy, values), logprobs)
    assert gradient[given.loss_mask].abs().sum() > 0
    assert (gradient[~given.loss_mask] == 0).all()
