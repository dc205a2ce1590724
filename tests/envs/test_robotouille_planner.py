"""The planner is right: checked against exhaustive search, and on tasks whose optimum is known."""

from __future__ import annotations

import itertools
import json
import random
from collections import deque
from typing import Any

import pytest

from agentrl.envs.robotouille import Robotouille, compact
from agentrl.envs.robotouille.distance import Places
from agentrl.envs.robotouille.kitchen import Kitchen, State
from agentrl.envs.robotouille.layouts import SIZES, dishes_of, draw, problem_of
from agentrl.envs.robotouille.planner import Planner, fine
from agentrl.envs.robotouille.problem import to_problem
from agentrl.envs.robotouille.recipes import benchmark_problem
from agentrl.errors import EnvError
from agentrl.types import Message

LARGEST = 4000  # states of a kitchen that is searched exhaustively
FACTS = {"lettuce": ["iscuttable"], "patty": ["iscookable"], "potato": ["iscuttable", "isfryableifcut"]}


def planner(kitchen: Kitchen, travel: bool, budget: int = 100_000) -> Planner:
    return Planner(kitchen, Places(kitchen), fine(kitchen) if travel else compact.macros(kitchen), travel, budget)


def any_problem(rng: random.Random) -> dict[str, Any]:
    """A small kitchen with stacks, work to do, perhaps something in the hand, and a goal of any kind."""
    stations = [
        {"name": rng.choice(["table", "table", "board", "stove", "fryer"]), "x": 2 * x, "y": 1}
        for x in range(rng.randint(2, 4))
    ]
    items: list[dict[str, Any]] = []
    for _ in range(rng.randint(1, 4 if len(stations) < 4 else 3)):
        name, at = rng.choice(["bread", "cheese", "lettuce", "patty", "potato", "bread"]), rng.choice(stations)["x"]
        level = sum(item["x"] == at for item in items)
        items.append({"name": name, "x": at, "y": 1, "stack-level": level, "predicates": FACTS.get(name, [])})
    at = rng.choice(stations)["x"]
    if rng.random() < 0.2:
        items[-1] |= {"x": at, "y": 0, "stack-level": 0}
    names = [item["name"] for item in items]
    chosen = rng.sample(range(len(items)), rng.randint(1, len(items)))
    return {
        "stations": stations,
        "items": items,
        "players": [{"name": "robot", "x": at, "y": 0, "direction": [0, 1]}],
        "goal_description": "",
        "goal": any_goal(rng, names, chosen) + work(rng, names, chosen),
    }


def fact(predicate: str, *things: tuple[str, int]) -> dict[str, Any]:
    return {"predicate": predicate, "args": [name for name, _ in things], "ids": [thing for _, thing in things]}


def any_goal(rng: random.Random, names: list[str], chosen: list[int]) -> list[dict[str, Any]]:
    things = [(names[place], 10 + place) for place in chosen]
    station = (rng.choice(["table", "station", "board", "stove"]), 1)
    draw_ = rng.random()
    if draw_ < 0.35:
        base = [fact("item_on", things[0], station)] if rng.random() < 0.7 else [fact("clear", things[-1])]
        return base + [fact("atop", upper, lower) for lower, upper in itertools.pairwise(things)]
    if draw_ < 0.6:
        inner = [fact("item_at", thing, station) for thing in things[1:]]
        return [fact("item_on", things[0], station), *inner, fact("clear", things[-1])]
    loose = [fact("clear", things[0]), fact("has_item", ("robot", 5), things[0]), fact("item_at", things[0], station)]
    return [rng.choice(loose)] + [fact("item_at", thing, (station[0], rng.choice([1, 2]))) for thing in things[1:]]


def work(rng: random.Random, names: list[str], chosen: list[int]) -> list[dict[str, Any]]:
    made = {"lettuce": ["iscut"], "patty": ["iscooked"], "potato": ["iscut", "isfried"]}
    found = [place for place in chosen if names[place] in made and rng.random() < 0.7]
    return [fact(rng.choice(made[names[place]]), (names[place], 10 + place)) for place in found]


def distances(plan: Planner, kitchen: Kitchen) -> dict[State, int] | None:
    """Exact distances to done of all reachable states, by breadth-first search; None when there are too many."""
    before: dict[State, list[State]] = {kitchen.start: []}
    queue = deque([kitchen.start])
    while queue:
        state = queue.popleft()
        for _, after in plan.successors(state):
            if after not in before:
                before[after] = []
                queue.append(after)
            before[after].append(state)
        if len(before) > LARGEST:
            return None
    found = {state: 0 for state in before if kitchen.done(state.bits)}
    queue = deque(found)
    while queue:
        state = queue.popleft()
        for previous in before[state]:
            if previous not in found:
                found[previous] = found[state] + 1
                queue.append(previous)
    return found


@pytest.mark.parametrize("travel", [True, False])
def test_estimates_never_overestimate_and_advice_is_exact(travel: bool):
    """Against breadth-first search in random kitchens: bounds on every state, all optimal actions on some."""
    rng = random.Random(3)
    states = checked = 0
    while states < 6_000:
        problem = any_problem(rng)
        kitchen = Kitchen(to_problem(problem))
        if not 0 < kitchen.goal.count <= 60:
            continue
        plan = planner(kitchen, travel)
        exact = distances(plan, kitchen)
        for state, distance in (exact or {}).items():
            assert plan.bound(state) <= distance, json.dumps(problem)
            assert (plan.bound(state) == 0) == (distance == 0)
            states += 1
        for state in rng.sample(sorted(exact or {}), min(8, len(exact or {}))):
            if exact and exact[state]:
                advice = plan.advice(state)
                best = [name for name, after in plan.successors(state) if exact.get(after) == exact[state] - 1]
                assert (advice.remaining, list(advice.actions), advice.optimal) == (exact[state], best, True)
                checked += 1
    assert checked > 40


@pytest.mark.parametrize(
    ("name", "length", "plans"),
    [("cheese_sandwich", 8, 2), ("burger", 8, 1), ("cheeseburger", 15, 2), ("double_cheeseburger", 23, 1)],
)
def test_known_optima_and_numbers_of_shortest_plans(name: str, length: int, plans: int):
    kitchen = Kitchen(to_problem(benchmark_problem(name)))
    plan = planner(kitchen, travel=True)
    assert plan.advice(kitchen.start).remaining == length

    def count(state: State) -> int:
        if kitchen.done(state.bits):
            return 1
        advice, after = plan.advice(state), dict(plan.successors(state))
        return sum(count(after[action]) for action in advice.actions)

    assert count(kitchen.start) == plans


def test_plans_do_not_depend_on_what_was_asked_before():
    env = Robotouille(source="benchmark", recipes=["cheeseburger"], seeds=[42], train=1, val=1)
    first, second = (env.start(env.tasks("test")[0]) for _ in range(2))
    rng, seen = random.Random(0), []
    for _ in range(20):
        seen.append((first.snapshot(), first.advice()))
        first.step(Message("assistant", rng.choice(first.actions())))
    fresh = Robotouille(source="benchmark", recipes=["cheeseburger"], seeds=[42], train=1, val=1)
    for state, advice in reversed(seen):
        assert fresh.restore(state).advice() == advice
    assert second.advice() == seen[0][1]


def test_a_small_budget_gives_an_honest_plan_or_none():
    task = Robotouille(source="benchmark", recipes=["lettuce_tomato_cheeseburger"], seeds=[0], train=1, val=1)
    kitchen = task.stage(task.tasks("test")[0]).kitchen
    exact = planner(kitchen, travel=True).advice(kitchen.start)
    assert (exact.optimal, exact.remaining) == (True, 35)
    rough = planner(kitchen, travel=True, budget=100).advice(kitchen.start)
    assert not rough.optimal
    assert rough.remaining >= exact.remaining
    assert len(rough.actions) == 1
    with pytest.raises(EnvError, match="choose smaller tasks"):
        planner(kitchen, travel=True, budget=5).advice(kitchen.start)
    with pytest.raises(EnvError, match="no proof within 5"):
        planner(kitchen, travel=True, budget=5).cost(kitchen.start)


def test_an_unproven_plan_is_no_label_but_still_reaches_the_goal():
    env = Robotouille(source="benchmark", recipes=["lettuce_tomato_cheeseburger"], seeds=[0], train=1, val=1,
                      plan_states=100, cap=3)  # fmt: skip
    episode, expert, reward = env.start(env.tasks("test")[0]), env.expert(0.0, 0), 0.0
    with pytest.raises(EnvError, match="no proof"):
        env.optimal_actions(episode)
    for _ in range(100):
        step = episode.step(expert(episode))
        reward += step.reward
        if step.done:
            break
    assert reward == 1.0


def test_what_cannot_be_planned_is_told():
    problem = benchmark_problem("burger")
    second = {**problem, "players": problem["players"] + [{"name": "robot", "x": 1, "y": 0, "direction": [0, 1]}]}
    with pytest.raises(EnvError, match="several"):
        planner(Kitchen(to_problem(second)), travel=True)
    kitchen = Kitchen(to_problem({**problem, "items": problem["items"][:2]}))
    with pytest.raises(EnvError, match="no plan"):
        planner(kitchen, travel=True, budget=10_000).advice(kitchen.start)


@pytest.mark.parametrize("size", SIZES)
def test_generated_kitchens_can_be_done(size: str):
    for number in range(40 if size == "small" else 5):
        kitchen = Kitchen(to_problem(problem_of(draw(1, size, number, dishes_of(size)))))
        if not kitchen.done(kitchen.start.bits):
            assert planner(kitchen, travel=False, budget=20_000).advice(kitchen.start).remaining > 0
