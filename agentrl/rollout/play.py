"""One running episode: prompts out, completions in, a frozen Trajectory at the end.

Every way of exploring is built from this. A failing environment ends the episode as data
(``Stop.env_error`` with the environment's own words); it never becomes a reward of 0.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from agentrl.chat import tools_text
from agentrl.engine.base import Completion, Request
from agentrl.envs.base import Episode, Step, offered
from agentrl.errors import ConfigError, EnvError
from agentrl.rollout.base import Limits, Stage
from agentrl.seeds import derive
from agentrl.types import Message, Messages, Stop, Task, Trajectory, Turn
from agentrl.watchdog import beat

Draw = tuple[int | str, ...]
Opened = tuple[Episode, Messages, Messages, str]  # an episode with its goal, first observation, and tools as text


class Play:
    """One play of one task by the stage's engine."""

    def __init__(self, stage: Stage, task: Task, member: int, limits: Limits, draw: Draw | None = None) -> None:
        """``draw`` tells the samples of plays of one task apart (default: the member)."""
        self.task = task
        self.member = member
        self.draw: Draw = (member,) if draw is None else draw
        self._stop: Stop | None = None
        self._stage = stage
        self._limits = limits
        self._turns: list[Turn] = []
        self._error: str | None = None
        self._saved: Any = None  # the episode's state, once somebody branched from it
        self._episode: Episode | None = None
        self._goal: Messages = ()
        self._first: Messages = ()
        self._tools = ""
        self._source: Callable[[], Opened] | None = self._start  # until the episode is there

    @property
    def asleep(self) -> bool:
        """Is its episode still to be opened? It is, by :meth:`open` and :meth:`opened`, or as soon as it is needed."""
        return self._source is not None

    def open(self) -> Opened | Exception:
        """Start or copy the episode, which may be done in another thread; how that failed."""
        assert self._source is not None
        try:
            found = self._source()
        except Exception as error:  # an environment's failure is data
            return error
        self._episode = found[0]  # at once: whoever dismisses the play closes it
        return found

    def opened(self, found: Opened | Exception) -> None:
        """Go on with what :meth:`open` gave."""
        self._source = None
        if isinstance(found, Exception):
            self._fail(found)
        else:
            self._episode, self._goal, self._first, self._tools = found

    @property
    def stop(self) -> Stop | None:
        """Why it is over; None while it is not."""
        self._ready()
        return self._stop

    def request(self, seed: int, step: int) -> Request | None:
        """What to ask the engine next; None once the episode is over (also when the next prompt does not fit)."""
        if self.stop is not None:
            return None
        prompt = self._stage.context.prompt(self._stage.chat, self._goal, self._first, self._turns, self._tools)
        if len(prompt) + self._limits.action_tokens > self._limits.context_tokens:
            if not self._turns:
                self._error = f"its first prompt has {len(prompt)} tokens"
            self._finish(Stop.max_tokens)
            return None
        draw = derive(seed, "sample", step, self.task.id, *self.draw, len(self._turns))
        return Request(prompt, draw, self._limits.action_tokens)

    def action(self, completion: Completion) -> Message:
        """What the engine sampled, as a message."""
        return self._stage.chat.message(completion.ids)

    def act(self, action: Message, prompt_ids: tuple[int, ...], completion: Completion) -> None:
        """Play one action, record the turn, end the episode when it is over."""
        self.take(action, prompt_ids, completion, self.step(action))

    def step(self, action: Message) -> Step | Exception:
        """The environment's part of a turn, which may run in another thread: its answer, or how it failed."""
        beat("environment", "a step of task", self.task.id)
        try:
            return self.episode.step(action)
        except Exception as error:  # an environment's failure is data
            return error

    def take(
        self, action: Message, prompt_ids: tuple[int, ...], completion: Completion, step: Step | Exception
    ) -> None:
        """Record the turn of an action and the environment's answer; end the episode when it is over."""
        self._saved = None
        if isinstance(step, Exception):
            self._fail(step)
            return
        self._turns.append(
            Turn(
                prompt_ids=prompt_ids,
                action_ids=completion.ids,
                logprobs=completion.logprobs,
                action=action,
                observation=step.observation,
                reward=float(step.reward),
                parsed=step.parsed,
                finish=completion.finish,
                version=completion.version,
                info=step.info,
            )
        )
        if step.done:
            self._finish(Stop.done)
        elif len(self._turns) >= self._limits.turns:
            self._finish(Stop.max_turns)

    def record(self) -> Trajectory:
        """The finished play."""
        assert self.stop is not None, "record() before the episode is over"
        total = sum(turn.reward for turn in self._turns)
        return Trajectory(
            task=self.task,
            member=self.member,
            turns=tuple(self._turns),
            stop=self.stop,
            env_return=total,
            success=self.stop is not Stop.env_error and total >= self._stage.env.success_return - 1e-9,
            error=self._error,
            first_observation=self._goal + self._first,
        )

    def fragment(self, value: float) -> Trajectory:
        """Its last turn alone, as a play worth ``value``; ``Stop.forked`` where the episode is not over."""
        before = self._turns[-2].observation if len(self._turns) > 1 else self._first
        over = self.stop is not None
        return Trajectory(
            task=self.task,
            member=self.member,
            turns=tuple(self._turns[-1:]),
            stop=self.stop or Stop.forked,
            env_return=value,
            success=over and value >= self._stage.env.success_return - 1e-9,
            error=self._error,
            first_observation=self._goal + before,
        )

    def rest(self, turn: int) -> Trajectory:
        """The finished play from ``turn`` on; its return and success are those of the whole play."""
        whole = self.record()
        if not turn:
            return whole
        return replace(
            whole, turns=whole.turns[turn:], first_observation=self._goal + whole.turns[turn - 1].observation
        )

    def branch(self, draw: Draw) -> Play:
        """Another play that goes on from this state: equal turns so far, an episode of its own, its own draws.

        ``draw`` names its samples among all of its task. An environment that cannot be copied is a failed play.
        """
        self._ready()
        twin = copy.copy(self)
        twin.draw, twin._turns = draw, list(self._turns)
        twin._saved, twin._episode = None, None
        if self._stop is None:
            beat("environment", "copying an episode of task", self.task.id)
            try:
                if self._saved is None:
                    self._saved = self.episode.snapshot()
                twin._source = partial(twin._restore, self._saved)
            except Exception as error:  # an environment's failure is data
                twin._fail(error)
        return twin

    def leave(self) -> None:
        """Close the episode of a play that nobody goes on with."""
        if self._stop is None and self._episode is not None:
            self._episode.close()

    def abandon(self, error: Exception) -> None:
        """Stop as data a play whose environment does not answer. Its episode is not touched: a thread is in it."""
        self._error = f"{type(error).__name__}: {error}"
        self._source, self._stop = None, Stop.env_error

    def dismiss(self) -> None:
        """Close the episode of a play that failed, whose first words count."""
        if self._episode is not None:
            with suppress(Exception):
                self._episode.close()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns played so far, those before a branch included."""
        return tuple(self._turns)

    @property
    def total(self) -> float:
        """The return so far."""
        return sum(turn.reward for turn in self._turns)

    @property
    def episode(self) -> Episode:
        """The environment's side (for experts, which may look behind the curtain)."""
        self._ready()
        assert self._episode is not None
        return self._episode

    def _ready(self) -> None:
        if self.asleep:
            self.opened(self.open())

    def _start(self) -> Opened:
        beat("environment", "starting an episode of task", self.task.id)
        episode = self._stage.env.start(self.task)
        self._episode = episode  # closed, should it not tell what it offers
        return episode, episode.goal, episode.observation, tools_text(offered(episode))

    def _restore(self, saved: Any) -> Opened:
        beat("environment", "copying an episode of task", self.task.id)
        return self._stage.env.restore(saved), self._goal, self._first, self._tools

    def _finish(self, stop: Stop) -> None:
        self._stop = stop
        if self._episode is not None:
            self._episode.close()

    def _fail(self, error: Exception) -> None:
        self.abandon(error)
        self.dismiss()


def demonstrate(
    stage: Stage, task: Task, limits: Limits, noise: float, seed: int, branches: bool = False, slips: float = 0.0
) -> tuple[Play, list[Play]]:
    """A whole play by the environment's expert, drawn by ``seed`` and task alone; with ``branches`` also one play for
    each of its turns that stands before it. With probability ``slips`` an action loses its first word."""
    play, before = Play(stage, task, 0, limits), []
    expert = stage.env.expert(noise, derive(seed, "demonstration", task.id))
    rng = random.Random(derive(seed, "slip", task.id))
    while (request := play.request(seed, 0)) is not None:
        if branches:
            before.append(play.branch(()))
        action = expert(play.episode)
        if rng.random() < slips:
            action = replace(action, content=action.content.partition(" ")[2])
        ids = stage.chat.encode_action(action)
        play.act(action, request.prompt_ids, Completion(ids, (), "stop", stage.engine.version))
    return play, before


def refuse_failures(trajectories: Sequence[Trajectory], max_failed: float) -> None:
    """Stop the run when more than the stated share of episodes failed for reasons of the environment."""
    refuse_failed([t for t in trajectories if t.stop is Stop.env_error], len(trajectories), max_failed)


def refuse_failed(failed: Sequence[Trajectory], episodes: int, max_failed: float) -> None:
    """The same, where not every one of the ``episodes`` left a record, but those that failed."""
    if len(failed) > max_failed * episodes:
        raise EnvError(
            f"environment: {len(failed)} of {episodes} episodes failed, more than "
            f"rollout.max_failed={max_failed:g} allows; "
            f"the first, task {failed[0].task.id}, said: {failed[0].error}. Mend the environment (`agentrl env "
            "check` helps) "
            "or allow more."
        )


def refuse_mute(trajectories: Sequence[Trajectory], limits: Limits) -> None:
    """Stop the run when not one episode could begin: no first prompt left room for an action."""
    mute = [t for t in trajectories if t.stop is Stop.max_tokens and not t.turns]
    if mute and len(mute) == len(trajectories):
        raise ConfigError(
            f"model.context_tokens={limits.context_tokens}: no episode could begin; of the first, task "
            f"{mute[0].task.id}, {mute[0].error}, and an action may have {limits.action_tokens} more; raise "
            "model.context_tokens, or choose a shorter view of the environment"
        )
