"""One play of one kitchen: replies in, observations out, and what a planner would do now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.envs.base import Step
from agentrl.envs.robotouille.kitchen import Move, State
from agentrl.envs.robotouille.planner import Advice
from agentrl.envs.robotouille.views import Stage, View
from agentrl.errors import EnvError
from agentrl.types import Message, Messages, Task


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """A copy of an episode from which ``Robotouille.restore`` makes an equal one."""

    task: Task
    state: State
    steps: int
    forgiven: int
    over: bool


class RobotouilleEpisode:
    """One cook with one task. ``stage`` is the kitchen, ``state`` the moment, ``steps`` what was spent so far."""

    __slots__ = ("_forgiven", "_free_invalid", "_listed", "_over", "_view", "stage", "state", "steps", "task")

    def __init__(self, task: Task, stage: Stage, view: View, free_invalid: int) -> None:
        self._view = view
        self._free_invalid = free_invalid
        self.task = task
        self.stage = stage
        self.state = stage.kitchen.start
        self.steps = 0
        self._forgiven = 0
        self._over = False
        self._listed: dict[str, tuple[Move, ...]] | None = None

    @property
    def goal(self) -> Messages:
        """The rules of the text view, or the compact goal line."""
        return self._view.goal(self.stage)

    @property
    def observation(self) -> Messages:
        """The kitchen as it is."""
        return (Message("user", self._view.observe(self.stage, self.state)),)

    def step(self, action: Message) -> Step:
        """Play one reply.

        ``info``: ``valid`` (it did something), ``steps`` (steps of the original spent so far, invalid replies
        included), and when the dish is done ``reward_parts``.
        """
        text, parsed = self._view.read(action.content)
        moves = self._options().get(text)
        if moves is None:
            return self._refused(text, parsed)
        self._forgiven, self._listed = 0, None
        kitchen = self.stage.kitchen
        done = False
        for move in moves:
            self.state = kitchen.after(self.state, move)
            self.steps += 1
            done = kitchen.done(self.state.bits)
            if done:
                break
        self._over = done or self._spent()
        info: dict[str, Any] = {"valid": True, "steps": self.steps}
        if done:
            info["reward_parts"] = {"done": 1.0}
        return Step(self.observation, float(done), self._over, True, info)

    def _refused(self, text: str, parsed: bool) -> Step:
        if self._forgiven < self._free_invalid:
            self._forgiven += 1
        else:
            self.steps += 1
        self._over = self._over or self._spent()
        shown = self._view.refuse(text, self._view.observe(self.stage, self.state))
        return Step((Message("user", shown),), 0.0, self._over, parsed, {"valid": False, "steps": self.steps})

    def _spent(self) -> bool:
        return 0 < int(self.task.data.get("cap", 0)) <= self.steps

    def actions(self) -> Sequence[str]:
        """Every valid action, in the order of the text's list (compact: station by station)."""
        return list(self._options())

    def _options(self) -> dict[str, tuple[Move, ...]]:
        if self._over:
            return {}
        if self._listed is None:
            self._listed = self._view.options(self.stage, self.state)
        return self._listed

    def advice(self) -> Advice:
        """All first actions of shortest plans from here, their length in this view's actions, and whether that is
        proven. Raises EnvError when the episode is over, the kitchen has several players, or no plan is found."""
        if self._over:
            raise EnvError(f"robotouille: task {self.task.id} is over; there is nothing left to plan")
        return self._view.planner(self.stage).advice(self.state)

    def snapshot(self) -> EpisodeState:
        return EpisodeState(self.task, self.state, self.steps, self._forgiven, self._over)

    def resume(self, state: EpisodeState) -> None:
        """Go on from a snapshot of an episode of the same task."""
        self.state, self.steps, self._forgiven, self._over = state.state, state.steps, state.forgiven, state.over
        self._listed = None

    def close(self) -> None:
        """Nothing to free: episodes own no resources."""
