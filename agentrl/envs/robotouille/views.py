"""What a player is shown and how its replies are read: the original's text, or the compact words.

Both play the same kitchen. A reply in the text view is one of the listed actions, bare or on a line that starts with
``Action:`` (the last such line counts); in the compact view the whole reply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from agentrl.envs.robotouille import compact
from agentrl.envs.robotouille.distance import Places
from agentrl.envs.robotouille.domain import ACTIONS
from agentrl.envs.robotouille.kitchen import Kitchen, Move, State
from agentrl.envs.robotouille.planner import Planner, fine
from agentrl.envs.robotouille.text import Describer
from agentrl.types import Message, Messages

RULES = (
    "You control a robot in a kitchen. Each turn you see every object with what is true of it, the valid actions, and"
    " the goal. The robot holds one thing at a time and acts only at the station where it stands. Cutting takes three"
    " cut actions; cooking, frying, filling and boiling go on by themselves for three more steps once started, as long"
    " as the thing stays where it is. Reply with exactly one of the valid actions. You may think first and then end"
    " with a line `Action: <valid action>`. The task ends when the goal is reached."
)
SHOWN = 200  # characters of an invalid action that its answer repeats
_LABELLED = re.compile(r"^[ \t]*Action:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_PLACE = re.compile(r"\\\{[a-z]\d\\\}")
_GRAMMAR = re.compile("|".join(_PLACE.sub(lambda _: r"[a-z]+\d+", re.escape(action.text)) for action in ACTIONS))


@dataclass(frozen=True)
class Stage:
    """A kitchen with everything that is made for it once and shared by its episodes."""

    kitchen: Kitchen
    plan_states: int

    @cached_property
    def describer(self) -> Describer:
        return Describer(self.kitchen)

    @cached_property
    def places(self) -> Places:
        return Places(self.kitchen)

    @cached_property
    def fine_planner(self) -> Planner:
        return Planner(self.kitchen, self.places, fine(self.kitchen), travel=True, budget=self.plan_states)

    @cached_property
    def compact_planner(self) -> Planner:
        return Planner(self.kitchen, self.places, compact.macros(self.kitchen), travel=False, budget=self.plan_states)


class View(Protocol):
    """What an episode needs to be shown and played."""

    def goal(self, stage: Stage, /) -> Messages: ...

    def observe(self, stage: Stage, state: State, /) -> str: ...

    def read(self, reply: str, /) -> tuple[str, bool]:
        """(the action that a reply names, does it follow the grammar?)."""
        ...

    def options(self, stage: Stage, state: State, /) -> dict[str, tuple[Move, ...]]:
        """Every valid action with the original's actions that it stands for."""
        ...

    def planner(self, stage: Stage, /) -> Planner: ...

    def refuse(self, action: str, observation: str, /) -> str:
        """The answer to an invalid action."""
        ...


class TextView:
    """The original's observations and actions."""

    def goal(self, _stage: Stage, /) -> Messages:
        """The rules alone: every observation ends with the goal."""
        return (Message("system", RULES),)

    def observe(self, stage: Stage, state: State, /) -> str:
        return stage.describer.observation(state.bits)

    def read(self, reply: str, /) -> tuple[str, bool]:
        found = _LABELLED.findall(reply)
        action = " ".join((found[-1] if found else reply).split())
        return action, _GRAMMAR.fullmatch(action) is not None

    def options(self, stage: Stage, state: State, /) -> dict[str, tuple[Move, ...]]:
        return {move.text: (move,) for move in stage.kitchen.moves(state.bits)}

    def planner(self, stage: Stage, /) -> Planner:
        return stage.fine_planner

    def refuse(self, action: str, observation: str, /) -> str:
        """The benchmark agent's feedback, and the observation again."""
        return f"The action '{action[:SHOWN]}' is not valid. Please provide a valid action.\n\n{observation}"


class CompactView:
    """Short words for a tiny model (see ``compact``). An invalid action just shows the kitchen again."""

    def goal(self, stage: Stage, /) -> Messages:
        return (Message("user", compact.goal_text(stage.kitchen.problem)),)

    def observe(self, stage: Stage, state: State, /) -> str:
        return compact.observe(stage.kitchen, stage.places.layout(state.bits), state)

    def read(self, reply: str, /) -> tuple[str, bool]:
        action = reply.strip()
        return action, compact.GRAMMAR.fullmatch(action) is not None

    def options(self, stage: Stage, state: State, /) -> dict[str, tuple[Move, ...]]:
        return dict(compact.actions(stage.kitchen, state))

    def planner(self, stage: Stage, /) -> Planner:
        return stage.compact_planner

    def refuse(self, _action: str, observation: str, /) -> str:
        return observation


VIEWS: dict[str, View] = {"text": TextView(), "compact": CompactView()}
