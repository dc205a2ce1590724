"""What the policy is shown at each turn: the whole history, or a window of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrl.chat.chat import Chat
from agentrl.types import Messages, Turn


class Context(Protocol):
    """What the policy is shown at each turn. Built from ``conf/context/<name>.yaml``."""

    def prompt(
        self, chat: Chat, goal: Messages, first_observation: Messages, turns: Sequence[Turn], tools: str = ""
    ) -> tuple[int, ...]:
        """Prompt ids of the next turn, given the turns played so far and the tools on offer."""
        ...


@dataclass(frozen=True)
class History:
    """One growing sequence per episode: every prompt extends the tokens that were sampled before."""

    def prompt(
        self, chat: Chat, goal: Messages, first_observation: Messages, turns: Sequence[Turn], tools: str = ""
    ) -> tuple[int, ...]:
        if not turns:
            return chat.render((*goal, *first_observation), tools)
        last = turns[-1]
        closed = last.action_ids[-1:] == (chat.turn_end,)  # else it was cut, or ended the text: closed outside the loss
        end = () if closed else (chat.turn_end,)
        return (*last.prompt_ids, *last.action_ids, *end, *chat.delta(last.observation, tools))


@dataclass(frozen=True)
class Window:
    """The goal, the last ``turns`` exchanges and the current observation, rendered anew at every turn."""

    turns: int

    def __post_init__(self) -> None:
        if self.turns < 0:
            raise ValueError(f"context.turns: got {self.turns}, expected 0 (only the current observation) or more")

    def prompt(
        self, chat: Chat, goal: Messages, first_observation: Messages, turns: Sequence[Turn], tools: str = ""
    ) -> tuple[int, ...]:
        seen = (first_observation, *(turn.observation for turn in turns))
        start = max(0, len(turns) - self.turns)
        messages = [*goal]
        for index in range(start, len(turns)):
            messages += [*seen[index], turns[index].action]
        return chat.render((*messages, *seen[-1]), tools)
