"""Environments of Gymnasium play as they do there: equal observations, rewards and ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from agentrl.config import build, check, compose
from agentrl.envs.check import check_env
from agentrl.errors import ConfigError, EnvError
from agentrl.types import Message

LAKE = ["env.id=FrozenLake-v1", "+env.kwargs.is_slippery=true", "env.actions=[left,down,right,up]"]

WORDS = '''
import gymnasium
from gymnasium import spaces

class Words(gymnasium.Env):
    """Say the word that was shown."""

    def __init__(self, length=3):
        self.action_space = spaces.Text(min_length=1, max_length=12, charset="abc")
        self.observation_space = spaces.Text(100)
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.word = "".join(self.np_random.choice(list("abc"), self.length))
        return f"say {self.word}", {}

    def step(self, action):
        return "end", float(action == self.word), True, False, {}

gymnasium.register("Words-v0", entry_point=Words)
'''


def env(*words: str) -> Any:
    return build(compose("env_tool", ["env=gym", *words]).env)


def test_a_discrete_world_equals_the_original_step_by_step() -> None:
    ours = env(*LAKE)
    numbers = {"left": 0, "down": 1, "right": 2, "up": 3}
    for task in ours.tasks("test")[:5]:
        episode, theirs = ours.start(task), gymnasium.make("FrozenLake-v1", is_slippery=True, render_mode="ansi")
        theirs.reset(seed=task.data["seed"])
        for said in ("right", "down", "right", "down", "down", "right") * 4:
            step = episode.step(Message("assistant", said))
            _, reward, terminated, truncated, _ = theirs.step(numbers[said])
            plain = theirs.render().replace("\x1b[41m", "[").replace("\x1b[0m", "]").strip()
            assert (step.observation[0].content, step.reward, step.done) == (plain, reward, terminated or truncated)
            if step.done:
                break
        else:
            pytest.fail("no episode of 24 steps ends nowhere")


def test_it_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wordworld.py").write_text(WORDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wordworld", raising=False)
    assert check_env(env(*LAKE), tasks=3) == []
    assert check_env(env("env.id=wordworld:Words-v0", "+env.kwargs.length=2"), tasks=3) == []


def test_masked_actions_are_not_offered() -> None:
    """Taxi tells by a mask which of its six actions change anything."""
    episode = env("env.id=Taxi-v4").start(env("env.id=Taxi-v4").tasks("train")[0])
    assert set(episode.actions()) < {"0", "1", "2", "3", "4", "5"}


def test_what_is_no_action_changes_nothing_and_is_answered() -> None:
    world = env(*LAKE)
    episode = world.start(world.tasks("train")[0])
    before = episode.observation[0].content
    step = episode.step(Message("assistant", "jump"))
    assert (step.parsed, step.reward, step.done) == (False, 0.0, False)
    assert step.observation[0].content == before + "\n(That was no action. Valid are: left, down, right, up.)"
    assert episode.observation[0].content == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["env.id=Nowhere-v0"], "env.id=Nowhere-v0: Gymnasium cannot make it"),
        (["env.id=no.such.module:X-v0"], "give a registered id, with its module before it"),
        (["env.id=FrozenLake-v1", "+env.kwargs.colour=red"], "env.id=FrozenLake-v1: Gymnasium cannot make it"),
        (["env.id=FrozenLake-v1", "env.actions=[go]"], "env.actions: got 1 names, expected 4"),
        (["env.id=MountainCarContinuous-v0"], "expected a Text or a Discrete space"),
    ],
)
def test_mistakes(words: list[str], says: str) -> None:
    world = env(*words)
    with pytest.raises(ConfigError) as error:
        world.start(world.tasks("train")[0])
    assert says in str(error.value)


def test_what_cannot_be_shown_as_text_is_refused() -> None:
    world = env("env.id=CartPole-v1")
    with pytest.raises(EnvError, match="there is no rendering as text"):
        world.start(world.tasks("train")[0])


def test_an_id_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"env\.id: missing"):
        check(compose("env_tool", ["env=gym"]))
