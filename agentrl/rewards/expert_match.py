"""1 for the expert's action, else 0: the verifiable reward of single-turn GRPO. arXiv:2509.20616, section II.

For a play of one turn from an expert state (``rollout=single_turn``) with the labels A*(s) that the rollout attached::

    m = 1[said(a) in A*(s)]     A*(s) = {a_GT} (``match: expert``), or all optimal first actions (``match: optimal``)
    R = (1 - w_format) m + w_format 1[a is well formed]

A label is an action that the environment took or listed itself, so a match lies in the list of valid actions.

Differs from the paper: ``optimal`` is ours, for worlds in which the shortest plan is not unique, as the theory assumes;
so are what :func:`said` forgives, and the weight of the format, which the paper mentions without a number (0 here).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from agentrl.errors import ConfigError
from agentrl.ranges import require_shares
from agentrl.rewards.base import scored
from agentrl.types import Group, Message, Trajectory, Turn

ACTION = re.compile(r"^[^\S\n]*action[^\S\n]*:", re.IGNORECASE | re.MULTILINE)
REACT = re.compile(r"\s*(reasoning|thought)[^\S\n]*:.*\S.*\n[^\S\n]*action[^\S\n]*:[^\S\n]*\S[^\n]*\s*", re.I | re.S)


def said(message: Message) -> str:
    """The action of a reply in a form in which equal actions are equal texts.

    Calls of tools: their JSON with sorted keys. Else what the one ``Action:`` line says (what follows it, where the
    line is empty) or, without one or with several, the whole text; in lower case, with single spaces.
    """
    if message.tool_calls:
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls]
        return json.dumps(calls, sort_keys=True, ensure_ascii=False)
    text = message.content
    labels = list(ACTION.finditer(text))
    if len(labels) == 1:
        rest = text[labels[0].end() :]
        text = rest.strip().splitlines()[0] if rest.partition("\n")[0].strip() else rest
    return " ".join(text.lower().split())


class Match(StrEnum):
    """A*(s): the ``expert``'s own action, or all ``optimal`` first actions, where the environment can tell."""

    expert = auto()
    optimal = auto()


class Format(StrEnum):
    """Well formed: the environment ``parsed`` the action; or ``react``, ``Reasoning: ... Action: ...``."""

    parsed = auto()
    react = auto()


FORMAT: Mapping[Format, Callable[[Turn], bool]] = {
    Format.parsed: lambda turn: turn.parsed,
    Format.react: lambda turn: REACT.fullmatch(turn.action.content) is not None,
}


@dataclass(frozen=True)
class ExpertMatch:
    """The schema of conf/reward/expert_match.yaml."""

    match: Match
    w_format: float
    format: Format

    def __post_init__(self) -> None:
        require_shares(self, "reward", "w_format")

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R in [0, 1]; its parts are ``match``, ``format`` and ``valid`` (1: the action is in the list of valid
        ones). Raises ConfigError where the plays carry no labels."""
        return scored(groups, self._worth)

    def _worth(self, play: Trajectory) -> tuple[float, Mapping[str, float]]:
        if not play.turns:
            return 0.0, {"match": 0.0, "format": 0.0, "valid": 0.0}
        turn = play.turns[0]
        action, state = said(turn.action), self._state(play)
        parts = {
            "match": float(action in self._labels(play, state)),
            "format": float(FORMAT[self.format](turn)),
            "valid": float(state["valid"]),
        }
        return (1.0 - self.w_format) * parts["match"] + self.w_format * parts["format"], parts

    def _state(self, play: Trajectory) -> Mapping[str, Any]:
        state = play.turns[0].info.get("state")
        if not isinstance(state, Mapping):
            raise ConfigError(
                f"reward=expert_match: the play of task {play.task.id} has no expert's action to be compared with; use "
                "rollout=single_turn, which plays from expert states"
            )
        return state

    def _labels(self, play: Trajectory, state: Mapping[str, Any]) -> Sequence[str]:
        labels = state[self.match]
        if not isinstance(labels, Sequence):
            raise ConfigError(
                f"reward.match=optimal: for task {play.task.id} the environment does not tell its optimal actions; use "
                "reward.match=expert"
            )
        return labels
