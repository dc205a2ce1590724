"""The shortest way to done, and every first step of such ways.

Ours. A* over the exact states (bits and running processes) and the goal sets, with the estimate of ``distance``. What
a search finds out stays: after a search of length C every expanded state is known to be at least C minus its depth away
(Adaptive A*, Koenig and Likhachev 2006), so that asking for neighbouring states, and for *all* optimal actions, is
cheap. Where the budget of expanded states is not enough, greedier searches (estimate times ``GREED``) give a plan
that is good but not proven shortest, and says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count as counter

from agentrl.envs.robotouille.distance import Estimate, Places, Shape, shape_of
from agentrl.envs.robotouille.kitchen import Kitchen, State
from agentrl.errors import EnvError

GREED = (1.5, 4.0)  # weights of the estimate, tried in turn where an optimal search does not finish
GOALS = 20_000  # goal sets a planner looks at; of the benchmark's kitchens the largest have 16,128
REMEMBERED = 300_000  # states whose distances and successors are kept
Successors = Callable[[State], Sequence[tuple[str, State]]]


@dataclass(frozen=True, slots=True)
class Advice:
    """``actions``: the first actions of shortest plans, in the order of the list of valid actions; ``remaining``: their
    length. Without ``optimal`` there is one action, of a plan that is not proven shortest."""

    actions: tuple[str, ...]
    remaining: int
    optimal: bool


class Planner:
    """Plans in one kitchen, with the actions that ``successors`` lists (each of cost 1).

    ``budget``: expanded states of one question. Raises EnvError for kitchens with several players.
    """

    def __init__(self, kitchen: Kitchen, places: Places, successors: Successors, travel: bool, budget: int) -> None:
        if len(kitchen.names["player"]) > 1:
            raise EnvError("robotouille: the planner knows kitchens with one player; this one has several")
        self.kitchen = kitchen
        self.budget = budget
        self._successors = successors
        self._estimate = Estimate(kitchen, places, travel)
        self._shapes: list[Shape] | None = None
        self._lower: dict[tuple[State, int], int] = {}  # known bounds of (state, goal set)
        self._next: dict[State, Sequence[tuple[str, State]]] = {}
        self._exact: dict[State, int] = {}
        self._advice: dict[State, Advice] = {}
        self._left = 0

    def advice(self, state: State) -> Advice:
        """What to do in ``state``. Raises EnvError when no plan is found, or the state is done already."""
        found = self._advice.get(state)
        if found is None:
            if len(self._lower) + len(self._next) > REMEMBERED:
                for memory in (self._lower, self._next, self._exact, self._advice):
                    memory.clear()
            self._left = self.budget
            try:
                found = self._optimal(state)
            except _OutOfBudget:
                found = self._greedy(state)
            self._advice[state] = found
        return found

    def cost(self, state: State) -> int:
        """Actions to go on a shortest way. Raises EnvError when the budget is not enough."""
        self._left = self.budget
        try:
            return self._cost(state)
        except _OutOfBudget:
            raise EnvError(f"robotouille: no proof within {self.budget} states; raise env.plan_states") from None

    def bound(self, state: State) -> int:
        """The admissible estimate of a state: the least over its goal sets."""
        return min((self._h(state, goal) for goal in range(len(self._goals()))), default=0)

    def successors(self, state: State) -> Sequence[tuple[str, State]]:
        """(action, state after it), remembered."""
        found = self._next.get(state)
        if found is None:
            found = self._next[state] = self._successors(state)
        return found

    def _goals(self) -> list[Shape]:
        if self._shapes is None:
            goal = self.kitchen.goal
            if goal.count > GOALS:
                raise _OutOfBudget
            shapes = [shape_of(self.kitchen, facts) for facts in goal.sets()]
            distinct = {shape.mask: shape for shape in shapes if shape is not None}
            self._shapes = list(distinct.values())
        return self._shapes

    def _h(self, state: State, goal: int) -> int:
        key = (state, goal)
        found = self._lower.get(key)
        if found is None:
            found = self._lower[key] = self._estimate(state, self._goals()[goal])
        return found

    def _optimal(self, state: State) -> Advice:
        best = self._cost(state)
        if best == 0:
            raise EnvError("robotouille: the kitchen is done; there is nothing left to plan")
        near = [
            goal for goal in range(len(self._goals())) if self._h(state, goal) <= best
        ]  # one step changes a bound by 1
        actions = [name for name, after in self.successors(state) if self._within(after, best - 1, near)]
        return Advice(tuple(actions), best, True)

    def _cost(self, state: State) -> int:
        known = self._exact.get(state)
        if known is None:
            path = self._search(state, None, 1.0, range(len(self._goals())))
            if path is None:
                raise EnvError("robotouille: no plan reaches the goal from here")
            known = self._exact[state]
        return known

    def _within(self, state: State, limit: int, goals: Sequence[int]) -> bool:
        """Is the state at most ``limit`` actions away from one of ``goals``?"""
        known = self._exact.get(state)
        return known <= limit if known is not None else self._search(state, limit, 1.0, goals) is not None

    def _greedy(self, state: State) -> Advice:
        """A plan of a greedier search; the states on its way are advised by it, too."""
        path = None
        for greed in GREED:
            self._left = self.budget
            try:
                path = self._search(state, None, greed, range(len(self._goals())))
                break
            except _OutOfBudget:
                continue
        if path is None:
            raise EnvError(
                f"robotouille: no plan found within {self.budget} states for '{self.kitchen.problem.goal_text}';"
                " raise env.plan_states, or choose smaller tasks"
            )
        for place, (name, before) in enumerate(path):
            self._advice.setdefault(before, Advice((name,), len(path) - place, False))
        return self._advice[state]

    def _search(
        self, root: State, limit: int | None, weight: float, goals: Sequence[int]
    ) -> list[tuple[str, State]] | None:
        """The shortest plan as [(action, state before it)], None: none within ``limit``. Keeps what it learns."""
        shapes = self._goals()
        order = counter()
        reached: dict[tuple[State, int], int] = {}
        came: dict[tuple[State, int], tuple[str, State]] = {}
        expanded: list[tuple[State, int]] = []
        heap: list[tuple[float, int, int, State, int]] = []

        def push(depth: int, state: State, goal: int) -> None:
            h = self._h(state, goal)
            if limit is None or depth + h <= limit:
                heapq.heappush(heap, (depth + weight * h, -depth, next(order), state, goal))

        for goal in goals:
            reached[root, goal] = 0
            push(0, root, goal)
        while heap:
            _, minus, _, state, goal = heapq.heappop(heap)
            depth = -minus
            if reached[state, goal] < depth:
                continue
            if state.bits & shapes[goal].mask == shapes[goal].mask:
                path = self._path(root, state, goal, came)
                if weight == 1.0:
                    self._learn(expanded, reached, depth)
                    self._exact |= {before: depth - place for place, (_, before) in enumerate(path)}
                    self._exact[state] = 0
                return path
            self._left -= 1
            if self._left < 0:
                raise _OutOfBudget
            expanded.append((state, goal))
            for name, after in self.successors(state):
                key = (after, goal)
                known = reached.get(key)
                if known is None or depth + 1 < known:
                    reached[key] = depth + 1
                    came[key] = (name, state)
                    push(depth + 1, after, goal)
        if limit is not None:
            self._learn(expanded, reached, limit + 1)
            for goal in goals:
                self._lower[root, goal] = max(self._lower[root, goal], limit + 1)
        return None

    def _learn(self, expanded: Sequence[tuple[State, int]], reached: dict[tuple[State, int], int], cost: int) -> None:
        """Every expanded state is at least ``cost`` minus its depth away."""
        for key in expanded:
            self._lower[key] = max(self._lower[key], cost - reached[key])

    @staticmethod
    def _path(
        root: State, state: State, goal: int, came: dict[tuple[State, int], tuple[str, State]]
    ) -> list[tuple[str, State]]:
        path = []
        while state != root:
            name, state = came[state, goal]
            path.append((name, state))
        return path[::-1]


class _OutOfBudget(Exception):
    """The search expanded as many states as it may."""


def fine(kitchen: Kitchen) -> Successors:
    """The original's actions as successors."""

    def successors(state: State) -> list[tuple[str, State]]:
        return [(move.text, kitchen.after(state, move)) for move in kitchen.moves(state.bits)]

    return successors
