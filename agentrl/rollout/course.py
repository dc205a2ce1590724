"""Plans under way: which plays somebody waits for, and what they took.

A way of exploring is a generator (a *plan*) that yields the plays it waits for and ends with a result; independent
plays are a plan of one wait. A :mod:`schedule <agentrl.rollout.schedule>` carries plans out.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentrl.engine.base import Completion, Request, Sampling
from agentrl.rollout.base import Stage
from agentrl.rollout.play import Play
from agentrl.types import Message


@dataclass(slots=True)
class Leg:
    """A play that is to go on, for at most ``left`` more turns; 0: its episode is to be there."""

    play: Play
    left: float = math.inf
    turns: int = 0  # taken so far


T = TypeVar("T")
Waiting = Generator[Sequence[Leg], None, T]


class Course(Generic[T]):
    """A plan and the legs it waits for.

    ``tokens`` were sampled for it. ``calls`` is how many engine calls in a row it takes, whatever the schedule: of each
    of its waits, the turns of the longest leg. ``result`` is the plan's, once it is ``over``.
    """

    def __init__(self, plan: Waiting[T], seed: int, step: int) -> None:
        self.result: T | None = None
        self.over = False
        self.legs: Sequence[Leg] = ()
        self.tokens = self.calls = 0
        self._plan = plan
        self._seed = seed
        self._step = step

    def go_on(self) -> Sequence[Leg]:
        """The next ``legs``, the last ones being at their end; none where the plan is ``over``."""
        self.calls += max((leg.turns for leg in self.legs), default=0)
        try:
            self.legs = next(self._plan)
        except StopIteration as end:
            self.legs, self.result, self.over = (), end.value, True
        return self.legs

    def request(self, leg: Leg) -> Request | None:
        """What a leg asks the engine next; None at its end."""
        return leg.play.request(self._seed, self._step) if leg.turns < leg.left else None

    def sampled(self, leg: Leg, completion: Completion) -> Message:
        """Count a completion; the action it is."""
        leg.turns += 1
        self.tokens += len(completion.ids)
        return leg.play.action(completion)


def carry_out(stage: Stage, courses: Sequence[Course[Any]], temperature: float) -> None:
    """Carry out all plans together, as the stage's schedule has it."""
    stage.schedule.run(stage.engine, Sampling(temperature, stage.chat.stop_ids), courses)


def advance(stage: Stage, plays: Sequence[Play], temperature: float, seed: int, step: int) -> None:
    """Play all episodes to their end."""

    def plan() -> Waiting[None]:
        yield [Leg(play) for play in plays]

    carry_out(stage, [Course(plan(), seed, step)], temperature)
