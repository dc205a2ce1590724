"""Kitchens for single-turn GRPO's four dishes: caps, splits, plan lengths, sub-tasks; ASAT = SR ASST + (1 - SR) cap."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import pytest

from agentrl.envs.base import Episode
from agentrl.envs.check import check_env
from agentrl.envs.robotouille import Robotouille
from agentrl.envs.robotouille.layouts import cap_of, dishes_of, draw, family
from agentrl.envs.robotouille.panels import generated
from agentrl.envs.robotouille.recipes import MENU, PAPER
from agentrl.errors import ConfigError
from agentrl.evaluate import block
from agentrl.panel import require_disjoint
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

CAPS = {"cheese_sandwich": 15, "burger": 15, "cheeseburger": 23, "double_cheeseburger": 35}  # the paper's
FEW: dict[str, Any] = {"size": "paper", "max_turns": 35, "train": 120, "val": 20, "test": 60}


def kitchens(dish: str, view: str = "compact", **more: Any) -> Robotouille:
    return Robotouille(recipes=[dish], view=view, **(FEW | more))


def optimum(env: Robotouille, task: Task) -> int:
    """Actions of a shortest plan, in the words of the view."""
    return env.optimal_actions(env.start(task))[1]


@pytest.mark.parametrize("view", ["text", "compact"])
def test_the_contract_holds(view: str):
    assert check_env(Robotouille(view=view, **FEW), tasks=2) == []


def test_the_four_dishes_have_the_paper_s_caps():
    assert tuple(dishes_of("paper")) == PAPER == tuple(CAPS)
    env = Robotouille(**FEW)
    assert {task.data["dish"]: task.data["cap"] for task in env.tasks("train")} == CAPS
    assert {dish: cap_of("paper", dish, 1.0) for dish in PAPER} == dict(zip(PAPER, (10, 10, 15, 23), strict=True))
    assert cap_of("small", "burger", 1.5) == 0
    assert "cap" not in Robotouille(train=1, val=1, test=1).tasks("test")[0].data
    assert kitchens("burger", cap=2).fingerprint != kitchens("burger").fingerprint
    with pytest.raises(ConfigError, match="onion_burger"):
        kitchens("onion_burger")


@pytest.mark.parametrize("dish", PAPER)
def test_splits_are_disjoint_and_large_enough_in_start_states(dish: str):
    env = kitchens(dish, train=2000, val=200, test=500)
    facts = require_disjoint(env)
    assert {split: each["tasks"] for split, each in facts.items()} == {"train": 2000, "val": 200, "test": 500}
    assert len({task.family for task in env.tasks("train")}) > 300
    assert len({task.family for task in env.tasks("test")}) > 50
    test = {task.family for other in PAPER for task in kitchens(other).tasks("test")}
    assert not test & {task.family for task in env.tasks("train")}, "what tests one dish trains none"


@pytest.mark.parametrize("dish", PAPER)
def test_every_start_state_is_solvable_within_its_cap(dish: str):
    env = kitchens(dish, "text", plan_states=100_000)
    found = [optimum(env, task) for task in env.tasks("test")]
    assert min(found) > 0
    assert max(found) <= CAPS[dish]
    assert max(found) <= env.max_turns


def test_the_filter_is_what_keeps_plans_within_the_caps():
    """Layouts as drawn hold some that no plan finishes in time."""
    panels = generated(0, "small", ["burger"], {"train": 1, "val": 1, "test": 1}, 1.5)
    assert "cap" not in panels["train"][0].data
    env, late = kitchens("burger", "text"), 0
    for number in range(400):
        layout = draw(0, "paper", number, ["burger"])
        episode = env.start(Task(f"t/{number}", "test", family(layout), layout | {"cap": 15}))
        buried = sum(max(len(stack) - 1, 0) for _, stack in layout["stations"])
        if buried == 2 and not episode.stage.kitchen.done(episode.state.bits):
            late += episode.advice().remaining > 15
    assert late > 0


def test_plans_grow_with_the_dish_as_in_the_benchmark():
    """The benchmark's kitchens on its ten seeds need 8.7, 9.2, 13.1 and 23.2 steps on average."""
    means = {}
    for dish in PAPER:
        env = kitchens(dish, "text")
        means[dish] = statistics.fmean(optimum(env, task) for task in env.tasks("train")[:40])
    assert means == pytest.approx(dict(zip(PAPER, (8.7, 9.2, 13.1, 23.2), strict=True)), rel=0.1)


@pytest.mark.parametrize(("simple", "complex"), [("burger", "cheeseburger"), ("cheeseburger", "double_cheeseburger")])
def test_a_simple_dish_is_embedded_in_the_complex_one(simple: str, complex: str):
    """Its layers are some of the other's in order; from equal start states it never takes more steps, mostly fewer."""
    layers = iter(MENU[complex])
    assert all(layer in layers for layer in MENU[simple])
    env = kitchens(complex)
    saved = []
    for task in env.tasks("test")[:20]:
        easier = replace(task, id=f"{task.id}/easier", data={**task.data, "dish": simple})
        saved.append(optimum(env, task) - optimum(env, easier))
    assert min(saved) >= 0
    assert statistics.fmean(saved) >= 1.5  # a carry is two actions


def test_every_suffix_of_a_shortest_plan_is_shortest():
    """The sub-tasks of corollary 3.2: after any optimal action exactly one action fewer is to go."""
    env = kitchens("double_cheeseburger")
    for task in env.tasks("test")[:6]:
        episode = env.start(task)
        actions, left = env.optimal_actions(episode)
        while left > 1:
            episode.step(Message("assistant", sorted(actions)[-1]))
            actions, now = env.optimal_actions(episode)
            assert now == left - 1
            left = now
        assert episode.step(Message("assistant", sorted(actions)[0])).reward == 1.0


def played(env: Robotouille, task: Task, noise: float) -> Trajectory:
    """The expert's play as an evaluation records it."""
    episode: Episode = env.start(task)
    expert, done = env.expert(noise, len(task.id)), False
    turns: list[Turn] = []
    while not done and len(turns) < env.max_turns:
        action = expert(episode)
        step = episode.step(action)
        done = step.done
        turns.append(
            Turn(prompt_ids=(1,), action_ids=(2,), logprobs=(0.0,), action=action, observation=step.observation,
                 reward=step.reward, parsed=step.parsed, finish="stop", version=0, info=step.info)
        )  # fmt: skip
    total = sum(turn.reward for turn in turns)
    return Trajectory(task, 0, tuple(turns), Stop.done if done else Stop.max_turns, total, success=total == 1.0)


def test_asat_is_sr_asst_and_the_rest_the_cap_of_each_task():
    env = Robotouille(view="compact", **FEW)
    groups = [Group(task, (played(env, task, 0.4),)) for task in env.tasks("test")]
    whole = 0.0
    for dish, cap in CAPS.items():
        own = [group for group in groups if group.task.data["dish"] == dish]
        found = block(own, 99)  # 99: a cap of actions, which the tasks' own overrule
        assert 0.0 < found["success"] < 1.0, "both kinds of plays, or the identity says nothing"
        sr = found["success"]
        assert found["steps"] == pytest.approx(sr * found["steps_success"] + (1 - sr) * cap)
        assert found["steps_success"] <= cap
        whole += len(own) * found["steps"]
    assert block(groups, 99)["steps"] == pytest.approx(whole / len(groups))
