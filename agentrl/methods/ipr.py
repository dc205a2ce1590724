"""IPR: iterative step-level process refinement. Xiong et al. 2024, "Watch every step!", arXiv:2406.11176.

After supervised learning (``warmstart=sft``) the policy proposes its own action at every step t of an expert play e*
and completes the episode (``rollout=along_expert``). With final rewards R and step rewards r (mean outcome of m plays
from behind the action; an action that ends the episode is its own outcome), a pair is made, in either direction::

    whole plays   |R(e) - R(e*)| > traj_threshold                                                          refill
    at step t     R(e) - R(e*) > traj_threshold and r(a_t) - r(a*_t) > step_threshold, or both reversed
    J = log sigma( beta [log pi/pi_ref (w) - log pi/pi_ref (l)] ) + log pi(w)                    (sft_coef 1)

The pair of a step holds the rests of both plays from that step on, or with ``step_action`` the two actions alone; at
step 0 the rests are the whole plays, so that only ``step_action`` has a step pair there.

Differs from the paper and its code:
- step rewards are estimated with the policy of the round, theirs with the fixed SFT model: an engine holds one set of
  weights. In the first round both are the same;
- a batch of tasks is one round; their script has 6 over all training tasks, 3 epochs in batches of 48 pairs;
- the expert is the environment's own player.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrl.errors import ConfigError
from agentrl.methods.base import Supply
from agentrl.methods.dpo import DPO
from agentrl.types import Explored, Group, Stop, Trajectory


@dataclass(frozen=True)
class IPR(DPO):
    """Outcome DPO, step DPO and SFT on the expert's plays and the policy's departures from them."""

    traj_threshold: float
    step_threshold: float
    step_action: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("traj_threshold", "step_threshold"):
            if getattr(self, name) < 0:
                raise ConfigError(f"method.{name}: got {getattr(self, name):g}, expected at least 0, as a return")

    @property
    def needs(self) -> frozenset[str]:
        return super().needs - {"siblings"} | {"steps", "expert"}

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """The pairs of whole plays and of steps."""
        return [pair for group in groups if group.explored for pair in self.pairs(group, group.explored)]

    def pairs(self, group: Group, step: Explored) -> list[Group]:
        """The pairs of the step: its group holds the rest of the expert's play and of the policy's own."""
        expert, own = group.trajectories
        if Stop.env_error in (expert.stop, own.stop):
            return []
        outcome, process = own.env_return - expert.env_return, step.values[1] - step.values[0]
        found = []
        if step.turn == 0 and abs(outcome) > self.traj_threshold:
            found.append(_pair(group, expert, own, outcome > 0))
        sign = 1 if outcome > 0 else -1
        if sign * outcome > self.traj_threshold and sign * process > self.step_threshold:
            if self.step_action:
                one, two = (replace(play, turns=play.turns[:1], stop=Stop.forked) for play in (expert, own))
                found.append(_pair(group, one, two, outcome > 0))
            elif step.turn > 0:
                found.append(_pair(group, expert, own, outcome > 0))
        return found


def _pair(group: Group, expert: Trajectory, own: Trajectory, own_better: bool) -> Group:
    return Group(group.task, (own, expert) if own_better else (expert, own))
