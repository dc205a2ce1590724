"""Exploring from the states of a trajectory: candidate actions and their Monte-Carlo process rewards.

The *process reward* of a candidate action is the mean return of m plays that go on from behind it; an action that ends
its episode is its own outcome. A rollout writes its way of exploring one task as a generator (a ``Plan``) that yields
the plays it waits for; :func:`lockstep` advances the plans of all tasks together, one engine call per turn. Every
sample is named by (task, copy, turn, candidate, rollout), so that nothing depends on what else is in the batch.

Ours: a candidate that an earlier one equals in action and answer (observation, reward, end) takes over its estimate
instead of being rolled out again. It is counted as a candidate.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from agentrl.engine.base import Request, Sampling
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.play import Play, refuse_failed, refuse_mute
from agentrl.types import Cost, Explored, Group, Stop, Task, Trajectory
from agentrl.watchdog import beat


@dataclass(slots=True)
class Leg:
    """A play that is to go on, for at most ``left`` more turns."""

    play: Play
    left: float = math.inf


T = TypeVar("T")
Waiting = Generator[Sequence[Leg], None, T]
Plan = Waiting[list[Group]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An action that was tried. ``play`` stands behind it; ``outcomes`` are the whole plays that its value is the mean
    of, ``rollouts`` how many of them were played for it (failed ones included)."""

    play: Play
    outcomes: tuple[Trajectory, ...]
    rollouts: int

    @property
    def value(self) -> float:
        """Its process reward, in units of the environment's return."""
        return mean_return(self.outcomes)


def mean_return(plays: Sequence[Trajectory]) -> float:
    """Mean return of one play or more."""
    return statistics.fmean(play.env_return for play in plays)


class Explorer:
    """The exploration of one task: makes its plays and counts what they take."""

    def __init__(self, stage: Stage, task: Task, copy: int, limits: Limits, rollouts: int) -> None:
        """``copy`` tells the samples of a task apart that comes more than once in a batch; ``rollouts`` is m."""
        self.stage = stage
        self.task = task
        self.copy = copy
        self.limits = limits
        self.rollouts = rollouts
        self.failed: list[Trajectory] = []
        self.episodes = self.tokens = self.calls = 0
        self.groups: list[Group] = []

    def begin(self, *draw: int | str) -> Play:
        """A play from the start of the task; ``draw`` names its samples."""
        return Play(self.stage, self.task, 0, self.limits, ("explore", self.copy, *draw))

    def draw(self, path: Play, first: int, count: int) -> list[Play]:
        """Plays that are to try ``count`` more actions in the state of ``path``, of which ``first`` were tried."""
        turn = len(path.turns)
        return [path.branch(("explore", self.copy, turn, i)) for i in range(first, first + count)]

    def judge(self, drawn: Sequence[Play], turn: int, known: Sequence[Candidate] = ()) -> Trial:
        """The rollouts that estimate these actions of step ``turn``, begun; ``known`` are the step's earlier ones."""
        return Trial(self, drawn, turn, known)

    def end(self, play: Play) -> Trajectory:
        """Count a play that is over; its record."""
        record = play.record()
        self.episodes += 1
        if play.stop is Stop.env_error:
            self.failed.append(record)
        return record

    def step(
        self, found: Sequence[Candidate], turn: int, before: float | None, kept: int, rose: bool, drawn: int
    ) -> Group:
        """The group of one explored step: each candidate is a play of one turn, worth its process reward."""
        members = tuple(replace(c.play.fragment(c.value), member=i) for i, c in enumerate(found))
        values, rollouts = tuple(c.value for c in found), tuple(c.rollouts for c in found)
        return Group(self.task, members, explored=Explored(turn, before, values, rollouts, kept, rose, drawn))

    def cost(self) -> Cost:
        """What this task has taken so far."""
        return Cost(self.episodes, len(self.failed), self.tokens, self.calls)


class Trial:
    """Rollouts under way from behind some actions: yield ``legs``, then ask for what was ``found``."""

    def __init__(self, explorer: Explorer, drawn: Sequence[Play], turn: int, known: Sequence[Candidate]) -> None:
        self._explorer = explorer
        self._known = list(known)
        self._plays = [play for play in drawn if len(play.turns) > turn]  # the others failed or had no room
        for play in drawn:
            if play.stop is Stop.env_error or (play.stop is not None and len(play.turns) > turn):
                explorer.end(play)
        seen = [candidate.play for candidate in known]
        self._twins: list[int | None] = []
        self._forks: list[list[Play]] = []
        for play in self._plays:
            twin = next((i for i, other in enumerate(seen) if _same(other, play)), None)
            seen.append(play)
            self._twins.append(twin)
            fresh = twin is None and play.stop is None
            self._forks.append([play.branch((*play.draw, i)) for i in range(explorer.rollouts)] if fresh else [])

    @property
    def legs(self) -> list[Leg]:
        """What has to be played to its end."""
        return [Leg(fork) for forks in self._forks for fork in forks]

    def found(self) -> list[Candidate]:
        """The new candidates in order; those that the environment failed, in every rollout too, are left out."""
        every: list[Candidate] = list(self._known)
        for play, twin, forks in zip(self._plays, self._twins, self._forks, strict=True):
            if twin is not None:
                outcomes = every[twin].outcomes
            elif play.stop is not None:
                outcomes = (play.record(),)
            else:
                outcomes = tuple(end for fork in forks if (end := self._explorer.end(fork)).stop is not Stop.env_error)
            own = 0 if twin is not None else max(len(forks), 1)
            every.append(Candidate(play, outcomes, own))
        new = every[len(self._known) :]
        for candidate in new:
            if not candidate.outcomes:
                candidate.play.leave()
        return [candidate for candidate in new if candidate.outcomes]


def _same(one: Play, two: Play) -> bool:
    a, b = one.turns[-1], two.turns[-1]
    return (a.action, a.observation, a.reward, one.stop) == (b.action, b.observation, b.reward, two.stop)


def best(found: Sequence[Candidate]) -> int:
    """The first of the candidates of highest value."""
    return max(range(len(found)), key=lambda i: found[i].value, default=0)


def go_on(path: Play, found: Sequence[Candidate], kept: int) -> Play:
    """The path with the kept candidate's action; what nobody goes on with is closed."""
    path.leave()
    for index, candidate in enumerate(found):
        if index != kept:
            candidate.play.leave()
    return found[kept].play


def explore(
    stage: Stage,
    tasks: Sequence[Task],
    limits: Limits,
    rollouts: int,
    plan: Callable[[Explorer], Plan],
    temperature: float,
    max_failed: float,
    seed: int,
    step: int,
) -> list[Group]:
    """The groups of all tasks in order, those of a task together; the first of them bears its ``cost``.

    Raises EnvError when too many episodes failed, ConfigError when none could begin.
    """
    before: Counter[str] = Counter()
    explorers = []
    for task in tasks:
        explorers.append(Explorer(stage, task, before[task.id], limits, rollouts))
        before[task.id] += 1
    lockstep(stage, [(x, plan(x)) for x in explorers], temperature, seed, step)
    refuse_failed([play for x in explorers for play in x.failed], sum(x.episodes for x in explorers), max_failed)
    refuse_mute([play for x in explorers for play in x.groups[0].trajectories], limits)
    return [group for x in explorers for group in x.groups]


def lockstep(stage: Stage, plans: Sequence[tuple[Explorer, Plan]], temperature: float, seed: int, step: int) -> None:
    """Carry out all plans together, one engine call per turn for every play that any of them waits for.

    A plan has a part in every call until it is over, so that the calls of a batch are the most of any explorer.
    """
    sampling = Sampling(temperature=temperature, stop_ids=stage.chat.stop_ids)
    running = [_Running(explorer, plan) for explorer, plan in plans]
    while asked := [(one, *pair) for one in running for pair in one.ask(seed, step)]:
        beat("engine", "sampling actions; plays:", str(len(asked)))
        completions = stage.engine.generate([request for _, _, request in asked], sampling)
        for (one, play, request), completion in zip(asked, completions, strict=True):
            one.explorer.tokens += len(completion.ids)
            play.answer(request, completion)
        for one in running:
            one.explorer.calls += not one.over


class _Running:
    """A plan and the legs it waits for."""

    def __init__(self, explorer: Explorer, plan: Plan) -> None:
        self.explorer = explorer
        self.over = False
        self._plan = plan
        self._legs: Sequence[Leg] = ()

    def ask(self, seed: int, step: int) -> list[tuple[Play, Request]]:
        """The next request of each leg; where all legs are at their end the plan goes on, until it is over."""
        while not self.over:
            if asked := list(self._requests(seed, step)):
                return asked
            try:
                self._legs = next(self._plan)
            except StopIteration as end:
                first, *others = end.value
                cost = self.explorer.cost()
                self.explorer.groups = [replace(first, cost=cost), *(replace(g, cost=Cost()) for g in others)]
                self.over = True
        return []

    def _requests(self, seed: int, step: int) -> Iterator[tuple[Play, Request]]:
        for leg in self._legs:
            if leg.left > 0 and (request := leg.play.request(seed, step)) is not None:
                leg.left -= 1
                yield leg.play, request
