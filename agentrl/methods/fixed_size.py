"""Fixed-size exploration: the baseline of RRO (arXiv:2505.20737) that draws k candidates at every step.

``rollout=fixed_size`` draws and judges k actions in the state of every step; the policy learns to prefer the best of
them to the worst::

    a+ = argmax_i r_t(a_i),  a- = argmin_i r_t(a_i),  i = 1..k;   a pair if r_t(a+) > r_t(a-)    refill
    J  = log sigma( beta [log pi/pi_ref (a+ | e_{1:t-1}) - log pi/pi_ref (a- | e_{1:t-1})] )

Differs from the paper: it names the baseline (3 to 5 candidates) and not its details. Process rewards, pairs of single
turns, rounds and values are those of :mod:`agentrl.methods.rro`, the next prefix is that of the best candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.methods.base import Supply
from agentrl.methods.dpo import DPO
from agentrl.methods.rro import step_pair
from agentrl.types import Group


@dataclass(frozen=True)
class FixedSize(DPO):
    """DPO on the best and the worst candidate of each explored step."""

    @property
    def needs(self) -> frozenset[str]:
        return super().needs - {"siblings"} | {"steps"}

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """One pair for each step whose candidates differ in value; the first of equals."""
        pairs = []
        for group in groups:
            if group.explored is None:
                continue
            values = group.explored.values
            best, worst = values.index(max(values)), values.index(min(values))
            if values[best] > values[worst]:
                pairs.append(step_pair(group, group.explored, best, worst))
        return pairs
