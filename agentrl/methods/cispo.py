"""CISPO: clipped importance sampling policy optimisation. MiniMax 2025, "MiniMax-M1", arXiv:2506.13585, section 3.1.

GRPO's advantages; the importance ratio is clipped as a weight, so that no token loses its gradient::

    w_t = sg(clip(rho_t, 1 - clip_low, 1 + clip_high))
    J_t = w_t * A * log pi(a_t)                                  mean over all sampled tokens of the batch

``cispo_mask: trinity`` zeroes, as Trinity-RFT does, the tokens that PPO's clip would silence:
``rho > 1 + clip_high`` with A > 0, and ``rho < 1 - clip_low`` with A < 0.

Differs from the paper: clip_low 1 (no lower bound) and clip_high .28 are Trinity-RFT's numbers; what
:mod:`agentrl.methods.grpo` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

import torch

from agentrl.batch import Batch, Outputs
from agentrl.methods.grpo import GRPO


class Mask(StrEnum):
    """Which tokens are left out; see :data:`MASKS`."""

    none = auto()
    trinity = auto()


#: (ratio is above its bound, ratio is below, advantages) -> tokens that are silenced, ``[batch, seq]`` bool.
MASKS: Mapping[Mask, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    Mask.none: lambda above, _below, _advantages: torch.zeros_like(above),
    Mask.trinity: lambda above, below, advantages: (above & (advantages > 0)) | (below & (advantages < 0)),
}


@dataclass(frozen=True)
class CISPO(GRPO):
    """GRPO with a clipped weight in place of a clipped objective."""

    cispo_mask: Mask

    def gain(self, batch: Batch, out: Outputs, rho: torch.Tensor) -> torch.Tensor:
        """J without KL and entropy, ``[batch, seq]``."""
        low, high = 1.0 - self.clip_low, 1.0 + self.clip_high
        weight = rho.detach().clamp(low, high)
        silent = MASKS[self.cispo_mask](rho > high, rho < low, batch.advantages)
        return torch.where(silent, 0.0, weight * batch.advantages * out.logprobs)
