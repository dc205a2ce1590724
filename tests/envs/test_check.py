"""``agentrl env check`` finds every planted breach, and none in a good environment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentrl.envs.base import Step
from agentrl.envs.check import check_env
from agentrl.types import Message, Split, Task
from tests.toy import Colours, ColoursEpisode


def test_a_good_environment_has_no_breach() -> None:
    assert check_env(Colours()) == []


class LeakySplits(Colours):
    def tasks(self, split: Split) -> Sequence[Task]:
        return [replace(task, family="one") for task in super().tasks(split)]


class SharedState(Colours):
    counter = itertools.count()

    def start(self, task: Task) -> ColoursEpisode:
        episode = super().start(task)
        number = next(self.counter)
        episode.step = lambda _: Step((Message("user", str(number)),))  # type: ignore[method-assign]
        return episode


class ForgetfulSnapshot(Colours):
    def restore(self, state: object) -> ColoursEpisode:
        episode = super().restore(state)
        episode.turn = 1
        return episode


class Touchy(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        episode = super().start(task)
        plain = episode.step

        def step(action: Message) -> Step:
            if not action.content.strip():
                raise ValueError("say something")
            return plain(action)

        episode.step = step  # type: ignore[method-assign]
        return episode


class Burning(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        return ColoursEpisode(task, fails=True)


class NoTests(Colours):
    def tasks(self, split: Split) -> Sequence[Task]:
        return [] if split == "test" else super().tasks(split)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (LeakySplits(), "both the train and the val split"),
        (SharedState(), "different answers"),
        (ForgetfulSnapshot(), "restored from its snapshot"),
        (Touchy(), "an invalid action is data"),
        (Burning(), "the shop is on fire"),
        (NoTests(), "tasks('test') is empty"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Colours) else "",
)
def test_each_planted_breach_is_explained(env: Colours, words: str) -> None:
    try:
        breaches = check_env(env)
    except RuntimeError:  # the expert of a burning shop burns too
        pytest.fail("check_env raised what the environment raised")
    assert any(words in breach for breach in breaches), breaches
