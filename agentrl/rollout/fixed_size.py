"""Fixed-size exploration: at every step the same number of actions is drawn and judged, and the best one gone on with.

The contrast to RRO's dynamic number (arXiv:2505.20737): the same candidates, the same Monte-Carlo process rewards, no
r_0 and no stopping early. The plays that the first step's candidates begin are the task's plays from the start.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrl.ranges import require_least
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.course import Leg
from agentrl.rollout.explore import Candidate, Explorer, Plan, best, explore, go_on
from agentrl.types import Group, Task, Trajectory


@dataclass(frozen=True)
class FixedSize:
    """Groups of a task: plays from the start, then one group for each step."""

    rollouts: int
    candidates: int
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float
    pool: int

    def __post_init__(self) -> None:
        require_least(self, "rollout", rollouts=1, candidates=2)

    @property
    def group_size(self) -> int:
        return self.rollouts * self.candidates

    @property
    def most_episodes(self) -> int:
        return self.rollouts * self.candidates * self.max_turns

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"steps"})

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """For each task the group of its plays from the start, then the groups of its explored steps, first step first.

        Raises EnvError when too many episodes failed, ConfigError when none could begin.
        """
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        return explore(stage, tasks, limits, self.rollouts, self._plan, self.temperature, self.max_failed, seed, step)

    def _plan(self, x: Explorer) -> Plan:
        groups: list[Group] = []
        before: float | None = None
        path = x.begin()
        yield [Leg(path, 0)]  # its episode is opened
        while path.stop is None:
            turn, plays = len(path.turns), x.draw(path, 0, self.candidates)
            yield [Leg(play, 1) for play in plays]
            trial = x.judge(plays, turn)
            yield trial.legs
            found = trial.found()
            if not groups:
                over = [play.record() for play in plays if play.stop is not None and not play.turns]
                groups.append(Group(x.task, members([*over, *whole(found)])))
            if not found:
                path.leave()
                break
            if before is None:
                before = statistics.fmean(candidate.value for candidate in found)
            kept = best(found)
            groups.append(x.step(found, turn, before, kept, found[kept].value >= before, self.candidates))
            before, path = found[kept].value, go_on(path, found, kept)
        return groups or [Group(x.task, (x.end(path),))]


def whole(found: Sequence[Candidate]) -> list[Trajectory]:
    """The plays behind the candidates; equal candidates share theirs, which then count again."""
    return [play for candidate in found for play in candidate.outcomes]


def members(plays: Sequence[Trajectory]) -> tuple[Trajectory, ...]:
    """Plays as the members of one group."""
    return tuple(replace(play, member=i) for i, play in enumerate(plays))
