"""Supervised fine-tuning on demonstrations (behaviour cloning).

Objective: ``J = E_{(task, demonstration)} sum_t log pi(a_t | history)``, averaged over the tokens of the batch. It runs
through the loop like every other method: its rollout plays the environment's expert instead of the policy, and whether
failed demonstrations take part (reward-filtered fine-tuning) is the rollout's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.methods.base import Defaults
from agentrl.ops import AGGREGATIONS, Aggregation
from agentrl.types import Group


@dataclass(frozen=True)
class SFT(Defaults):
    """Maximum likelihood of every action token; see the module's equation."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    @property
    def skips_zero_advantage(self) -> bool:
        return True

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """1 for every token: imitate all of it."""
        return [np.ones(trajectory.tokens, np.float32) for trajectory in group.valid]

    def weights(self, layout: Layout) -> torch.Tensor:
        """Mean over all tokens of the batch, ``[batch, seq]``."""
        return AGGREGATIONS[Aggregation.token](layout.loss_mask, 0)

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """``A log pi`` per token, ``[batch, seq]``; A is 1 times the weight of the group."""
        return batch.advantages * out.logprobs
