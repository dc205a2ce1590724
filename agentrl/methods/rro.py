"""RRO: reward rising optimisation. arXiv:2505.20737 (UCSD and Amazon, May 2025).

At step t of a trajectory with prefix e_{1:t-1}, candidate actions are drawn until the process reward of one rises above
that of the step before (``rollout=rising`` explores so), and the policy learns to prefer it to the ones before it::

    r_t(a)  = mean outcome of m plays that go on from (e_{1:t-1}, a)                   process reward
    a+      = the candidate that rises above r_{t-1};  a- = the lowest of the others   refill
    J       = log sigma( beta [log pi/pi_ref (a+ | e_{1:t-1}) - log pi/pi_ref (a- | e_{1:t-1})] )

A pair is two plays of one turn each: the actions are trained, the prefix stands in their prompts.

Differs from the paper, of which only accounts are known to us (m, ties, cap, pair rule, beta, epochs are not
published):
- where no candidate rises within the cap, the best is a+ against the worst, if it beats it;
- where the first candidate rises there is no pair (``rollout.first_rises: skip``), or one more is drawn as a- and kept
  if it is worse by more than ``delta`` (``draw_one``); the chosen candidate goes on as the next prefix;
- ``rejected: all`` pairs a+ with every candidate that it beats;
- a batch of tasks is a round, explored by the policy of that moment; the paper has one offline round. One round over n
  tasks is ``tasks_per_step=n steps=<minibatches x epochs>``;
- process rewards are the environment's returns, whatever ``reward`` is chosen;
- m 5, beta .1, lr 3e-6, 3 epochs, batches of 48 pairs are IPR's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto

from agentrl.errors import ConfigError
from agentrl.methods.base import Supply
from agentrl.methods.dpo import DPO
from agentrl.types import Explored, Group


class Rejected(StrEnum):
    """Which of the worse candidates a+ is paired with: the ``lowest``, or ``all``."""

    lowest = auto()
    all = auto()


@dataclass(frozen=True)
class RRO(DPO):
    """DPO on the candidates of explored steps."""

    delta: float
    rejected: Rejected

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delta < 0:
            raise ConfigError(f"method.delta: got {self.delta:g}, expected at least 0, in units of the return")

    @property
    def needs(self) -> frozenset[str]:
        return super().needs - {"siblings"} | {"steps"}

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """The pairs of all explored steps."""
        return [pair for group in groups if group.explored for pair in self.pairs(group, group.explored)]

    def pairs(self, group: Group, step: Explored) -> list[Group]:
        """The pairs of one step: none, or the kept candidate against the lowest (or each) that it beats."""
        first_rose = step.rose and step.kept == 0
        gap = self.delta if first_rose else 0.0
        worse = [i for i, value in enumerate(step.values) if step.values[step.kept] - value > gap]
        if self.rejected == Rejected.lowest:
            worse = sorted(worse, key=lambda i: step.values[i])[:1]
        return [step_pair(group, step, step.kept, loser) for loser in worse]


def step_pair(group: Group, step: Explored, chosen: int, rejected: int) -> Group:
    """Two candidates of a step as a pair, their process rewards as rewards."""
    plays = group.trajectories
    return Group(group.task, tuple(replace(plays[i], reward=step.values[i]) for i in (chosen, rejected)))
