from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrl.batch import Batch, Outputs
from agentrl.errors import ConfigError, ShapeError
from agentrl.methods.dpo import is_pair
from agentrl.samples import collate, rows
from agentrl.types import Group, Stop
from tests.learning import TinyPolicy, group, learner, method, play, random_groups, turn

CPU = torch.device("cpu")


def pairs(seed: int = 0, tasks: int = 5, window: bool = False) -> list[Group]:
    """Pairs of plays of one to three turns, of unequal lengths."""
    return random_groups(seed, tasks=tasks, size=2, window=window)


def batch_of(groups: list[Group]) -> Batch:
    dpo = method("dpo")
    batch = collate(rows(groups, dpo.advantages), dpo.weights, True, CPU)
    return replace(batch, ref_logprobs=torch.zeros(batch.loss_mask.shape))


def outputs(batch: Batch, per_token: float) -> Outputs:
    row = (per_token * batch.loss_mask).requires_grad_()
    return Outputs(row, torch.zeros_like(row))


def loss(dpo: Any, batch: Batch, out: Outputs) -> torch.Tensor:
    return -(dpo.objective(batch, out) * batch.weights)[batch.loss_mask].sum()


def test_loss_is_log_two_while_the_policy_is_its_reference() -> None:
    batch = batch_of(pairs())
    assert loss(method("dpo"), batch, outputs(batch, 0.0)).item() == pytest.approx(math.log(2), rel=1e-6)


def test_loss_by_hand() -> None:
    """Chosen: two turns, 2 + 1 tokens; rejected: 2 tokens; every log-ratio is .5, so the margin is 1.5 - 1."""
    chosen = play([turn((1, 2), (3, 4)), turn((9,), (5,))], 1.0)
    rejected = play([turn((1, 2), (6, 7))], 0.0, member=1)
    batch = batch_of([Group(chosen.task, (chosen, rejected))])
    dpo = method("dpo", beta=0.4)
    wanted = -math.log(1 / (1 + math.exp(-0.4 * 0.5)))
    out = outputs(batch, 0.5)
    assert loss(dpo, batch, out).item() == pytest.approx(wanted, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss(dpo, batch, out), out.logprobs)
    push = 0.4 / (1 + math.exp(0.4 * 0.5))
    assert sorted(gradient[batch.loss_mask].tolist()) == pytest.approx([-push] * 3 + [push] * 2)
    assert loss(replace(dpo, sft_coef=2.0), batch, out).item() == pytest.approx(wanted - 2.0 * 1.5, rel=1e-6)


def test_the_loss_is_the_mean_over_pairs_whatever_their_length() -> None:
    groups = pairs(tasks=4)
    alone = []
    for g in groups:
        batch = batch_of([g])
        alone.append(loss(method("dpo"), batch, outputs(batch, 0.7)).item())
    batch = batch_of(groups)
    assert len({round(x, 6) for x in alone}) > 1
    assert loss(method("dpo"), batch, outputs(batch, 0.7)).item() == pytest.approx(sum(alone) / 4, rel=1e-5)


def test_the_best_play_of_a_group_stands_against_its_worst() -> None:
    broken = play([turn((1, 2), (3,))], 9.0, "a", 5, stop=Stop.env_error)
    mute = play([], -9.0, "a", 6)
    plays = (*group([0.2, 0.9, 0.1, 0.9, 0.1], "a").trajectories, broken, mute)
    found = method("dpo").refill([Group(plays[0].task, plays), group([0.5, 0.5], "b"), group([1.0], "c")], None)
    assert [[p.member for p in g.trajectories] for g in found] == [[1, 2]]
    assert all(map(is_pair, found))


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"task t has plays of \[2, 2, 2\] tokens, expected a pair"):
        method("dpo").advantages(group([1, 0, 0]))
    one = group([1, 0])
    empty = replace(one, trajectories=(one.trajectories[0], replace(one.trajectories[1], turns=())))
    with pytest.raises(ShapeError, match=r"plays of \[2, 0\] tokens"):
        method("dpo").advantages(empty)


def test_its_numbers_say_what_it_needs() -> None:
    assert method("dpo").needs == {"siblings", "pairs", "ref_logprobs"}
    assert method("dpo", reference="round").needs == {"siblings", "pairs", "round_logprobs"}
    with pytest.raises(ConfigError, match=r"method\.beta: got 0"):
        method("dpo", beta=0.0)


def test_gradient_equals_finite_differences() -> None:
    policy, other = TinyPolicy(dtype=torch.float64), TinyPolicy(3, dtype=torch.float64)
    dpo = method("dpo", beta=0.3, sft_coef=0.1)
    one = learner(policy)
    one.hand.reference = other  # type: ignore[assignment]
    (batch,) = one.collate(pairs(), dpo)

    def value() -> torch.Tensor:
        out = policy.outputs(batch.input_ids, batch.attention_mask, _mask(batch), 1.0, 0)
        return loss(dpo, batch, Outputs(out.logprobs[batch.unique], out.entropy[batch.unique]))

    parameter = next(iter(policy.parameters()))
    (wanted,) = torch.autograd.grad(value(), parameter)
    index = int(wanted.abs().argmax())
    with torch.no_grad():
        flat, step = parameter.view(-1), 1e-3
        flat[index] += step
        above = value().item()
        flat[index] -= 2 * step
        below = value().item()
    assert (above - below) / (2 * step) == pytest.approx(wanted.view(-1)[index].item(), rel=2e-3)


def _mask(batch: Batch) -> torch.Tensor:
    mask = torch.zeros_like(batch.attention_mask)
    mask[batch.unique] = batch.loss_mask
    return mask
