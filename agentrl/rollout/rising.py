"""Reward-rising exploration: at every step, actions are drawn one at a time until the process reward rises.

RRO, arXiv:2505.20737. ``r_0`` is the Monte-Carlo value of the empty prefix. At step t candidates are drawn and judged
one after the other until the process reward of one rises above ``r_{t-1}``, the value of the prefix; the trajectory
goes on with it. The number of candidates is dynamic: (1 - (1-p)^n) / p on average, where p is the chance of a rise and
n the cap.

Ours, where the accounts of the paper are silent: what counts as a rise (``tie``), the cap, at which the best candidate
is gone on with, and the extra candidate where the first one rises (``first_rises``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

from agentrl.ranges import require_least
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.course import Leg, Waiting
from agentrl.rollout.explore import Candidate, Explorer, Plan, best, explore, go_on, mean_return
from agentrl.rollout.play import Play
from agentrl.types import Group, Task

EPS = 1e-9  # returns that differ by less are equal: means of equal outcomes may differ in their last bit


class Tie(StrEnum):
    """What counts as a rise; see :data:`RISES`."""

    geq = auto()
    strict = auto()
    strict_unless_max = auto()


#: (r_t, r_{t-1}, highest attainable return) -> does it rise?
RISES: Mapping[Tie, Callable[[float, float, float], bool]] = {
    Tie.geq: lambda value, before, _top: value >= before - EPS,
    Tie.strict: lambda value, before, _top: value > before + EPS,
    Tie.strict_unless_max: lambda value, before, top: value > before + EPS or min(value, before) >= top - EPS,
}


class FirstRises(StrEnum):
    """Where the first candidate rises: ``skip`` to the next step, or ``draw_one`` more to contrast it with."""

    skip = auto()
    draw_one = auto()


@dataclass(frozen=True)
class Rising:
    """Groups of a task: its ``rollouts`` plays from the start, whose mean is r_0, then one group for each step."""

    rollouts: int
    candidates: int
    tie: Tie
    first_rises: FirstRises
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
        return self.rollouts

    @property
    def most_episodes(self) -> int:
        return self.rollouts * (1 + self.max_turns * self.candidates)

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"steps"})

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """For each task the group of its plays, then the groups of its explored steps, first step first.

        Raises EnvError when too many episodes failed, ConfigError when none could begin.
        """
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)
        top = stage.env.success_return

        def plan(explorer: Explorer) -> Plan:
            return self._plan(explorer, top)

        return explore(stage, tasks, limits, self.rollouts, plan, self.temperature, self.max_failed, seed, step)

    def _plan(self, x: Explorer, top: float) -> Plan:
        start = [x.begin("start", i) for i in range(self.rollouts)]
        yield [Leg(play) for play in start]
        groups = [Group(x.task, tuple(x.end(play) for play in start))]
        if not groups[0].valid:
            return groups
        before, path = mean_return(groups[0].valid), x.begin()
        yield [Leg(path, 0)]  # its episode is opened
        while path.stop is None:
            turn, drawn, rose = len(path.turns), 0, False
            found: list[Candidate] = []
            while drawn < self.candidates and not rose:
                found += (new := (yield from self._try(x, path, drawn, found)))
                drawn += 1
                rose = bool(new) and RISES[self.tie](new[0].value, before, top)
            kept = len(found) - 1 if rose else best(found)
            if rose and drawn == 1 and self.first_rises == FirstRises.draw_one:
                found += yield from self._try(x, path, drawn, found)
                drawn += 1
            if not found:
                path.leave()
                return groups
            groups.append(x.step(found, turn, before, kept, rose, drawn))
            before, path = found[kept].value, go_on(path, found, kept)
        return groups

    def _try(self, x: Explorer, path: Play, drawn: int, found: Sequence[Candidate]) -> Waiting[list[Candidate]]:
        """One more candidate: its action, then its rollouts. None where the environment failed it."""
        turn, plays = len(path.turns), x.draw(path, drawn, 1)
        yield [Leg(play, 1) for play in plays]
        trial = x.judge(plays, turn, found)
        yield trial.legs
        return trial.found()
