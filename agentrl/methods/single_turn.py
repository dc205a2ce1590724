"""Single-turn GRPO for multi-turn planning. arXiv:2509.20616 (v1 09/2025, v2 12/2025), sections II and III.

A multi-turn task with a unique shortest expert trajectory becomes a bandit over its states (``rollout=single_turn``),
with the reward of ``reward=expert_match``::

    r(s, a) = 1[a = pi_GT(s)]
    max_pi  E_{s ~ expert states} E_{a ~ pi_old}[ rho A(s, a) ] - beta KL(pi || pi_ref),   A normalised in the group

Why this serves the whole task: with T*(s) the actions that the expert still needs and P_t(s) the chance to succeed in
exactly that many::

    P_t(s_t) = E_{a ~ pi}[ r(s_t, a) P_{t+1}(s_{t+1}) ],   so  P_0 = prod_t pi(a_t^GT | s_t^GT)     minimal_success
    p' = p e^{A+/beta} / (p e^{A+/beta} + (1 - p) e^{A-/beta}) >= p                                 population_step
    A+ = sqrt((1 - p) / p),  A- = -sqrt(p / (1 - p))

A policy that matches the expert at least as often in every state succeeds at least as often in minimal time, from the
start and from every later state (theorem 3.3 and corollary 3.2 of v1). A policy may also take a detour and succeed, so
P_0 is a lower bound of the success rate. ``scripts/single_turn_theory.py`` measures all of this.

Differs from the paper:
- PPO's clipping of the ratio, and what :mod:`agentrl.methods.grpo` lists (k3 as estimator of the KL);
- the paper gives no group size, beta, learning rate or data size: G = 8 and beta = .04 are ours;
- worlds with several shortest plans: ``reward.match=optimal`` takes any of them;
- states are drawn at random from the demonstrations of each batch's tasks, not in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.methods.grpo import GRPO


@dataclass(frozen=True)
class SingleTurn(GRPO):
    """GRPO, whose plays are single actions; numbers stand in conf/method/single_turn.yaml."""

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {"labels"}


def population_step(p: float, beta: float) -> float:
    """p': the expert's action after the exact KL-regularised step from a policy that takes it with probability ``p``.

    The optimum of ``E[A] - beta KL`` for the advantages of infinite groups; 0 and 1 stay (no group has a spread).
    """
    if p in (0.0, 1.0):
        return p
    gap = (math.sqrt((1.0 - p) / p) + math.sqrt(p / (1.0 - p))) / beta  # (A+ - A-) / beta
    return 1.0 / (1.0 + (1.0 - p) / p * math.exp(-gap)) if gap < 700.0 else 1.0


def minimal_success(probabilities: Sequence[float]) -> list[float]:
    """P_t for every t: the chance to follow the expert from turn t to the end, ``[turns]``; P_0 comes first.

    ``probabilities``: pi(a_t^GT | s_t^GT) along one expert trajectory.
    """
    chances: list[float] = []
    left = 1.0
    for p in reversed(probabilities):
        left *= p
        chances.append(left)
    return chances[::-1]
