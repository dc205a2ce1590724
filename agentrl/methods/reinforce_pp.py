"""REINFORCE++: PPO's clip without a critic. Hu et al. 2025, arXiv:2501.03262.

The sampled tokens of a play are its actions, over all turns; for token t of a play of T tokens::

    r_t  = (reward of the play, if t = T) - kl_coef * (log pi_old - log pi_ref)      advantages, credit
    A'_t = sum_{s >= t} gamma^(s-t) r_s                                              return to go
    A_t  = (A'_t - mean(A')) / std(A')                                               over all tokens of the whole batch
    J_t  = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)                      objective

Differs from the paper: the standard form of the algorithm is meant, without its variants; the batch of the whitening is
the batch of groups, with all its minibatches; environment tokens are left out, also of the KL and of the discount;
returns that spread by no more than ``std_eps`` count as equal, and their advantages are 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.methods.base import Defaults
from agentrl.ops import AGGREGATIONS, Aggregation, at_end, k1, ratio, whiten
from agentrl.ranges import require_shares
from agentrl.types import Group


@dataclass(frozen=True)
class ReinforcePP(Defaults):
    """The paper's symbols; numbers stand in conf/method/reinforce_pp.yaml."""

    gamma: float
    kl_coef: float
    clip_low: float
    clip_high: float
    std_eps: float

    def __post_init__(self) -> None:
        require_shares(self, "method", "gamma")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"ref_logprobs"} if self.kl_coef else ())

    @property
    def skips_zero_advantage(self) -> bool:
        return False  # what is whitened or has KL to come is not known before credit

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """The reward of each token, before KL: that of the play at its last one."""
        return [at_end(play.reward, play.tokens) for play in group.valid]

    def credit(self, batch: Batch) -> Batch:
        """The rewards less KL, summed up from each token on and whitened, ``[batch, seq]``."""
        rewards = batch.advantages
        if self.kl_coef:
            assert batch.ref_logprobs is not None, "the learner owes ref_logprobs to a method that needs them"
            rewards = rewards - self.kl_coef * k1(batch.old_logprobs, batch.ref_logprobs)
        returns = batch.to_plays(rewards)
        for t in reversed(range(returns.shape[1] - 1)):
            returns[:, t] += self.gamma * returns[:, t + 1]
        return replace(batch, advantages=whiten(batch.to_rows(returns), batch.loss_mask, self.std_eps))

    def weights(self, layout: Layout) -> torch.Tensor:
        """Mean over all tokens of the minibatch, ``[batch, seq]``."""
        return AGGREGATIONS[Aggregation.token](layout.loss_mask, 0)

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """J per token, ``[batch, seq]``."""
        rho = ratio(out.logprobs, batch.old_logprobs)
        clipped = rho.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        return torch.minimum(rho * batch.advantages, clipped * batch.advantages)
