"""When who goes on: the order in which engine and environments work on the plays of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agentrl.engine.base import Engine, Request, Sampling
from agentrl.watchdog import beat

if TYPE_CHECKING:
    from agentrl.rollout.course import Course, Leg


class Schedule(Protocol):
    """Built from ``conf/schedule/<name>.yaml``. What it carries out does not depend on it, only the time it takes."""

    def run(self, engine: Engine, sampling: Sampling, courses: Sequence[Course[Any]]) -> None:
        """Carry out all plans to their end. Raises EngineError."""
        ...


@dataclass(frozen=True)
class Lockstep:
    """One engine call per turn for every play that anybody waits for; environments answer one after the other."""

    def run(self, engine: Engine, sampling: Sampling, courses: Sequence[Course[Any]]) -> None:
        """Carry out all plans to their end. Raises EngineError."""
        while asked := [(course, *pair) for course in courses for pair in _asked(course)]:
            beat("engine", "sampling actions; plays:", str(len(asked)))
            completions = engine.generate([request for _, _, request in asked], sampling)
            for (course, leg, request), completion in zip(asked, completions, strict=True):
                leg.play.act(course.sampled(leg, completion), request.prompt_ids, completion)


def _asked(course: Course[Any]) -> list[tuple[Leg, Request]]:
    """The next request of each leg; where all legs are at their end the plan goes on, until it is over."""
    while not course.over:
        if asked := [(leg, request) for leg in course.legs if (request := course.request(leg)) is not None]:
            return asked
        course.go_on()
    return []
