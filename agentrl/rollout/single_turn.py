"""Plays of one action from the states of expert trajectories: how single-turn GRPO explores. arXiv:2509.20616.

The expert plays the training tasks once (``noise``: a random mistake at each turn with this probability). Every turn of
a kept demonstration is a state: the prompt the policy would see there (goal and observation; in a ``history`` context
the expert's turns before it), a snapshot of the episode, and the label, the expert's action. One engine call samples
``group_size`` actions for every state of the batch; each is played once on a restored episode, which tells whether it
parses, and ends there. What reward=expert_match needs stands in ``Turn.info["state"]``::

    expert: [the expert's action]    optimal: [all optimal first actions], None where the environment does not tell
    valid: is the sampled action in the list of valid ones?

A state of task ``t`` is the task ``t/0``, ``t/1``, .. of its group. The demonstrations follow from ``seed`` and the
task alone, so they are the same at every step; they are made when first drawn, and kept. With equal ``seed``, ``noise``
and ``pool`` they are those that ``rollout=demonstrations``, and so a warm start, learns from.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from agentrl.engine.base import Completion, Request, Sampling
from agentrl.envs.base import Episode
from agentrl.errors import EnvError
from agentrl.rewards.expert_match import said
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.play import demonstrate, refuse_failures, refuse_mute
from agentrl.seeds import derive
from agentrl.types import Group, Message, Messages, Stop, Task, Trajectory, Turn
from agentrl.watchdog import beat

TURN = "expert_turn"  # where a state's task keeps its turn, beside the data of the task it is part of


@runtime_checkable
class Planner(Protocol):
    """An environment that can tell every optimal first action, and how many actions the shortest plan has."""

    def optimal_actions(self, episode: Episode) -> tuple[frozenset[str], int]: ...


@dataclass(frozen=True, slots=True)
class State:
    """One state on an expert trajectory: what the policy is shown, where the episode stands, and the labels.

    ``expert_ids`` are the tokens of the expert's action, the stop token included.
    """

    task: Task
    prompt_ids: tuple[int, ...]
    snapshot: Any
    shown: Messages
    expert: str
    expert_ids: tuple[int, ...]
    optimal: tuple[str, ...] | None
    valid: frozenset[str]

    @property
    def turn(self) -> int:
        """Its index in the expert trajectory."""
        return int(self.task.data[TURN])


@dataclass(frozen=True)
class SingleTurn:
    """``group_size`` single actions for each of as many expert states as tasks are asked for."""

    group_size: int
    temperature: float
    noise: float
    only_success: bool
    pool: int
    seed: int
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float

    @property
    def most_episodes(self) -> int:
        return self.group_size

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"labels"})

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """As many states as tasks, drawn without replacement from all states of these tasks; fewer where they have
        fewer. A task that is a state itself is played as it is. Raises EnvError, ConfigError."""
        chosen = self._choose(stage, tasks, random.Random(derive(seed, "states", step)))
        sampling = Sampling(temperature=self.temperature, stop_ids=stage.chat.stop_ids)
        before: Counter[str] = Counter()
        requests = []
        for state in chosen:
            draws = range(before[state.task.id], before[state.task.id] + self.group_size)
            before[state.task.id] += self.group_size
            seeds = (derive(seed, "sample", step, state.task.id, draw) for draw in draws)
            requests += [Request(state.prompt_ids, draw, self.action_tokens) for draw in seeds]
        beat("engine", "sampling actions; plays:", str(len(requests)))
        completions = stage.engine.generate(requests, sampling) if requests else []
        plays = [
            _act(stage, chosen[i // self.group_size], i % self.group_size, completion)
            for i, completion in enumerate(completions)
        ]
        refuse_failures(plays, self.max_failed)
        size = self.group_size
        return [Group(state.task, tuple(plays[i * size : (i + 1) * size])) for i, state in enumerate(chosen)]

    def states(self, stage: Stage, task: Task) -> tuple[State, ...]:
        """The expert states of a task in order; none where the demonstration is not kept."""
        (found,) = self._demonstrations(stage, [task])
        return found

    def _choose(self, stage: Stage, tasks: Sequence[Task], rng: random.Random) -> list[State]:
        """The states of a batch."""
        bases = list({base.id: base for base in map(_base, tasks)}.values())
        known = dict(zip((base.id for base in bases), self._demonstrations(stage, bases), strict=True))
        turns = {state.task.id: state for states in known.values() for state in states}
        given = [turns[task.id] for task in tasks if TURN in task.data]
        drawn = {task.id: known[task.id] for task in tasks if TURN not in task.data}
        everything = [state for states in drawn.values() for state in states]
        wanted = len(tasks) - len(given)
        return [*given, *rng.sample(everything, min(wanted, len(everything)))]

    def _demonstrations(self, stage: Stage, tasks: Sequence[Task]) -> list[tuple[State, ...]]:
        """The states of each task, made where they are not known yet."""
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        new = [task for task in tasks if task.id not in self._kept]
        records = []
        for task in new:
            play, branches = demonstrate(stage, task, limits, self.noise, derive(self.seed, "play", 0), branches=True)
            record = next((branch.record() for branch in branches if branch.stop is not None), play.record())
            records.append(record)
            kept = record.stop is not Stop.env_error and (record.success or not self.only_success)
            self._kept[task.id] = _states(stage, record, [b.episode for b in branches]) if kept else ()
            for branch in branches:
                branch.leave()
        refuse_failures(records, self.max_failed)
        refuse_mute(records, limits)
        return [self._kept[task.id] for task in tasks]

    @cached_property
    def _kept(self) -> dict[str, tuple[State, ...]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: another process makes its own demonstrations."""
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


def _base(task: Task) -> Task:
    """The environment's task of a state's task; any other task itself."""
    if TURN not in task.data:
        return task
    data = {name: value for name, value in task.data.items() if name != TURN}
    return replace(task, id=task.id.rpartition("/")[0], data=data)


def _states(stage: Stage, record: Trajectory, episodes: Sequence[Episode]) -> tuple[State, ...]:
    """The states of a demonstration, ``episodes`` standing before each of its turns.

    Left out: one whose label the environment did not parse, and one where a planner proves no action optimal.
    """
    states = []
    for index, (turn, episode) in enumerate(zip(record.turns, episodes, strict=True)):
        try:
            optimal = _optimal(stage, episode)
        except EnvError:
            continue
        if not turn.parsed:
            continue
        page = (*episode.goal, *record.turns[index - 1].observation) if index else record.first_observation
        task = replace(record.task, id=f"{record.task.id}/{index}", data={**record.task.data, TURN: index})
        label = said(turn.action)
        listed = {said(Message("assistant", text)) for text in episode.actions()}
        states.append(
            State(
                task=task,
                prompt_ids=turn.prompt_ids,
                snapshot=episode.snapshot(),
                shown=page,
                expert=label,
                expert_ids=turn.action_ids,
                optimal=optimal,
                valid=frozenset({label} | listed),
            )
        )
    return tuple(states)


def _optimal(stage: Stage, episode: Episode) -> tuple[str, ...] | None:
    if not isinstance(stage.env, Planner):
        return None
    actions, _ = stage.env.optimal_actions(episode)
    return tuple(sorted(said(Message("assistant", action)) for action in actions))


def _act(stage: Stage, state: State, member: int, completion: Completion) -> Trajectory:
    """One action from a state, as a play of one turn."""
    action = stage.chat.message(completion.ids)
    episode = None
    try:
        episode = stage.env.restore(state.snapshot)
        step = episode.step(action)
    except Exception as error:  # an environment's failure is data
        text = f"{type(error).__name__}: {error}"
        return Trajectory(state.task, member, (), Stop.env_error, error=text, first_observation=state.shown)
    finally:
        if episode is not None:
            with suppress(Exception):  # its work is done
                episode.close()
    told = {
        "expert": [state.expert],
        "optimal": None if state.optimal is None else list(state.optimal),
        "valid": said(action) in state.valid,
    }
    turn = Turn(
        prompt_ids=state.prompt_ids,
        action_ids=completion.ids,
        logprobs=completion.logprobs,
        action=action,
        observation=step.observation,
        reward=float(step.reward),
        parsed=step.parsed,
        finish=completion.finish,
        version=completion.version,
        info={**step.info, "state": told},
    )
    return Trajectory(
        task=state.task,
        member=member,
        turns=(turn,),
        stop=Stop.done if step.done else Stop.max_turns,
        env_return=turn.reward,
        success=step.done and turn.reward >= stage.env.success_return - 1e-9,
        first_observation=state.shown,
    )
