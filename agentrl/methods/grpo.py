"""GRPO: group relative policy optimisation. Shao et al. 2024, "DeepSeekMath", arXiv:2402.03300, section 4.1.

For the G plays of one task with rewards r_1..r_G, token t of play i::

    A_it = (r_i - mean(r)) / (std(r) + eps)                                        advantages
    rho  = pi(a_it) / pi_old(a_it)
    J_it = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) - kl_coef * KL      objective
    J    = mean of J_it over the tokens, by ``aggregation``                         weights

Differs from the paper:
- the standard deviation is the population's (``std_ddof`` 0; the paper does not say);
- plays have several turns: environment tokens are masked out everywhere; in a ``window`` context each turn is a row;
- ``aggregation: token`` by default; the paper's mean over each sequence (here: row) first is ``sequence``;
- ``kl_coef`` is 0 by default, which saves the reference model; the paper's .04 (estimator k3) is an override away;
- an entropy bonus can be added (``entropy_coef``, off by default).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.methods.base import Defaults
from agentrl.ops import AGGREGATIONS, KL, KL_IN_LOSS, Aggregation, normalise, ratio
from agentrl.types import Group


@dataclass(frozen=True)
class GRPO(Defaults):
    """The paper's symbols; numbers stand in conf/method/grpo.yaml."""

    std_ddof: int
    std_eps: float
    clip_low: float
    clip_high: float
    kl_coef: float
    kl: KL
    entropy_coef: float
    aggregation: Aggregation
    constant_length: int

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"siblings", "ref_logprobs"} if self.kl_coef else {"siblings"})

    @property
    def skips_zero_advantage(self) -> bool:
        return self.kl_coef == 0.0 and self.entropy_coef == 0.0

    def scores(self, group: Group) -> NDArray[np.float64]:
        """What the plays of a group are compared by, ``[G]``: their rewards."""
        return np.array(group.rewards, np.float64)

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """One value for all tokens of a play."""
        values = normalise(self.scores(group), self.std_ddof, self.std_eps)
        return [np.full(play.tokens, value, np.float32) for play, value in zip(group.valid, values, strict=True)]

    def weights(self, layout: Layout) -> torch.Tensor:
        """How tokens are averaged, ``[batch, seq]`` over the whole batch."""
        return AGGREGATIONS[self.aggregation](layout.loss_mask, self.constant_length)

    def gain(self, batch: Batch, out: Outputs, rho: torch.Tensor) -> torch.Tensor:
        """J without KL and entropy, ``[batch, seq]``."""
        clipped = rho.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        return torch.minimum(rho * batch.advantages, clipped * batch.advantages)

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """J per token, ``[batch, seq]``."""
        rho = ratio(out.logprobs, batch.old_logprobs)
        gain = self.gain(batch, out, rho)
        if self.kl_coef:
            assert batch.ref_logprobs is not None, "the learner owes ref_logprobs to a method that needs them"
            gain = gain - self.kl_coef * KL_IN_LOSS[self.kl](out.logprobs, batch.ref_logprobs, rho)
        if self.entropy_coef:
            gain = gain + self.entropy_coef * out.entropy
        return gain
