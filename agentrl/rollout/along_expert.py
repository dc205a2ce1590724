"""The policy's own action at every step of an expert's play, completed to the end: how IPR explores. arXiv:2406.11176.

In the state before each of the expert's actions the policy acts for itself; from behind its action it plays the episode
to the end once (its completion), and m plays from behind either action estimate the two step rewards. All steps of all
tasks advance together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrl.ranges import require_least
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.course import Leg
from agentrl.rollout.explore import Explorer, Plan, Trial, explore
from agentrl.rollout.play import Play, demonstrate
from agentrl.types import Explored, Group, Stop, Task


@dataclass(frozen=True)
class AlongExpert:
    """Groups of a task: the policy's play from the start, then for each step of the expert's play a group of two: the
    rest of the expert's play and of the policy's own, their actions' process rewards in ``Group.explored``.

    The expert's play depends on the run's seed and the task alone, as in ``rollout=demonstrations``.
    """

    rollouts: int
    noise: float
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float
    pool: int

    def __post_init__(self) -> None:
        require_least(self, "rollout", rollouts=1)

    @property
    def group_size(self) -> int:
        return 1

    @property
    def most_episodes(self) -> int:
        return 1 + self.max_turns * (1 + 2 * self.rollouts)

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"steps", "expert"})

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """For each task the group of its play from the start, then the groups of the expert's steps, first step first.

        Raises EnvError when too many episodes failed, ConfigError when none could begin.
        """
        limits = Limits(self.max_turns, self.action_tokens, self.context_tokens)

        def plan(explorer: Explorer) -> Plan:
            return self._plan(explorer, seed)

        return explore(stage, tasks, limits, self.rollouts, plan, self.temperature, self.max_failed, seed, step)

    def _plan(self, x: Explorer, seed: int) -> Plan:
        expert, befores = demonstrate(x.stage, x.task, x.limits, self.noise, seed, branches=True)
        if expert.stop is Stop.env_error or not befores:
            for before in befores:
                before.leave()
            return [Group(x.task, (x.end(expert),))]
        afters = [*befores[1:], expert]  # the play behind each of the expert's actions
        for turn, play in enumerate(afters):
            play.draw = ("explore", x.copy, turn, "expert")
        own = [x.draw(before, 0, 1)[0] for before in befores]
        yield [Leg(play, 1) for play in own]
        trials = [x.judge(pair, turn) for turn, pair in enumerate(zip(afters, own, strict=True))]
        ends = [play.branch((*play.draw, "completion")) for play in own]
        yield [*(leg for trial in trials for leg in trial.legs), *(Leg(end) for end in ends)]
        for one, end in zip(own, ends, strict=True):
            if one.stop is None:
                x.end(end)
            one.leave()
        for before in befores:
            before.leave()
        return [Group(x.task, (ends[0].record(),)), *_steps(x.task, expert, ends, trials)]


def _steps(task: Task, expert: Play, ends: Sequence[Play], trials: Sequence[Trial]) -> list[Group]:
    """The groups of the steps; one whose step rewards the environment failed is left out."""
    groups = []
    before: float | None = None
    for turn, (end, trial) in enumerate(zip(ends, trials, strict=True)):
        found = trial.found()
        if len(found) == 2:
            values, rollouts = tuple(c.value for c in found), tuple(c.rollouts for c in found)
            members = tuple(replace(play.rest(turn), member=i) for i, play in enumerate((expert, end)))
            rose = before is not None and values[0] >= before
            groups.append(Group(task, members, explored=Explored(turn, before, values, rollouts, 0, rose, 1)))
        before = found[0].value if len(found) == 2 else None
    return groups
