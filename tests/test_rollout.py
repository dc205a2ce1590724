"""Playing: every draw its own, failures as data, and no batch of episodes that could not even begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentrl.chat import History, Window
from agentrl.engine.torch_engine import Torch
from agentrl.errors import ConfigError, EnvError, ShapeError
from agentrl.rollout.base import Stage
from agentrl.rollout.demonstrations import Demonstrations
from agentrl.rollout.independent import Independent
from agentrl.samples import rows
from agentrl.types import Group, Stop
from tests.learning import method
from tests.test_model import pretrained
from tests.toy import Colours, ColoursEpisode, save_toy_model

LIMITS = {"max_turns": 2, "action_tokens": 2, "context_tokens": 32, "max_failed": 0.1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def stage(model: Path, env: Colours | None = None, context: Any = None, max_batch: int = 64) -> Stage:
    source = pretrained(model)
    return Stage(
        env or Colours(), Torch("float32", max_batch).start(source, "cpu"), source.chat(), context or Window(0)
    )


def independent(**changes: Any) -> Independent:
    return Independent(**{"group_size": 4, "temperature": 1.0, "pool": 0, **LIMITS, **changes})


def sampled(group: Group) -> list[tuple[int, ...]]:
    return [turn.action_ids for play in group.trajectories for turn in play.turns]


def test_a_task_that_comes_twice_in_a_batch_is_sampled_anew(model: Path) -> None:
    one, two = Colours().tasks("train")[:2]
    found = independent().play(stage(model), [one, two, one], seed=1, step=0)
    assert sampled(found[0]) != sampled(found[2])
    assert [play.member for play in found[2].trajectories] == [0, 1, 2, 3]
    alone = independent().play(stage(model), [one], seed=1, step=0)
    assert sampled(alone[0]) == sampled(found[0])


@pytest.mark.parametrize("context", [Window(0), Window(1), History()])
def test_plays_do_not_depend_on_the_batch(model: Path, context: Any) -> None:
    tasks = Colours().tasks("train")[:6]
    together = independent().play(stage(model, context=context), tasks, seed=1, step=3)
    backwards = independent().play(stage(model, context=context), tasks[::-1], seed=1, step=3)[::-1]
    alone = [independent().play(stage(model, context=context, max_batch=1), [t], seed=1, step=3)[0] for t in tasks]
    assert [sampled(g) for g in together] == [sampled(g) for g in backwards] == [sampled(g) for g in alone]


class Fragile(Colours):
    """The episode of one task breaks at its second step; ``closed`` counts what was given back."""

    closed = 0

    def start(self, task: Any) -> ColoursEpisode:
        episode, step = super().start(task), ColoursEpisode.step
        outer = type(self)

        def act(action: Any) -> Any:
            if task.id == "train-0" and episode.turn == 1:
                raise RuntimeError("the shop is on fire")
            return step(episode, action)

        def close() -> None:
            outer.closed += 1

        episode.step, episode.close = act, close  # type: ignore[method-assign]
        return episode


def test_a_failed_episode_is_data_without_credit_and_is_closed(model: Path) -> None:
    env = Fragile()
    found = independent(max_failed=0.5).play(stage(model, env), env.tasks("train")[:2], seed=0, step=0)
    assert [len(group.valid) for group in found] == [0, 4]
    assert {play.stop for play in found[0].trajectories} == {Stop.env_error}
    assert found[0].trajectories[0].error == "RuntimeError: the shop is on fire"
    assert Fragile.closed == 8
    for name in ("grpo", "dapo", "vspo", "sft"):
        assert rows(found[:1], method(name).advantages) == []
    with pytest.raises(EnvError, match="4 of 8 episodes failed"):
        independent().play(stage(model, env), env.tasks("train")[:2], seed=0, step=0)


def test_a_context_in_which_nothing_can_begin_stops_the_run(model: Path) -> None:
    demonstrations = Demonstrations(
        noise=0.0, slips=0.0, only_success=True, pool=0, temperature=1.0, **LIMITS | {"context_tokens": 3}
    )
    for rollout in (independent(context_tokens=3), demonstrations):
        with pytest.raises(ConfigError, match=r"model.context_tokens=3: no episode could begin.* has 2 tokens"):
            rollout.play(stage(model), Colours().tasks("train")[:2], seed=0, step=0)


def test_a_context_that_fills_up_ends_the_episode(model: Path) -> None:
    (group,) = independent(context_tokens=5).play(
        stage(model, context=History()), Colours().tasks("train")[:1], seed=0, step=0
    )
    assert {play.stop for play in group.trajectories} == {Stop.max_tokens}
    assert {len(play.turns) for play in group.trajectories} == {1}
    assert len(group.valid) == 4


def test_a_group_of_two_tasks_is_refused(model: Path) -> None:
    one, two = independent().play(stage(model), Colours().tasks("train")[:2], seed=0, step=0)
    mixed = Group(one.task, one.trajectories[:2] + two.trajectories[:2])
    with pytest.raises(ShapeError, match="group of task train-0: it holds plays of task train-1"):
        rows([mixed], method("grpo").advantages)
