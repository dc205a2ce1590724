"""Exploration: estimates against exact values, the stopping rule, forks, accounting, failures as data."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.chat import History, Window
from agentrl.engine.torch_engine import Torch
from agentrl.errors import ConfigError, EnvError
from agentrl.measure import rollout_metrics
from agentrl.records import group_from_json, group_to_json
from agentrl.rollout.against_expert import AgainstExpert
from agentrl.rollout.along_expert import AlongExpert
from agentrl.rollout.base import Stage
from agentrl.rollout.fixed_size import FixedSize
from agentrl.rollout.rising import FirstRises, Rising, Tie
from agentrl.types import Cost, Group, Stop, Task
from tests.test_model import pretrained
from tests.toy import COLOURS, save_toy_model
from tests.tree import Tree, tree_stage

PLAIN: dict[str, Any] = {
    "temperature": 1.0, "max_turns": 4, "action_tokens": 2, "context_tokens": 60, "max_failed": 0.0, "pool": 0
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def rising(**changes: Any) -> Rising:
    own: dict[str, Any] = {"rollouts": 3, "candidates": 5, "tie": Tie.geq, "first_rises": FirstRises.skip}
    return Rising(**{**own, **PLAIN, **changes})


def fixed(**changes: Any) -> FixedSize:
    return FixedSize(**{"rollouts": 3, "candidates": 3, **PLAIN, **changes})


def along(**changes: Any) -> AlongExpert:
    return AlongExpert(**{"rollouts": 3, "noise": 0.0, **PLAIN, **changes})


def against(**changes: Any) -> AgainstExpert:
    return AgainstExpert(**{"plays": 1, "noise": 0.0, **PLAIN, **changes})


EXPLORING = {
    "rising": rising,
    "draw_one": lambda: rising(first_rises=FirstRises.draw_one),
    "fixed": fixed,
    "along": along,
}


def by_task(groups: list[Group]) -> list[list[Group]]:
    """The groups of each task: its plays, then its explored steps."""
    found: list[list[Group]] = []
    for group in groups:
        if group.explored is None:
            found.append([])
        found[-1].append(group)
    return found


def words(group: Group) -> list[str]:
    return [play.turns[0].action.content for play in group.trajectories]


@pytest.mark.parametrize("rollout", [rising(rollouts=300), fixed(rollouts=300)], ids=["rising", "fixed"])
def test_process_rewards_are_the_values_of_the_tree(rollout: Any, model: Path) -> None:
    env = Tree(leaf=0.0)
    (task,) = env.tasks("train")[2:3]
    groups = rollout.play(tree_stage(model, env), [task], seed=0, step=0)
    path: tuple[str, ...] = ()
    for group in groups[1:]:
        step = group.explored
        for word, value in zip(words(group), step.values, strict=True):
            assert value == pytest.approx(env.value(task, (*path, word)), abs=0.07)
        assert step.before == pytest.approx(env.value(task, path), abs=0.2 if rollout.candidates == 3 else 0.07)
        path = (*path, words(group)[step.kept])
    assert env.ends(task, path)
    assert len(path) == 3
    if rollout.candidates == 5:
        assert fmean(groups[0].rewards or [0]) == 0  # not scored yet
        assert fmean(p.env_return for p in groups[0].valid) == pytest.approx(env.value(task, ()), abs=0.07)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    cap=st.integers(2, 6),
    tie=st.sampled_from(list(Tie)),
    first=st.sampled_from(list(FirstRises)),
)
def test_the_stopping_rule(model: Path, seed: int, cap: int, tie: Tie, first: FirstRises) -> None:
    env = Tree(seed=seed)
    rollout = rising(candidates=cap, tie=tie, first_rises=first, rollouts=2)
    groups = rollout.play(tree_stage(model, env), env.tasks("train")[:4], seed=seed, step=0)
    for plays, *steps in by_task(groups):
        before = fmean(play.env_return for play in plays.valid)
        for turn, group in enumerate(steps):
            step = group.explored
            assert step is not None
            assert step.turn == turn
            assert step.before == before
            assert step.drawn == len(step.values) <= cap
            rises = [rose(tie, value, before) for value in step.values]
            extra = first == FirstRises.draw_one and rises[0] and step.rose
            if step.rose:
                assert rises.index(True) == step.kept
                assert step.drawn == step.kept + 1 + (extra and step.kept == 0)
            else:
                assert not any(rises)
                assert step.drawn == cap
                assert step.values[step.kept] == max(step.values)
            before = step.values[step.kept]
        assert steps[-1].trajectories[steps[-1].explored.kept].stop is Stop.done


def rose(tie: Tie, value: float, before: float) -> bool:
    strictly = value > before + 1e-9
    if tie == Tie.strict:
        return strictly
    if tie == Tie.geq:
        return strictly or abs(value - before) <= 1e-9
    return strictly or (before == 1.0 and value == 1.0)


@pytest.mark.parametrize("name", EXPLORING)
def test_the_accounts_are_exact(name: str, model: Path) -> None:
    env = Tree(depth=3)
    stage = tree_stage(model, env)
    rollout = EXPLORING[name]()
    groups = rollout.play(stage, env.tasks("train")[:7], seed=3, step=1)
    engine: Counter[str] = stage.engine.count  # type: ignore[attr-defined]
    tasks = by_task(groups)
    assert sum(group.spent.tokens for group in groups) == engine["tokens"]
    assert max(group.spent.calls for group in groups) == engine["calls"]
    assert env.count["opened"] == env.count["closed"]
    for plays, *steps in tasks:
        assert all(group.cost == Cost() for group in steps)
        members = [pair for group in steps for pair in zip(group.explored.rollouts, group.trajectories, strict=True)]
        expected = sum(rolled for rolled, _ in members)
        if name == "along":  # and the completions of what the policy's own action did not end, or ended as the expert's
            expected += sum((rolled, len(own.turns)) != (1, 1) for rolled, own in members[1::2])
        else:  # and r_0, and actions that ended the episode as an earlier one did
            expected += 0 if name == "fixed" else 3
            expected += sum(rolled == 0 and play.stop is Stop.done for rolled, play in members)
        assert plays.spent.episodes == expected
        assert plays.spent.episodes <= rollout.most_episodes
        assert plays.spent.failed == 0
    metrics = rollout_metrics(groups, [])
    assert metrics["rollout/episodes"] == sum(tasks[i][0].cost.episodes for i in range(7))
    assert metrics["rollout/tokens"] == engine["tokens"]
    assert metrics["explore/calls"] == engine["calls"]


@pytest.mark.parametrize("name", EXPLORING)
def test_a_step_depends_on_nothing_else_in_the_batch(name: str, model: Path) -> None:
    env = Tree()
    rollout, tasks = EXPLORING[name](), env.tasks("train")[:5]
    together = by_task(rollout.play(tree_stage(model, env), tasks, seed=1, step=3))
    backwards = by_task(rollout.play(tree_stage(model, env), tasks[::-1], seed=1, step=3))[::-1]
    alone = [rollout.play(tree_stage(model, env), [task], seed=1, step=3) for task in tasks]
    assert together == backwards == alone
    later = by_task(rollout.play(tree_stage(model, env), tasks, seed=1, step=4))
    assert together != later
    one, two = by_task(rollout.play(tree_stage(model, env), [tasks[0], tasks[0]], seed=1, step=3))
    assert one == together[0]
    assert one != two


@pytest.mark.parametrize("context", [Window(0), Window(1), History()], ids=str)
@pytest.mark.parametrize("name", EXPLORING)
def test_forks_are_asked_as_a_play_that_came_there_by_itself(name: str, context: Any, model: Path) -> None:
    """The prompt of a candidate is the one that follows from its prefix, whoever was asked for it."""
    env = Tree()
    stage = tree_stage(model, env, context)
    for plays, *steps in by_task(EXPLORING[name]().play(stage, env.tasks("train")[:4], seed=0, step=0)):
        episode = env.start(plays.task)
        turns: list[Any] = []
        first = episode.observation
        for group in steps:
            prompt = context.prompt(stage.chat, episode.goal, first, turns)
            assert {play.turns[0].prompt_ids for play in group.trajectories} == {prompt}
            assert {play.first_observation for play in group.trajectories} == {episode.goal + episode.observation}
            kept = group.trajectories[group.explored.kept].turns[0]
            episode.step(kept.action)
            assert episode.observation == kept.observation
            turns.append(kept)


def test_real_samples_do_not_depend_on_the_batch(model: Path) -> None:
    """The same with a model that samples, one row at a time and many."""
    env, source = Tree(), pretrained(model)
    tasks = env.tasks("train")[:3]
    found = []
    for rows in (1, 64):
        stage = Stage(env, Torch("float32", rows).start(source, "cpu"), source.chat(), History())
        found.append(rising(max_turns=3).play(stage, tasks, seed=1, step=0))
    one, many = ([words(group) for group in groups] for groups in found)
    assert one == many
    assert all(turn.logprobs for group in found[1] for play in group.trajectories for turn in play.turns)


def test_an_equal_candidate_takes_over_the_estimate(model: Path) -> None:
    env = Tree(leaf=0.0, depth=3)
    groups = fixed(candidates=6).play(tree_stage(model, env), env.tasks("train")[:5], seed=0, step=0)
    seen = 0
    for group in groups:
        if group.explored is None or group.trajectories[0].stop is Stop.done:
            continue
        first: dict[str, float] = {}
        for word, value, count in zip(words(group), group.explored.values, group.explored.rollouts, strict=True):
            assert count == (0 if word in first else 3)
            assert value == first.setdefault(word, value)
        seen += 6 - len(first)
    assert seen > 5
    assert rollout_metrics(groups, [])["explore/repeated"] > 0.2


def test_an_action_that_ends_the_episode_is_its_own_outcome(model: Path) -> None:
    env = Tree(depth=1, rewards=(0.25,))
    groups = rising().play(tree_stage(model, env), env.tasks("train")[:1], seed=0, step=0)
    plays, step = groups
    assert step.explored.rollouts == (1,)
    assert step.explored.values == (0.25,) == (step.explored.before,)
    assert plays.spent == Cost(episodes=3 + 1, failed=0, tokens=8, calls=2)


def test_the_turn_limit_counts_the_prefix(model: Path) -> None:
    env = Tree(depth=9, leaf=0.0)
    groups = rising(max_turns=2).play(tree_stage(model, env), env.tasks("train")[:2], seed=0, step=0)
    assert [len(steps) for steps in by_task(groups)] == [3, 3]
    assert {p.stop for p in groups[2].trajectories} == {Stop.max_turns}
    assert {p.stop for p in groups[1].trajectories} == {Stop.forked}


def test_failed_rollouts_are_left_out_of_the_mean_and_counted(model: Path) -> None:
    sound = Tree(leaf=0.0, depth=2)
    task = sound.tasks("train")[0]
    broken = replace(sound, breaks=frozenset((a, "red") for a in COLOURS), count=Counter())
    groups = fixed(rollouts=40, candidates=4, max_failed=0.5).play(tree_stage(model, broken), [task], seed=0, step=0)
    first = groups[1]
    for word, value in zip(words(first), first.explored.values, strict=True):
        rest = fmean(sound.value(task, (word, other)) for other in COLOURS if other != "red")
        assert value == pytest.approx(rest, abs=0.2)
    assert groups[0].spent.failed > 0
    assert rollout_metrics(groups, [])["rollout/failed"] == groups[0].spent.failed
    assert "red" not in words(groups[2])  # an action that fails is no candidate, and is counted as drawn
    assert groups[2].explored.drawn == 4 >= len(words(groups[2]))
    assert broken.count["opened"] == broken.count["closed"]
    with pytest.raises(EnvError, match="the branch broke"):
        fixed(rollouts=40, candidates=4).play(tree_stage(model, broken), [task], seed=0, step=0)


def test_a_candidate_whose_every_rollout_fails_is_left_out(model: Path) -> None:
    sound = Tree(leaf=0.0, depth=2)
    broken = replace(sound, breaks=frozenset(("red", a) for a in COLOURS), count=Counter())
    tasks = sound.tasks("train")[:6]
    for rollout in (fixed(candidates=4, max_failed=1.0), rising(max_failed=1.0), along(max_failed=1.0)):
        stage = tree_stage(model, broken)
        groups = rollout.play(stage, tasks, seed=0, step=0)
        steps = [g for g in groups if g.explored]
        assert steps
        assert not any(g.explored.turn == 0 and "red" in words(g) for g in steps)
        assert sum(g.spent.failed for g in groups) >= 3
        assert broken.count["opened"] == broken.count["closed"]
        assert sum(g.spent.tokens for g in groups) == stage.engine.count["tokens"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*EXPLORING, "against"])
def test_a_task_that_always_fails_is_data(name: str, model: Path) -> None:
    env = Tree(fallen="train-1")
    rollout = replace(EXPLORING[name]() if name != "against" else against(), max_failed=0.6)
    groups = rollout.play(tree_stage(model, env), env.tasks("train")[:3], seed=0, step=0)
    (fallen,) = [group for group in groups if group.task.id == "train-1"]
    assert {play.stop for play in fallen.trajectories} == {Stop.env_error}
    assert fallen.spent.failed == fallen.spent.episodes > 0
    assert env.count["opened"] == env.count["closed"]


@pytest.mark.parametrize("name", [*EXPLORING, "against"])
def test_a_context_in_which_nothing_can_begin_stops_the_run(name: str, model: Path) -> None:
    env = Tree()
    rollout = replace(EXPLORING[name]() if name != "against" else against(), context_tokens=4)
    with pytest.raises(ConfigError, match=r"model.context_tokens=4: no episode could begin"):
        rollout.play(tree_stage(model, env), env.tasks("train")[:2], seed=0, step=0)


def test_a_context_that_fills_up_ends_the_exploration(model: Path) -> None:
    env = Tree(depth=6, leaf=0.0)
    groups = rising(context_tokens=11).play(tree_stage(model, env, History()), env.tasks("train")[:2], seed=0, step=0)
    for plays, *steps in by_task(groups):
        assert {play.stop for play in plays.trajectories} == {Stop.max_tokens}
        assert 1 <= len(steps) == len(plays.trajectories[0].turns)
        assert set(steps[-1].explored.values) == {0.0}


class Lottery(Tree):
    """One word in four pays."""

    def reward(self, task: Task, path: tuple[str, ...]) -> float:
        return float(path == ("red",))


def test_the_mean_number_of_candidates(model: Path) -> None:
    """(1 - (1-p)^n) / p for an acceptance chance of p = 1/4 and a cap of n = 5."""
    tasks = [Task(f"t{i}", "train", f"t{i}", {"colour": "red"}) for i in range(400)]
    groups = rising(tie=Tie.strict, rollouts=1).play(tree_stage(model, Lottery(depth=1)), tasks, seed=0, step=0)
    drawn = [g.explored.drawn for g in groups if g.explored and g.explored.before == 0.0]
    assert fmean(drawn) == pytest.approx((1 - 0.75**5) / 0.25, abs=0.2)
    capped = [g.explored.rose for g in groups if g.explored and g.explored.before == 0.0]
    assert 1 - fmean(capped) == pytest.approx(0.75**5, abs=0.05)


def test_the_expert_goes_ahead_of_along_expert(model: Path) -> None:
    env = Tree()
    groups = along(rollouts=200).play(tree_stage(model, env), env.tasks("train")[:4], seed=0, step=0)
    for plays, *steps in by_task(groups):
        assert len(plays.trajectories) == 1
        expert, own = steps[0].trajectories
        assert own == replace(plays.trajectories[0], member=1)
        assert len(expert.turns) == len(steps)
        path: tuple[str, ...] = ()
        for turn, group in enumerate(steps):
            rest, other = group.trajectories
            assert rest.turns == expert.turns[turn:]
            assert rest.env_return == expert.env_return
            assert not rest.turns[0].logprobs
            assert other.turns[0].logprobs
            for play, value in zip((rest, other), group.explored.values, strict=True):
                exact = env.value(group.task, (*path, play.turns[0].action.content))
                assert value == pytest.approx(exact, abs=0.1)
            path = (*path, rest.turns[0].action.content)
    metrics = rollout_metrics(groups, [])
    assert metrics["rollout/return"] == fmean(tasks[0].trajectories[0].env_return for tasks in by_task(groups))


def test_against_expert_puts_the_expert_first(model: Path) -> None:
    env = Tree()
    groups = against(plays=2).play(tree_stage(model, env), env.tasks("train")[:5], seed=0, step=0)
    for group in groups:
        expert, *own = group.trajectories
        assert [play.member for play in group.trajectories] == [0, 1, 2]
        assert not any(turn.logprobs for turn in expert.turns)
        assert all(turn.logprobs for play in own for turn in play.turns)
        assert group.spent.episodes == 3
    metrics = rollout_metrics(groups, [])
    assert metrics["rollout/return"] == fmean(p.env_return for g in groups for p in g.trajectories[1:])


def test_explored_groups_survive_json(model: Path) -> None:
    env = Tree()
    for group in rising().play(tree_stage(model, env), env.tasks("train")[:2], seed=0, step=0):
        assert group_from_json(json.loads(json.dumps(group_to_json(group)))) == group


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (rising, {"candidates": 1}, "rollout.candidates: got 1, expected at least 2"),
        (rising, {"rollouts": 0}, "rollout.rollouts: got 0, expected at least 1"),
        (fixed, {"candidates": 1}, "rollout.candidates: got 1"),
        (along, {"rollouts": 0}, "rollout.rollouts: got 0"),
        (against, {"plays": 0}, "rollout.plays: got 0"),
    ],
)
def test_bad_settings_are_refused(make: Any, changes: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**changes)
