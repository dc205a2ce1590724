from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.batch import Batch, Outputs
from agentrl.errors import ConfigError
from agentrl.samples import collate, rows
from agentrl.types import Group
from tests.learning import group, method, play, random_groups, turn

PLAIN = {"kl_coef": 0.0, "whiten": False}


def batch_of(groups: list[Group], ppo: Any, values: Any = 0.0, gap: float = 0.0) -> Batch:
    """The batch as the learner hands it to ``credit``; ``gap``: log pi_old - log pi_ref at every token."""
    batch = collate(rows(groups, ppo.advantages), ppo.weights, False, torch.device("cpu"))
    given = torch.as_tensor(values, dtype=torch.float32).expand(batch.loss_mask.shape) * batch.loss_mask
    return replace(batch, values=given, ref_logprobs=(batch.old_logprobs - gap) * batch.loss_mask)


def reference(r: Any, v: Any, starts: Any, gamma: float, lam: float, turn_gamma: float, turn_lam: float) -> list[float]:
    """GAE by its definition, as a double sum, over the tokens of one play."""
    n = len(r)
    g = [turn_gamma if t + 1 < n and starts[t + 1] else gamma for t in range(n)]
    decay = [(turn_gamma * turn_lam) if t + 1 < n and starts[t + 1] else gamma * lam for t in range(n)]
    delta = [r[t] + (g[t] * v[t + 1] if t + 1 < n else 0.0) - v[t] for t in range(n)]
    return [sum(math.prod(decay[t:s]) * delta[s] for s in range(t, n)) for t in range(n)]


def test_without_discount_the_advantage_is_the_later_rewards_less_the_value() -> None:
    """Two turns in rows of their own (window) are one line of actions."""
    one = play([turn((1, 2), (3, 4)), turn((9,), (5, 6, 7))], 0.75)
    ppo = method("ppo", **PLAIN)
    batch = batch_of([Group(one.task, (one,))], ppo, values=[[0.1, 0.2, 0.3, 0.4]])
    found = ppo.credit(batch)
    torch.testing.assert_close(found.advantages, torch.where(batch.loss_mask, 0.75 - batch.values, 0.0))
    assert set(found.returns[batch.loss_mask].tolist()) == {0.75}


def test_kl_is_a_reward_of_each_token() -> None:
    one = play([turn((1, 2), (3, 4, 5))], 1.0)
    ppo = method("ppo", whiten=False, kl_coef=0.1)
    found = ppo.credit(batch_of([Group(one.task, (one,))], ppo, gap=0.5))
    assert found.advantages[0, 2:].tolist() == pytest.approx([1 - 0.15, 1 - 0.10, 1 - 0.05])
    assert ppo.needs == {"values", "ref_logprobs"}
    assert method("ppo", kl_coef=0.0).needs == {"values"}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    *[st.sampled_from([0.0, 0.5, 0.9, 1.0])] * 4,
)
def test_gae_equals_its_definition(
    seed: int, window: bool, gamma: float, lam: float, turn_gamma: float, turn_lam: float
) -> None:
    groups = random_groups(seed, window=window)
    ppo = method("ppo", gamma=gamma, lam=lam, turn_gamma=turn_gamma, turn_lam=turn_lam, **PLAIN)
    values = np.random.default_rng(seed).normal(size=64).astype(np.float32)
    batch = batch_of(groups, ppo)
    batch = replace(batch, values=torch.from_numpy(values[: batch.loss_mask.shape[1]]) * batch.loss_mask)
    found = ppo.credit(batch).advantages[batch.loss_mask].tolist()
    v = batch.values[batch.loss_mask].tolist()  # type: ignore[index]
    wanted: list[float] = []
    for g in groups:
        for one in g.valid:
            starts = [i == 0 for t in one.turns for i in range(len(t.action_ids))]
            rewards = [0.0] * (one.tokens - 1) + [float(np.float32(one.reward))]
            here = v[len(wanted) : len(wanted) + one.tokens]
            wanted += reference(rewards, here, starts, gamma, lam, turn_gamma, turn_lam)
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_discount_per_turn_acts_between_turns_alone() -> None:
    one = play([turn((1, 2), (3, 4)), turn((9,), (5, 6)), turn((8,), (7,))], 1.0)
    ppo = method("ppo", turn_gamma=0.5, **PLAIN)
    batch = batch_of([Group(one.task, (one,))], ppo)
    assert ppo.credit(batch).advantages[batch.loss_mask].tolist() == [0.25, 0.25, 0.5, 0.5, 1.0]


def test_whitened_advantages_have_mean_zero_and_deviation_one_over_the_whole_batch() -> None:
    groups = random_groups(1)
    ppo = method("ppo", kl_coef=0.0)
    batch = batch_of(groups, ppo, values=0.3)
    found = ppo.credit(batch)
    inside = found.advantages[batch.loss_mask]
    assert inside.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert inside.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    assert (found.advantages[~batch.loss_mask] == 0).all()
    raw = method("ppo", **PLAIN).credit(batch)
    torch.testing.assert_close(found.returns, raw.returns)  # what the critic learns is not whitened


def test_equal_rewards_are_not_blown_up_from_their_rounding() -> None:
    ppo = method("ppo", kl_coef=0.001)
    batch = batch_of([group([0.0, 0.0, 0.0])], ppo)
    noise = 1e-7 * torch.randn(batch.loss_mask.shape, generator=torch.Generator().manual_seed(0))
    batch = replace(batch, ref_logprobs=(batch.old_logprobs + noise) * batch.loss_mask)
    assert not ppo.credit(batch).advantages.any()


def test_whitened_rewards_are_in_units_of_their_deviation() -> None:
    groups = [group([1.0, 0.0], tokens=1)]
    ppo = method("ppo", whiten_rewards=True, **PLAIN)
    found = ppo.credit(batch_of(groups, ppo))
    assert found.returns[found.loss_mask].tolist() == [2.0, 0.0]  # deviation of {1, 0} is .5


def objective_batch(**changes: Any) -> Batch:
    row = torch.zeros(1, 1)
    mask, ids = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64)
    zero = torch.zeros(1, dtype=torch.int64)
    fields = {"advantages": row, "weights": row + 1, "rollout_logprobs": row, "old_logprobs": row, "values": row}
    given = {name: torch.full((1, 1), value) for name, value in changes.items()}
    return Batch(ids, mask, zero, zero, zero, mask, fresh=mask[0], **(fields | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "returns", "clip", "wanted"),
    [
        (0.5, 1.0, 0.2, 0.64),  # V may move from 0 to .2 only: (.2 - 1)^2
        (0.1, 1.0, 0.2, 0.81),  # inside the clip
        (0.5, 0.3, 0.2, 0.04),  # the larger error counts: (.5 - .3)^2, not (.2 - .3)^2
        (0.5, 1.0, 0.0, 0.25),  # no clip
    ],
)
def test_value_loss_by_hand(value: float, returns: float, clip: float, wanted: float) -> None:
    ppo = method("ppo", value_clip=clip, value_coef=0.5)
    zero = torch.zeros(1, 1)
    values = torch.full((1, 1), value, requires_grad=True)
    j = ppo.objective(objective_batch(returns=returns), Outputs(zero, zero, values))
    assert j.item() == pytest.approx(-0.5 * wanted)
    (gradient,) = torch.autograd.grad(j.sum(), values)
    free = clip == 0 or abs(value) < clip or (value - returns) ** 2 > (clip - returns) ** 2
    assert gradient.item() == pytest.approx(-(value - returns) if free else 0.0)


def test_the_policys_part_is_the_clipped_objective() -> None:
    ppo = method("ppo", entropy_coef=0.1)
    for ratio, advantage, wanted in ((1.5, 1.0, 1.2), (0.5, 1.0, 0.5), (1.5, -1.0, -1.5), (0.5, -1.0, -0.8)):
        out = Outputs(torch.full((1, 1), math.log(ratio)), torch.full((1, 1), 2.0), torch.zeros(1, 1))
        j = ppo.objective(objective_batch(advantages=advantage, returns=0.0), out)
        assert j.item() == pytest.approx(wanted + 0.1 * 2.0)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.lam: got 1\.5"):
        method("ppo", lam=1.5)
    with pytest.raises(ConfigError, match=r"value_coef: got 0.*reinforce_pp"):
        method("ppo", value_coef=0.0)
