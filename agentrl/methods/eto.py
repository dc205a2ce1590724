"""ETO: exploration-based trajectory optimisation. Song et al. 2024, "Trial and error", arXiv:2403.02502.

After supervised learning (``warmstart=sft``) the policy plays the training tasks, and each play e is compared with the
expert's play e* of its task by their final rewards::

    R(e) < R(e*):  chosen e*, rejected e        R(e) > R(e*):  chosen e, rejected e*        equal: no pair     refill
    J = log sigma( beta [log pi/pi_ref (w) - log pi/pi_ref (l)] ),   pi_ref = the policy of this round

A rejected play of the policy is cut to ``extra_turns`` more turns than the expert's has; a pair needs a turn on both
sides.

Differs from the paper and its code:
- a batch of tasks is one iteration; the paper has 3, each over all training tasks, 3 epochs in batches of 32 pairs
  (``tasks_per_step``, ``learner.minibatches``, ``learner.epochs`` say so here);
- beta and lr are the same in every iteration; its code takes .1 and 1e-6 in the first, .5 and 5e-7 later;
- the expert is the environment's own player.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrl.errors import ConfigError
from agentrl.methods.base import Supply
from agentrl.methods.dpo import DPO
from agentrl.types import Group, Stop, Trajectory


@dataclass(frozen=True)
class ETO(DPO):
    """DPO on plays of the policy against those of the expert."""

    extra_turns: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra_turns < 0:
            raise ConfigError(f"method.extra_turns: got {self.extra_turns}, expected at least 0 turns")

    @property
    def needs(self) -> frozenset[str]:
        return super().needs - {"siblings"} | {"expert"}

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """A pair for each play whose return differs from the expert's, who is the first of each group."""
        return [pair for group in groups for pair in self.pairs(group)]

    def pairs(self, group: Group) -> list[Group]:
        """The pairs of one task; a failed play of either side gives none."""
        expert, *own = group.trajectories
        if not _whole(expert):
            return []
        found = []
        for play in filter(_whole, own):
            if play.env_return < expert.env_return:
                cut = replace(play, turns=play.turns[: len(expert.turns) + self.extra_turns])
                found.append(Group(group.task, (expert, cut)))
            elif play.env_return > expert.env_return:
                found.append(Group(group.task, (play, expert)))
        return found


def _whole(play: Trajectory) -> bool:
    return play.stop is not Stop.env_error and play.tokens > 0
