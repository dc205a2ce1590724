"""``agentrl env check`` finds every planted breach, and none in a good environment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from agentrl.envs.base import Expert, Step
from agentrl.envs.check import check_env
from agentrl.types import Message, Messages, Split, Task
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


def changed(episode: ColoursEpisode, info: Mapping[str, object] | None = None, **changes: object) -> ColoursEpisode:
    """The episode, every step of which is answered with these changes."""
    plain = episode.step
    fields = changes if info is None else {**changes, "info": info}
    episode.step = lambda action: replace(plain(action), **fields)  # type: ignore[method-assign, arg-type]
    return episode


class Doubtful(Colours):
    """Offers actions that it does not understand."""

    def start(self, task: Task) -> ColoursEpisode:
        return changed(super().start(task), parsed=False)

    def restore(self, state: object) -> ColoursEpisode:
        return changed(super().restore(state), parsed=False)


class Unstorable(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        return changed(super().start(task), info={"seen": {1, 2}})


class OddParts(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        return changed(super().start(task), info={"reward_parts": {"price": float("nan")}})


class EchoesAssistant(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        return changed(super().start(task), observation=(Message("assistant", "hello"),))


class LiveEpisode(ColoursEpisode):
    """Shows its turn; its snapshot is the episode itself."""

    @property
    def observation(self) -> Messages:
        return (Message("user", f"turn {self.turn}"),)

    def snapshot(self) -> ColoursEpisode:
        return self


class LiveSnapshot(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        return LiveEpisode(task, False)

    def restore(self, state: object) -> ColoursEpisode:
        assert isinstance(state, ColoursEpisode)
        return state


class UnpicklableSnapshot(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        episode = super().start(task)
        episode.snapshot = lambda: lambda: None  # type: ignore[method-assign]
        return episode


class Unpicklable(Colours):
    def __getstate__(self) -> object:
        raise TypeError("cannot pickle a socket")


class SetFingerprint(Colours):
    @property
    def fingerprint(self) -> Mapping[str, object]:
        return {"env": "colours", "tools": {"a"}}


class IntegerKeys(Colours):
    @property
    def fingerprint(self) -> Mapping[str, object]:
        return {"limits": {1: 2}}


class ClosesOnce(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        episode = super().start(task)
        open_things = ["handle"]
        episode.close = lambda: open_things.remove("handle")  # type: ignore[method-assign]
        return episode


class BadExpert(Colours):
    def expert(self, noise: float, seed: int) -> Expert:
        return lambda _: Message("assistant", "nothing")


class FickleExpert(Colours):
    def expert(self, noise: float, seed: int) -> Expert:
        plain, turns = super().expert(noise, seed), itertools.count(next(SharedState.counter) % 2)
        return lambda episode: Message("assistant", "hm") if noise and next(turns) % 2 else plain(episode)


class Unreachable(Colours):
    success_return = float("inf")


class Shuffled(Colours):
    """Its panels depend on the process, or here on the object."""

    def tasks(self, split: Split) -> Sequence[Task]:
        return [replace(task, data={**task.data, "object": id(self)}) for task in super().tasks(split)]


class MovingGoal(Colours):
    def start(self, task: Task) -> ColoursEpisode:
        class Moving(ColoursEpisode):
            @property
            def goal(self) -> Messages:
                return (Message("user", f"turn {self.turn}"),)

        return Moving(task, False)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (LeakySplits(), "both the train and the val split"),
        (SharedState(), "different answers"),
        (ForgetfulSnapshot(), "restored from its snapshot"),
        (Touchy(), "an invalid action is data"),
        (Touchy(), "raised ValueError (say something), in test_check.py, line"),
        (Burning(), "the shop is on fire"),
        (NoTests(), "tasks('test') is empty"),
        (Doubtful(), "the step says parsed=False"),
        (Unstorable(), "info cannot be written as JSON"),
        (OddParts(), "reward part price is nan"),
        (EchoesAssistant(), "an observation of role 'assistant'"),
        (LiveSnapshot(), "playing a fork changed the original"),
        (UnpicklableSnapshot(), "its snapshot cannot be made and pickled"),
        (Unpicklable(), "the environment cannot be pickled: TypeError (cannot pickle a socket)"),
        (SetFingerprint(), "fingerprint cannot be written as JSON"),
        (IntegerKeys(), "fingerprint changes when written as JSON"),
        (ClosesOnce(), "when called twice; closing is idempotent"),
        (BadExpert(), "the noise-free expert succeeds on 0 of 8 train tasks"),
        (FickleExpert(), "two experts of equal noise and seed play differently"),
        (Unreachable(), "success_return is inf"),
        (Shuffled(), "differs in a pickled copy"),
        (MovingGoal(), "the goal changed during the episode"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Colours) else "",
)
def test_each_planted_breach_is_explained(env: Colours, words: str) -> None:
    try:
        breaches = check_env(env)
    except RuntimeError:  # the expert of a burning shop burns too
        pytest.fail("check_env raised what the environment raised")
    assert any(words in breach for breach in breaches), breaches
