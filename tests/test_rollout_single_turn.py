"""Single actions from expert states: the right prompts, labels and seeds, and the environment's failures as data."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from agentrl.chat import History, Window
from agentrl.engine.scripted import ScriptedEngine
from agentrl.envs.base import Episode, Expert
from agentrl.envs.webshop import WebShop
from agentrl.errors import EnvError
from agentrl.model import Pretrained
from agentrl.rewards.expert_match import said
from agentrl.rollout.base import Stage
from agentrl.rollout.demonstrations import Demonstrations
from agentrl.rollout.single_turn import SingleTurn
from agentrl.seeds import derive
from agentrl.types import Group, Message, Stop
from tests.learning import make
from tests.test_model import pretrained
from tests.test_rollout import stage
from tests.toy import ANSWER, Colours, ColoursEpisode, save_toy_model

LIMITS = {"max_turns": 2, "action_tokens": 2, "context_tokens": 32, "max_failed": 0.1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def rollout(**changes: Any) -> SingleTurn:
    settings = {"group_size": 4, "temperature": 1.0, "noise": 0.0, "only_success": True, "pool": 0, "seed": 0}
    return SingleTurn(**{**settings, **LIMITS, **changes})


def sampled(groups: list[Group]) -> list[list[tuple[int, ...]]]:
    return [[play.turns[0].action_ids for play in group.trajectories] for group in groups]


@pytest.mark.parametrize("context", [Window(0), Window(1), History()])
def test_states_show_what_the_expert_saw(model: Path, context: Any) -> None:
    one, chat = stage(model, context=context), stage(model).chat
    task = Colours().tasks("train")[0]  # red; the answer is green
    first, second = rollout().states(one, task)
    assert (first.task.id, second.task.id) == ("train-0/0", "train-0/1")
    assert (first.expert, second.expert) == (ANSWER["red"],) * 2
    goal = (Message("user", "red"),)
    assert first.prompt_ids == chat.render(goal)
    seen = {0: (*goal, Message("user", "again"))}.get(getattr(context, "turns", None)) or (
        *goal,
        Message("assistant", "green"),
        Message("user", "again"),
    )
    assert second.prompt_ids == chat.render(seen)
    assert second.shown == (*goal, Message("user", "again"))


def test_groups_are_single_actions_with_labels(model: Path) -> None:
    tasks = Colours().tasks("train")[:3]
    groups = rollout(group_size=64, action_tokens=1).play(stage(model), tasks, seed=1, step=0)
    assert len(groups) == 3
    assert len({group.task.id for group in groups}) == 3
    for group in groups:
        base = group.task.id.rpartition("/")[0]
        answer = ANSWER[group.task.data["colour"]]
        assert base in {task.id for task in tasks}
        for member, play in enumerate(group.trajectories):
            assert (play.member, play.task, len(play.turns)) == (member, group.task, 1)
            turn = play.turns[0]
            assert len(turn.logprobs) == len(turn.action_ids)
            assert turn.info["state"] == {
                "expert": [answer],
                "optimal": None,
                "valid": turn.action.content in ANSWER,
            }
            assert turn.reward == 0.5 * (turn.action.content.split()[:1] == [answer])
            assert play.stop is (Stop.done if group.task.id.endswith("/1") else Stop.max_turns)
    scored = make("reward", "expert_match").score(groups, 0, 1)
    for group in scored:
        answer = ANSWER[group.task.data["colour"]]
        assert group.rewards == tuple(float(p.turns[0].action.content == answer) for p in group.trajectories)
    assert {reward for group in scored for reward in group.rewards} == {0.0, 1.0}
    json.dumps([asdict(group) for group in groups])  # what a checkpoint holds


def test_draws_follow_from_state_and_step_alone(model: Path) -> None:
    one = stage(model)
    tasks = Colours().tasks("train")[:4]
    groups = rollout().play(one, tasks, seed=1, step=3)
    states = [group.task for group in groups]
    assert sampled(rollout().play(one, tasks, seed=1, step=3)) == sampled(groups)
    again = rollout().play(one, states[::-1], seed=1, step=3)[::-1]  # states are tasks, in any order
    assert [group.task for group in again] == states
    assert sampled(again) == sampled(groups)
    twice = rollout().play(one, [states[0], states[0]], seed=1, step=3)
    assert sampled(twice)[0] == sampled(groups)[0] != sampled(twice)[1]
    assert sampled(rollout().play(one, states, seed=1, step=4)) != sampled(groups)


def test_states_of_a_batch_are_drawn_without_replacement_from_all_of_its_tasks(model: Path) -> None:
    chat = stage(model).chat
    one = Stage(Colours(), ScriptedEngine(chat, lambda _request: "red"), chat, Window(0))
    player, tasks = rollout(group_size=1), Colours().tasks("train")[:3]
    seen: dict[str, int] = {}
    for step in range(200):
        ids = [group.task.id for group in player.play(one, tasks, seed=0, step=step)]
        assert len(set(ids)) == 3
        for name in ids:
            seen[name] = seen.get(name, 0) + 1
    assert sorted(seen) == [f"train-{i}/{t}" for i in range(3) for t in range(2)]
    assert min(seen.values()) > 70  # 100 expected of each
    assert len(player.play(one, [tasks[0]] * 5, seed=0, step=0)) == 2  # it has no more


@dataclass(frozen=True)
class Sloppy(Colours):
    """An expert that is wrong as often as its noise says, and a planner."""

    def expert(self, noise: float, seed: int) -> Expert:
        import random

        rng = random.Random(seed)

        def act(episode: Episode) -> Message:
            colour = episode.task.data["colour"]
            return Message("assistant", colour if rng.random() < noise else ANSWER[colour])

        return act

    def optimal_actions(self, episode: Episode) -> tuple[frozenset[str], int]:
        assert isinstance(episode, ColoursEpisode)
        if episode.task.id == "train-7" and episode.turn:
            raise EnvError("no proof")
        return frozenset({ANSWER[episode.task.data["colour"]], "Gold"}), 2 - episode.turn


def test_noise_spoils_labels_and_a_planner_tells_the_optimal_ones(model: Path) -> None:
    env = Sloppy()
    one, tasks = stage(model, env), env.tasks("train")
    states = [s for task in tasks for s in rollout(noise=0.5, only_success=False).states(one, task)]
    wrong = [s for s in states if s.expert != ANSWER[s.task.data["colour"]]]
    assert 0 < len(wrong) < len(states) == 15
    assert states[-1].task.id == "train-7/0"
    assert all(set(s.optimal or ()) == {ANSWER[s.task.data["colour"]], "gold"} for s in states)
    kept = [s for task in tasks for s in rollout(noise=0.5).states(one, task)]
    assert 0 < len(kept) < 15
    assert all(s.expert == ANSWER[s.task.data["colour"]] for s in kept)
    other = [s for task in tasks for s in rollout(noise=0.5, only_success=False, seed=1).states(one, task)]
    assert [s.expert for s in other] != [s.expert for s in states]


def test_failures_are_data_up_to_a_share(model: Path) -> None:
    broken = stage(model, Colours(fails=True))
    with pytest.raises(EnvError, match="2 of 2 episodes failed"):
        rollout().play(broken, Colours().tasks("train")[:2], seed=0, step=0)
    assert rollout(max_failed=1.0).play(broken, Colours().tasks("train")[:2], seed=0, step=0) == []

    class Brittle(Colours):
        def restore(self, state: Any) -> ColoursEpisode:
            if self.__dict__.get("tired"):
                raise RuntimeError("no more kitchens")
            return super().restore(state)

    env = Brittle()
    one, player = stage(model, env), rollout(max_failed=1.0)
    player.play(one, env.tasks("train")[:2], seed=0, step=0)
    env.__dict__["tired"] = True
    (group, _) = player.play(one, env.tasks("train")[:2], seed=0, step=0)
    assert [play.stop for play in group.trajectories] == [Stop.env_error] * 4
    assert group.trajectories[0].error == "RuntimeError: no more kitchens"
    assert make("reward", "expert_match").score([group], 0, 1)[0].valid == ()


def test_the_data_set_is_made_once_and_does_not_travel(model: Path) -> None:
    calls: list[str] = []

    class Counting(Colours):
        def start(self, task: Any) -> ColoursEpisode:
            calls.append(task.id)
            return super().start(task)

    one, player = stage(model, Counting()), rollout()
    for step in range(3):
        player.play(one, Colours().tasks("train")[:2], seed=0, step=step)
    assert calls == ["train-0", "train-1"]
    copy = pickle.loads(pickle.dumps(player))
    assert copy == player
    assert "_kept" not in copy.__dict__


def test_the_shop_s_expert_matches_itself() -> None:
    """A policy that replies as the careful shopper did earns 1 in every state."""
    env = WebShop(products=400, view="compact", val=5, test=5)
    source: Pretrained = pretrained("bundled:tiny")
    chat = source.chat()
    player = SingleTurn(
        group_size=2, temperature=1.0, noise=0.0, only_success=True, pool=0, seed=0, max_turns=10, action_tokens=16,
        context_tokens=1024, max_failed=0.1,
    )  # fmt: skip
    quiet = Stage(env, ScriptedEngine(chat, lambda _request: ""), chat, Window(0))
    tasks = env.tasks("train")[:6]
    states = {s.prompt_ids: s for task in tasks for s in player.states(quiet, task)}
    talking = Stage(env, ScriptedEngine(chat, lambda request: states[request.prompt_ids].expert), chat, Window(0))
    groups = make("reward", "expert_match").score(player.play(talking, tasks, seed=0, step=0), 0, 1)
    assert len(groups) == 6
    for group in groups:
        assert group.rewards == (1.0, 1.0)
        for play in group.trajectories:
            assert said(play.turns[0].action) == play.turns[0].info["state"]["expert"][0]
            assert play.reward_parts["valid"] == 1.0
    silent = make("reward", "expert_match").score(player.play(quiet, tasks, seed=0, step=0), 0, 1)
    assert {play.reward for group in silent for play in group.trajectories} == {0.0}


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_demonstrations_are_those_of_supervised_learning(model: Path, noise: float) -> None:
    """Equal seed, noise and tasks: the labels are the actions that rollout=demonstrations, and a warm start, shows."""
    one, tasks, seed = stage(model), Colours().tasks("train")[:12], 7
    settings = {"slips": 0.0, "only_success": False, "temperature": 1.0, "pool": 0}
    shown = Demonstrations(noise=noise, **settings, **LIMITS).play(one, tasks, seed=derive(seed, "play", 0), step=5)
    player = rollout(noise=noise, seed=seed, only_success=False)
    for group, task in zip(shown, tasks, strict=True):
        states = {state.turn: state.expert_ids for state in player.states(one, task)}
        assert states == {i: t.action_ids for i, t in enumerate(group.trajectories[0].turns) if t.parsed}
