"""The shared maths of the methods: pure functions of tensors (or of NumPy arrays where a group is meant).

Every function works elementwise on ``[batch, seq]`` or says what it reduces. Masks are boolean and True on the
sampled tokens; what lies outside a mask never reaches a result, not even as NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum, auto

import numpy as np
import torch
from numpy.typing import NDArray

MAX_LOG_RATIO = 20.0  # nats; beyond it exp() of a log-ratio says nothing and would only overflow


class KL(StrEnum):
    """Per-token estimators of KL(policy || reference) fit for a loss; see :data:`KL_IN_LOSS`."""

    k2 = auto()
    k3 = auto()
    k3_weighted = auto()


class Aggregation(StrEnum):
    """How the tokens of a batch become one number; see :data:`AGGREGATIONS`."""

    token = auto()
    sequence = auto()
    constant = auto()


def masked_sum(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum of ``values`` where ``mask``; scalar."""
    return torch.where(mask, values, torch.zeros_like(values)).sum()


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``values`` where ``mask`` (0 for an empty mask); scalar."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def ratio(logprobs: torch.Tensor, old_logprobs: torch.Tensor) -> torch.Tensor:
    """Importance ratio of each token, its logarithm clamped to +-20 nats."""
    return torch.exp((logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))


def truncated_importance(old_logprobs: torch.Tensor, rollout_logprobs: torch.Tensor, cap: float) -> torch.Tensor:
    """Weights ``min(old / rollout, cap)`` that turn the sampler's tokens into the learner's, with bounded variance."""
    return ratio(old_logprobs, rollout_logprobs).clamp(max=cap)


def k1(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """``log p - log q``: an unbiased value of KL(p || q) under samples of p, and negative for half of them.

    Its gradient as a loss has expectation zero, so it is for measuring and for rewards, not for a loss.
    """
    return logprobs - ref_logprobs


def k2(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """``(log p - log q)^2 / 2``: a biased value, but on-policy its gradient is exactly that of KL(p || q)."""
    return 0.5 * (logprobs - ref_logprobs) ** 2


def k3(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """``e^d - d - 1`` with ``d = log q - log p``: unbiased and never negative as a value.

    As a loss its on-policy gradient is that of KL(q || p), the other direction; GRPO's paper uses it nevertheless.
    """
    gap = (ref_logprobs - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.exp(gap) - gap - 1.0


#: (logprobs, ref_logprobs, importance ratio with its gradient) -> per-token term of a loss.
#: ``k3_weighted`` differentiates through the ratio too: gradient of KL(p || q), on- and off-policy.
KL_IN_LOSS: Mapping[KL, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    KL.k2: lambda logprobs, ref_logprobs, _importance: k2(logprobs, ref_logprobs),
    KL.k3: lambda logprobs, ref_logprobs, _importance: k3(logprobs, ref_logprobs),
    KL.k3_weighted: lambda logprobs, ref_logprobs, importance: importance * k3(logprobs, ref_logprobs),
}


def _token(loss_mask: torch.Tensor, _length: int) -> torch.Tensor:
    return loss_mask.float() / loss_mask.sum().clamp(min=1)


def _sequence(loss_mask: torch.Tensor, _length: int) -> torch.Tensor:
    tokens = loss_mask.sum(-1, keepdim=True).clamp(min=1)
    return loss_mask.float() / (tokens * max(loss_mask.shape[0], 1))


def _constant(loss_mask: torch.Tensor, length: int) -> torch.Tensor:
    return loss_mask.float() / (length * max(loss_mask.shape[0], 1))


#: (loss_mask [batch, seq] of the whole batch, constant length) -> weights [batch, seq].
#: ``token``: each sampled token of the batch counts the same (DAPO); ``sequence``: each row counts the same, its tokens
#: share (GRPO); ``constant``: divided by rows x a fixed length (Dr. GRPO), the one that does not sum to 1.
AGGREGATIONS: Mapping[Aggregation, Callable[[torch.Tensor, int], torch.Tensor]] = {
    Aggregation.token: _token,
    Aggregation.sequence: _sequence,
    Aggregation.constant: _constant,
}


def sum_by(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``[batch]``: for each row the sum of ``values`` ``[batch]`` over all rows of equal ``index`` ``[batch]``."""
    found, inverse = torch.unique(index, return_inverse=True)
    return values.new_zeros(len(found)).index_add(0, inverse, values)[inverse]


def by_group(loss_mask: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Weights ``[batch, seq]`` by which each group counts the same, its tokens share; they sum to 1.

    What is equal on all tokens of a group is so averaged over the groups: the mean over pairs.
    """
    tokens = sum_by(loss_mask.sum(-1), group)[:, None]
    groups = len(torch.unique(group[loss_mask.any(-1)]))
    return loss_mask.float() / (tokens * groups).clamp(min=1)


def whiten(values: torch.Tensor, mask: torch.Tensor, eps: float) -> torch.Tensor:
    """``(x - mean) / std`` over ``mask``, population std, zero elsewhere; all zero where std is not above ``eps``.

    The floor keeps a batch in which all is equal but for rounding or a trace of KL from learning that at full strength.
    """
    inside = values[mask].double()
    if not len(inside) or (spread := inside.std(correction=0)) <= eps:
        return torch.zeros_like(values)
    white = (values.double() - inside.mean()) / spread
    return torch.where(mask, white, 0.0).to(values.dtype)


def at_end(reward: float, tokens: int) -> NDArray[np.float32]:
    """``[tokens]``: the reward at the last token, 0 before."""
    rewards = np.zeros(tokens, np.float32)
    rewards[-1:] = reward
    return rewards


def normalise(rewards: NDArray[np.float64], ddof: int, eps: float) -> NDArray[np.float64]:
    """``(r - mean) / (std + eps)`` of one group ``[G]``; exactly 0 for equal rewards and for groups of fewer than 2."""
    if len(rewards) < 2 or bool(np.all(rewards == rewards[0])):
        return np.zeros(len(rewards))
    normalised: NDArray[np.float64] = (rewards - rewards.mean()) / (rewards.std(ddof=ddof) + eps)
    return normalised


def spread(rewards: NDArray[np.float64]) -> float:
    """Population standard deviation of one group ``[G]``; exactly 0 for equal rewards and for an empty group."""
    if len(rewards) < 2 or bool(np.all(rewards == rewards[0])):
        return 0.0
    return float(rewards.std())
