"""The expert: the calls that a query still needs, one a turn, each after those that it refers to; then the answer.

``decide`` depends on the state alone, so the expert can take over from any play. At every turn, with probability
``noise``, it errs as a hasty planner would: it answers too early (6 of 10 errors), makes some other call in view, with
a wrong argument or tool (3 of 10), or repeats its last call (1 of 10).
"""

from __future__ import annotations

import random

from agentrl.envs.base import Episode
from agentrl.envs.tool_planning import compact
from agentrl.envs.tool_planning.episode import PlanningEpisode, expert_call
from agentrl.errors import EnvError
from agentrl.toolcalls import read
from agentrl.types import Message, ToolCall

EARLY, OTHER = 0.6, 0.9  # upper ends of the draw of an error


class Planner:
    """Plays episodes. Draws from its own generator: equal (noise, seed) and order of calls give equal play."""

    def __init__(self, noise: float, seed: int) -> None:
        if not 0.0 <= noise <= 1.0:
            raise EnvError(f"expert noise is {noise}; expected a number from 0 (careful) to 1")
        self._noise = noise
        self._rng = random.Random(f"planner/{seed}")

    def __call__(self, episode: Episode) -> Message:
        assert isinstance(episode, PlanningEpisode)
        if self._rng.random() < self._noise:
            return self._mistake(episode)
        return decide(episode)

    def _mistake(self, episode: PlanningEpisode) -> Message:
        draw = self._rng.random()
        if draw >= OTHER and episode.state.calls and not episode.compact_view:
            call = episode.state.calls[-1]
            return Message("assistant", "", (ToolCall(call.tool, call.arguments),))
        if draw >= EARLY:
            text = self._rng.choice(list(episode.actions()))
            calls = read(text).calls
            return Message("assistant", "", calls) if calls else Message("assistant", text)
        return Message("assistant", episode.hasty())


def decide(episode: PlanningEpisode) -> Message:
    """The first required call that is missing and can be made, or the answer."""
    found = episode.matched()
    turn = episode.state.turn
    for requirement in episode.task.data["requirements"]:
        if requirement["id"] in found.pairs or requirement.get("turn", turn) != turn:
            continue
        call = expert_call(requirement, found)
        if call is None or any(other not in found.pairs for other in requirement.get("after", ())):
            continue
        if not episode.compact_view:
            return Message("assistant", "", (call,))
        assert episode.world is not None
        text = compact.expert_action(requirement, episode.state.calls, found.pairs, episode.world)
        return Message("assistant", text)
    return Message("assistant", episode.right() if found.loose else episode.hasty())
