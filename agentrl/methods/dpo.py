"""DPO: direct preference optimisation. Rafailov et al. 2023, arXiv:2305.18290, equation 7; on pairs of whole plays.

For a chosen play w and a rejected play l of one task, log-probs summed over their sampled tokens, over all turns::

    margin = [log pi(w) - log pi_ref(w)] - [log pi(l) - log pi_ref(l)]
    J      = log sigma(beta * margin) + sft_coef * log pi(w)
    loss   = -mean of J over the pairs                       log 2 at the start, where pi = pi_ref

A pair is a ``Group`` of two plays, the chosen one first; both may be the rests of episodes whose beginnings stand in
their first prompts. Methods that make their pairs otherwise inherit all but ``refill``, whose answer may hold pairs
alone (:func:`is_pair`).

Differs from the paper:
- pairs are made from the plays of the current policy: of each group the best play against the worst by reward, the
  first of equals; groups of equal rewards give no pair;
- ``reference: round`` measures from the policy at the beginning of each batch (ETO's iterations) instead of the run's;
- ``sft_coef`` adds the log-likelihood of the chosen play (IPR; 0 here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.errors import ShapeError
from agentrl.methods.base import Defaults, Supply
from agentrl.ops import by_group, sum_by
from agentrl.ranges import require_positive
from agentrl.types import Group


class Reference(StrEnum):
    """pi_ref: the policy at the ``start`` of the run, or of each ``round`` (batch of groups)."""

    start = auto()
    round = auto()


#: reference -> what it costs the learner; see ``Method.needs``.
LOGPROBS = {Reference.start: "ref_logprobs", Reference.round: "round_logprobs"}


@dataclass(frozen=True)
class DPO(Defaults):
    """The paper's symbols; numbers stand in conf/method/dpo.yaml."""

    beta: float
    sft_coef: float
    reference: Reference

    def __post_init__(self) -> None:
        require_positive(self, "method", "beta", hint="0.1 is usual")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"siblings", "pairs", LOGPROBS[self.reference]})

    @property
    def skips_zero_advantage(self) -> bool:
        return True

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """Of each group whose rewards differ, the pair of its best and its worst play."""
        pairs = []
        for group in groups:
            plays = [play for play in group.valid if play.tokens]
            best, worst = (pick(plays, key=lambda play: play.reward, default=None) for pick in (max, min))
            if best is not None and worst is not None and best.reward > worst.reward:
                pairs.append(replace(group, trajectories=(best, worst)))
        return pairs

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """+1 for every token of the chosen play, -1 of the rejected one. Raises ShapeError for what is not a pair."""
        if not is_pair(group):
            raise ShapeError(
                f"method.refill: group of task {group.task.id} has plays of {[play.tokens for play in group.valid]} "
                "tokens, expected a pair of two that are not empty; mend refill or the rollout that makes the pairs"
            )
        return [np.full(play.tokens, sign, np.float32) for play, sign in zip(group.valid, (1.0, -1.0), strict=True)]

    def weights(self, layout: Layout) -> torch.Tensor:
        """Each pair counts the same, ``[batch, seq]``."""
        return by_group(layout.loss_mask, layout.group)

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """J of the pair at each of its tokens, ``[batch, seq]``."""
        assert batch.ref_logprobs is not None, "the learner owes ref_logprobs to a method that needs them"
        signs = batch.advantages
        margin = sum_by((signs * (out.logprobs - batch.ref_logprobs)).sum(-1), batch.group)
        gain = torch.nn.functional.logsigmoid(self.beta * margin)
        if self.sft_coef:
            gain = gain + self.sft_coef * sum_by((out.logprobs * (signs > 0)).sum(-1), batch.group)
        return gain[:, None].expand_as(signs)


def is_pair(group: Group) -> bool:
    """Two plays that did not fail, both with sampled tokens: chosen, rejected."""
    return len(group.valid) == 2 and all(play.tokens for play in group.valid)
