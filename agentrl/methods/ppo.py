"""PPO: proximal policy optimisation with a critic. Schulman et al. 2017, arXiv:1707.06347; GAE: arXiv:1506.02438.

The sampled tokens of a play are its actions, over all turns; r_t is the reward of token t, V_t the critic's value of
the state before it, and beyond the last token V = 0::

    r_t     = (reward of the play, at its last token) - kl_coef * (log pi_old - log pi_ref)
    delta_t = r_t + gamma_t V_{t+1} - V_t
    A_t     = delta_t + gamma_t lam_t A_{t+1}                           equations 11 and 12
    R_t     = A_t + V_t                                                 what V should have been
    L_V     = max[(V - R)^2, (clip(V, V_old - value_clip, V_old + value_clip) - R)^2]
    J_t     = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) - value_coef L_V + entropy_coef H     equation 9

gamma_t and lam_t are ``gamma`` and ``lam`` inside a turn, ``turn_gamma`` and ``turn_lam`` where the next token begins
another turn. With all four at 1, A_t = (sum of the rewards from t on) - V_t.

Differs from the paper:
- environment tokens are no actions: they are left out, and the token after them follows the one before them;
- a play cut by a limit of turns or tokens ends there like any other: nothing is bootstrapped;
- ``whiten``: advantages are whitened over the sampled tokens of the whole batch of groups, as is usual; where they
  spread by no more than ``std_eps`` they count as equal, and are 0;
- ``whiten_rewards`` (off) divides the rewards, and so what the critic learns, by their deviation over the batch;
- the KL in the reward (estimator k1) and the clipped value loss are common practice; ``value_clip`` 0 is the paper's;
- the critic is a head on the policy's hidden states (:mod:`agentrl.critic`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.methods.base import Defaults
from agentrl.ops import AGGREGATIONS, Aggregation, at_end, k1, ratio, whiten
from agentrl.ranges import require_positive, require_shares
from agentrl.types import Group


@dataclass(frozen=True)
class PPO(Defaults):
    """The paper's symbols; numbers stand in conf/method/ppo.yaml."""

    gamma: float
    lam: float
    turn_gamma: float
    turn_lam: float
    clip_low: float
    clip_high: float
    value_coef: float
    value_clip: float
    kl_coef: float
    entropy_coef: float
    whiten: bool
    whiten_rewards: bool
    std_eps: float

    def __post_init__(self) -> None:
        require_shares(self, "method", "gamma", "lam", "turn_gamma", "turn_lam")
        require_positive(self, "method", "value_coef", hint="for a method without a critic take method=reinforce_pp")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"values", "ref_logprobs"} if self.kl_coef else {"values"})

    @property
    def skips_zero_advantage(self) -> bool:
        return False

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """The reward of each token, before KL: that of the play at its last one."""
        return [at_end(play.reward, play.tokens) for play in group.valid]

    def credit(self, batch: Batch) -> Batch:
        """``advantages`` and ``returns`` by GAE over the rewards and the critic's values, ``[batch, seq]``."""
        assert batch.values is not None, "the learner owes values to a method that needs them"
        rewards = batch.advantages
        if self.kl_coef:
            assert batch.ref_logprobs is not None, "the learner owes ref_logprobs to a method that needs them"
            rewards = rewards - self.kl_coef * k1(batch.old_logprobs, batch.ref_logprobs)
        if self.whiten_rewards and batch.tokens:
            spread = rewards[batch.loss_mask].std(correction=0)
            rewards = rewards / spread if spread > self.std_eps else rewards
        lines = map(batch.to_plays, (rewards.double(), batch.values.double(), batch.turn_starts))
        advantages = batch.to_rows(self.gae(*lines)).float()
        returns = advantages + batch.values
        if self.whiten:
            advantages = whiten(advantages, batch.loss_mask, self.std_eps)
        return replace(batch, advantages=advantages, returns=returns)

    def gae(self, rewards: torch.Tensor, values: torch.Tensor, turn_starts: torch.Tensor) -> torch.Tensor:
        """``A[plays, tokens]`` of the paper's equations 11 and 12; zeros behind the end of a play stay zero."""
        starts = turn_starts[:, 1:]
        gamma, lam = torch.where(starts, self.turn_gamma, self.gamma), torch.where(starts, self.turn_lam, self.lam)
        later = torch.zeros_like(values[:, :1])
        delta = rewards + torch.cat([gamma * values[:, 1:], later], 1) - values
        advantages = delta.clone()
        for t in reversed(range(delta.shape[1] - 1)):
            advantages[:, t] += gamma[:, t] * lam[:, t] * advantages[:, t + 1]
        return advantages

    def weights(self, layout: Layout) -> torch.Tensor:
        """Mean over all tokens of the minibatch, ``[batch, seq]``."""
        return AGGREGATIONS[Aggregation.token](layout.loss_mask, 0)

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """J per token, ``[batch, seq]``."""
        rho = ratio(out.logprobs, batch.old_logprobs)
        clipped = rho.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        gain = torch.minimum(rho * batch.advantages, clipped * batch.advantages)
        gain = gain - self.value_coef * self.value_loss(batch, out)
        return gain + self.entropy_coef * out.entropy if self.entropy_coef else gain

    def value_loss(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """L_V per token, ``[batch, seq]``."""
        assert batch.values is not None, "the learner owes values to a method that needs them"
        assert batch.returns is not None, "credit owes the returns"
        assert out.values is not None, "the learner owes values to a method that needs them"
        loss = (out.values - batch.returns) ** 2
        if not self.value_clip:
            return loss
        near = batch.values + (out.values - batch.values).clamp(-self.value_clip, self.value_clip)
        return torch.maximum(loss, (near - batch.returns) ** 2)
