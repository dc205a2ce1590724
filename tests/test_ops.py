from __future__ import annotations

import numpy as np
import pytest
import torch

from agentrl.ops import (
    AGGREGATIONS,
    KL,
    KL_IN_LOSS,
    Aggregation,
    at_end,
    by_group,
    k1,
    k2,
    k3,
    masked_mean,
    normalise,
    ratio,
    spread,
    sum_by,
    truncated_importance,
    whiten,
)


def test_masked_mean_ignores_what_is_outside_even_nan() -> None:
    values = torch.tensor([[1.0, 2.0, float("nan")]])
    assert masked_mean(values, torch.tensor([[True, True, False]])).item() == 1.5
    assert masked_mean(values, torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0


def test_normalise_one_success_in_five() -> None:
    rewards = np.array([1.0, 0, 0, 0, 0])
    np.testing.assert_allclose(normalise(rewards, 0, 0.0), [2, -0.5, -0.5, -0.5, -0.5])
    np.testing.assert_allclose(normalise(rewards, 1, 0.0), [1.789, -0.447, -0.447, -0.447, -0.447], atol=1e-3)


@pytest.mark.parametrize("rewards", [[], [0.3], [0.1, 0.1, 0.1], [0.7] * 5])
def test_equal_rewards_give_exact_zeros(rewards: list[float]) -> None:
    assert not normalise(np.array(rewards), 1, 1e-6).any()
    assert spread(np.array(rewards)) == 0.0


def test_normalised_rewards_sum_to_zero_and_ignore_scale() -> None:
    rewards = np.random.default_rng(0).random(8)
    one, other = normalise(rewards, 0, 0.0), normalise(3.0 * rewards - 7.0, 0, 0.0)
    assert abs(one.sum()) < 1e-12
    np.testing.assert_allclose(one, other)


def test_aggregations_by_hand() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    token, sequence, constant = (AGGREGATIONS[name](mask, 10) for name in Aggregation)
    assert token.tolist() == [[0.25] * 3, [0.25, 0, 0]]
    torch.testing.assert_close(sequence, torch.tensor([[1 / 6] * 3, [0.5, 0, 0]]))
    torch.testing.assert_close(constant, torch.tensor([[0.05] * 3, [0.05, 0, 0]]))
    assert token.sum() == sequence.sum() == 1.0


def test_truncated_importance_is_capped_above_only() -> None:
    weights = truncated_importance(torch.tensor([0.0, -1.0, -2.0]), torch.tensor([-2.0, -1.0, 0.0]), 2.0)
    torch.testing.assert_close(weights, torch.tensor([2.0, 1.0, float(np.exp(-2.0))]))


def _kl_gradients(term: KL, p_logits: torch.Tensor, q_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Expected gradient of an estimator under samples of p, and the gradient of the exact KL(p || q)."""
    logits = p_logits.clone().requires_grad_()
    logp, logq = torch.log_softmax(logits, -1), torch.log_softmax(q_logits, -1)
    rho = ratio(logp, logp.detach())
    expected = (logp.detach().exp() * KL_IN_LOSS[term](logp, logq, rho)).sum()
    exact = (logp.exp() * (logp - logq)).sum()
    (found,) = torch.autograd.grad(expected, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(exact, logits)
    return found, wanted


@pytest.mark.parametrize("term", [KL.k2, KL.k3_weighted])
def test_kl_gradient_equals_the_exact_one_on_a_toy_vocabulary(term: KL) -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 7, dtype=torch.float64)
    found, wanted = _kl_gradients(term, p, q)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_k3_gradient_is_that_of_the_reversed_kl() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 7, dtype=torch.float64)
    found, wanted = _kl_gradients(KL.k3, p, q)
    assert (found - wanted).abs().max() > 1e-3
    logits = p.clone().requires_grad_()
    logp, logq = torch.log_softmax(logits, -1), torch.log_softmax(q, -1)
    (reverse,) = torch.autograd.grad((logq.exp() * (logq - logp)).sum(), logits)
    torch.testing.assert_close(found, reverse, rtol=0, atol=1e-12)


def test_kl_values() -> None:
    torch.manual_seed(0)
    logp, logq = torch.log_softmax(torch.randn(2, 7, dtype=torch.float64), -1)
    exact = (logp.exp() * (logp - logq)).sum()
    for unbiased in (k1, k3):
        torch.testing.assert_close((logp.exp() * unbiased(logp, logq)).sum(), exact)
    assert (k3(logp, logq) >= 0).all()
    assert (k2(logp, logq) >= 0).all()
    assert k3(logp, logp).abs().max() == 0


def test_k1_as_a_loss_has_no_gradient_on_average() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 7, dtype=torch.float64)
    logits = p.clone().requires_grad_()
    logp = torch.log_softmax(logits, -1)
    (gradient,) = torch.autograd.grad((logp.detach().exp() * k1(logp, torch.log_softmax(q, -1))).sum(), logits)
    assert gradient.abs().max() < 1e-12


def test_sum_by_gives_each_row_the_sum_of_its_kind() -> None:
    found = sum_by(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([7, 3, 7, 9]))
    assert found.tolist() == [5.0, 2.0, 5.0, 8.0]
    assert sum_by(torch.zeros(0), torch.zeros(0, dtype=torch.int64)).tolist() == []


def test_by_group_counts_each_group_the_same() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False], [False, True, False]])
    weights = by_group(mask, torch.tensor([4, 4, 6]))
    torch.testing.assert_close(weights, torch.tensor([[0.125] * 3, [0.125, 0, 0], [0, 0.5, 0]]))
    assert by_group(torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)).shape == (0, 0)


def test_whiten_ignores_what_is_outside_and_leaves_equal_numbers_alone() -> None:
    mask = torch.tensor([[True, True, False], [True, True, False]])
    values = torch.tensor([[1.0, 3.0, float("nan")], [1.0, 3.0, 1e9]])
    torch.testing.assert_close(whiten(values, mask, 1e-6), torch.tensor([[-1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]))
    noise = torch.tensor([[0.1, 0.1 + 1e-7]])
    assert not whiten(noise, torch.ones(1, 2, dtype=torch.bool), 1e-6).any()
    assert whiten(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool), 1e-6).shape == (0, 0)


def test_a_reward_at_the_end() -> None:
    assert at_end(0.5, 3).tolist() == [0.0, 0.0, 0.5]
    assert at_end(0.5, 0).tolist() == []
