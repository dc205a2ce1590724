"""RRO's theorem on trees that are computed exactly: where some next action is no worse, and where that fails.

With exact values under one policy, r(s_{t-1}, a_{t-1}) = E_o E_{a ~ pi} r(s_t, a). In a deterministic world the maximum
over the actions that pi may take is at least that mean.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import pytest

from agentrl.rollout.rising import RISES, Tie

TOP = 1.0


@dataclass(frozen=True)
class Node:
    """A state: a reward where the episode ends, else its actions with their odds and the states they may lead to."""

    reward: float = 0.0
    actions: tuple[tuple[float, tuple[Node, ...]], ...] = ()

    @property
    def value(self) -> float:
        """Expected outcome under the policy that the odds are; the states of an action are equally likely."""
        return sum(odds * process(states) for odds, states in self.actions) if self.actions else self.reward


def process(states: Sequence[Node]) -> float:
    """r of an action: the expected value of where it leads."""
    return fmean(state.value for state in states)


def grow(rng: random.Random, depth: int, outcomes: int) -> Node:
    """A random world; each action leads to one of ``outcomes`` states, some actions are never taken."""
    if depth == 0 or rng.random() < 0.15:
        return Node(reward=rng.choice([0.0, 0.0, 0.3, 1.0]))
    odds = [rng.choice([0.0, rng.random()]) for _ in range(rng.randint(1, 3))]
    odds = [weight / sum(odds) for weight in odds] if sum(odds) else [1.0]
    return Node(actions=tuple((p, tuple(grow(rng, depth - 1, outcomes) for _ in range(outcomes))) for p in odds))


def steps(node: Node) -> list[tuple[float, list[float]]]:
    """(r_{t-1}, r_t of the actions in the policy's support) for every state behind an action of the world."""
    found = []
    for _, states in node.actions:
        before = process(states)
        for state in states:
            if state.actions:
                found.append((before, [process(next_) for odds, next_ in state.actions if odds > 0]))
            found += steps(state)
    return found


def violations(worlds: Sequence[Node], tie: Tie) -> tuple[int, int]:
    """(states in which no action of the support rises, all states)."""
    every = [step for world in worlds for step in steps(world)]
    return sum(not any(RISES[tie](value, before, TOP) for value in values) for before, values in every), len(every)


def test_in_deterministic_worlds_some_action_is_no_worse() -> None:
    worlds = [grow(random.Random(seed), 6, outcomes=1) for seed in range(1200)]
    broken, total = violations(worlds, Tie.geq)
    assert total > 8000
    assert broken == 0


def test_random_observations_break_it() -> None:
    bad, good = (Node(actions=((1.0, (Node(reward=r),)),)) for r in (0.0, 1.0))
    world = Node(actions=((1.0, (bad, good)),))
    assert steps(world) == [(0.5, [0.0]), (0.5, [1.0])]
    assert violations([world], Tie.geq) == (1, 2)
    worlds = [grow(random.Random(seed), 4, outcomes=2) for seed in range(100)]
    assert violations(worlds, Tie.geq)[0] > 0


def test_it_holds_on_average_over_random_observations() -> None:
    """E_o max_a r(s_t, a) >= r_{t-1}."""
    for seed in range(200):
        for _, states in grow(random.Random(seed), 3, outcomes=3).actions:
            best = [max(process(n) for odds, n in s.actions if odds > 0) if s.actions else s.reward for s in states]
            assert fmean(best) >= process(states) - 1e-9


def test_a_strict_rise_fails_where_values_are_flat_or_at_their_maximum() -> None:
    def chain(reward: float) -> Node:
        return Node(actions=((1.0, (Node(actions=((0.5, (Node(reward),)), (0.5, (Node(reward),)))),)),))

    flat, top = chain(0.3), chain(1.0)
    assert violations([flat, top], Tie.geq) == (0, 2)
    assert violations([flat, top], Tie.strict) == (2, 2)
    assert violations([flat, top], Tie.strict_unless_max) == (1, 2)
    worlds = [grow(random.Random(seed), 5, outcomes=1) for seed in range(100)]
    assert violations(worlds, Tie.strict)[0] > violations(worlds, Tie.strict_unless_max)[0] > 0


@pytest.mark.parametrize(("m", "least"), [(1, 0.1), (5, 0.02)])
def test_estimates_break_it(m: int, least: float) -> None:
    """One coin-flip action: r_{t-1} and r_t are the same number, their estimates are not."""
    rng = random.Random(0)
    trials = 4000
    broken = 0
    for _ in range(trials):
        before, value = (fmean(rng.random() < 0.3 for _ in range(m)) for _ in range(2))
        broken += not RISES[Tie.geq](value, before, TOP)
    assert broken / trials > least


def test_another_rollout_policy_breaks_it() -> None:
    """r_{t-1} by a policy that takes the good action, candidates by one that never does."""
    good, bad = Node(reward=1.0), Node(reward=0.0)
    rolled = Node(actions=((1.0, (good,)), (0.0, (bad,))))
    sampled = Node(actions=((0.0, (good,)), (1.0, (bad,))))
    before = process((rolled,))
    assert before == 1.0
    assert max(process(n) for odds, n in sampled.actions if odds > 0) < before
    assert max(process(n) for odds, n in rolled.actions if odds > 0) >= before


def test_equal_means_that_differ_in_their_last_bit_are_equal() -> None:
    assert RISES[Tie.geq](0.3, 0.1 + 0.2, TOP)
    assert not RISES[Tie.strict](0.1 + 0.2, 0.3, TOP)
