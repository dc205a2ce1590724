"""Every play goes on as soon as its own environment has answered, whatever the others do.

Requests join the engine's stream one by one, environments answer in threads of their own, and a plan goes on as soon as
all plays that it waits for are at their end. Episodes are started, restored and stepped in threads (steps at the same
time, starts and restores one at a time), and snapshot and closed where the plans are. Samples are named by their play
and turn, so that a run differs from one in lockstep by nothing but the rounding of other batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agentrl.engine.base import Completion, Engine, Request, Sampling, Stream
from agentrl.envs.base import Step
from agentrl.errors import ConfigError
from agentrl.rollout.desk import Desk, EnvTimeout, Here, Threads
from agentrl.rollout.play import Opened

if TYPE_CHECKING:
    from agentrl.rollout.course import Course, Leg

BUSY_S = 0.002  # how long the engine may sample between two looks at environments that are still to answer
QUIET_S = 0.5  # the same where none is; and how long an engine with nothing to do waits for one
Answer = Step | Opened | Exception


@dataclass(frozen=True)
class Flowing:
    """The schema of conf/schedule/flowing.yaml, where every number has its unit and source."""

    env_threads: int
    deadline_s: float
    gather_s: float

    def __post_init__(self) -> None:
        for name in ("env_threads", "deadline_s", "gather_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"schedule.{name}: got {getattr(self, name):g}, expected 0 or more")

    def run(self, engine: Engine, sampling: Sampling, courses: Sequence[Course[Any]]) -> None:
        """Carry out all plans to their end. Raises EngineError."""
        desk: Desk[Answer] = Threads(self.env_threads, self.deadline_s) if self.env_threads else Here()
        with closing(desk), closing(engine.stream(sampling)) as stream:
            _Flow(stream, desk, self.gather_s).run(courses)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn under way: asked for, sampled, or with its environment."""

    course: Course[Any]
    leg: Leg
    request: Request


class _Flow:
    """Who is where: ``_new`` about to be asked for, ``_asked`` with the engine, ``_acting`` with its environment.

    Environments promise that steps may meet, not starts and restores: one episode at a time is opened, and plans, which
    may open some themselves, go on between two.
    """

    def __init__(self, stream: Stream, desk: Desk[Answer], gather_s: float) -> None:
        self._stream = stream
        self._desk = desk
        self._gather_s = gather_s
        self._number = 0  # of the turns and openings so far: their keys
        self._new: dict[int, _Turn] = {}
        self._asked: dict[int, _Turn] = {}
        self._acting: dict[int, tuple[_Turn, Any, Completion]] = {}
        self._asleep: deque[tuple[Course[Any], Leg]] = deque()  # wait to be opened
        self._opening: dict[int, tuple[Course[Any], Leg]] = {}  # one at most
        self._ready: deque[Course[Any]] = deque()  # all that they waited for has come
        self._legs: dict[Course[Any], int] = {}  # of each plan, those that are not at their end

    def run(self, courses: Sequence[Course[Any]]) -> None:
        self._ready.extend(courses)
        self._proceed()
        while self._new or self._asked or self._acting or self._opening:
            self._listen()
            self._sample()

    def _proceed(self) -> None:
        """Let plans go on, and have the next episode opened, unless one is being opened."""
        while not self._opening and (self._ready or self._asleep):
            if self._ready:
                self._go_on(self._ready.popleft())
            else:
                self._number += 1
                course, leg = self._asleep.popleft()
                self._opening[self._number] = course, leg
                self._desk.hand(self._number, leg.play.open, leg.play.dismiss)

    def _go_on(self, course: Course[Any]) -> None:
        """Ask for whatever the plan waits for next, until it is over."""
        while not course.over:
            legs = course.go_on()
            asleep = [leg for leg in legs if leg.play.asleep]
            awake = [leg for leg in legs if not leg.play.asleep]
            turns = [_Turn(course, leg, r) for leg in awake if (r := course.request(leg)) is not None]
            if turns or asleep:
                self._legs[course] = len(turns) + len(asleep)
                for turn in turns:
                    self._ask(turn)
                self._asleep.extend((course, leg) for leg in asleep)
                return

    def _ask(self, turn: _Turn) -> None:
        self._number += 1
        self._new[self._number] = turn

    def _listen(self) -> None:
        """Take what environments have answered. An engine with nothing to do waits for one, and a moment for more, so
        that plays whose environments are equally quick stay together."""
        while self._acting or self._opening:
            wait_s = 0.0 if self._asked else self._gather_s if self._new else QUIET_S
            answers = self._desk.answers(wait_s)
            for key, answer in answers:
                self._answered(key, answer)
            self._proceed()
            if not answers and (self._asked or self._new):
                return

    def _answered(self, key: int, answer: Any) -> None:
        if key in self._opening:
            course, leg = self._opening.pop(key)
            take: Callable[[Any], None] = leg.play.opened
        else:
            turn, action, completion = self._acting.pop(key)
            course, leg = turn.course, turn.leg
            take = partial(leg.play.take, action, turn.request.prompt_ids, completion)
        if isinstance(answer, EnvTimeout):
            leg.play.abandon(answer)
        else:
            take(answer)
        request = course.request(leg)
        if request is not None:
            self._ask(_Turn(course, leg, request))
            return
        self._legs[course] -= 1
        if not self._legs[course]:
            self._ready.append(course)

    def _sample(self) -> None:
        """Let the engine work; what it has finished goes to the environments."""
        new, self._new = self._new, {}
        self._asked |= new
        if not self._asked:
            return
        wait_s = BUSY_S if self._acting or self._opening else QUIET_S
        for key, completion in self._stream.advance([(k, t.request) for k, t in new.items()], wait_s=wait_s):
            turn = self._asked.pop(key)
            action = turn.course.sampled(turn.leg, completion)
            self._acting[key] = (turn, action, completion)
            self._desk.hand(key, partial(turn.leg.play.step, action), turn.leg.play.dismiss)
