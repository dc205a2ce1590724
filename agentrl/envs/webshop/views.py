"""How a session is shown and how a reply becomes an action: one class for each view.

``TextView`` is the original's text (plain or rich) with its own grammar; ``CompactView`` the short words of
the bundled catalogue for a tiny model. An episode knows neither: it asks its view.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.pages import Session, parse_action
from agentrl.types import Message, Messages

RULES = (
    "You are shopping in a web shop. Find the product that fits the instruction, choose the options it asks for, and"
    " buy it. Reply with one action: search[words] on the search page, or click[label] with a label of the page"
    " (a product id, an option value, Back to Search, < Prev, Next >, Description, Features, Reviews, Buy Now)."
    " Anything else does nothing. If you think first, end with a line `Action: search[words]` or"
    " `Action: click[label]`."
)
_LABELLED = re.compile(r"Action: (.*)")


class View(Protocol):
    """What an episode needs to be shown and played."""

    @property
    def page_size(self) -> int:
        """Products per results page, unless the environment is told otherwise."""
        ...

    def goal(self, goal: Goal, /) -> Messages: ...

    def observe(self, session: Session, /) -> str: ...

    def action(self, session: Session, reply: str, /) -> str | None:
        """The faithful action that a reply means, None when it follows no grammar."""
        ...

    def actions(self, session: Session, /) -> Sequence[str]: ...


def find_action(reply: str) -> str:
    """The action in a reply: inside the first ``<action>`` tag, else after the first ``Action: ``, else all of it."""
    begin = reply.find("<action>")
    end = reply.find("</action>", begin)
    if 0 <= begin < end:
        return reply[begin + len("<action>") : end].strip()
    match = _LABELLED.search(reply)
    return (match[1] if match else reply).strip()


@dataclass(frozen=True)
class TextView:
    """The original's observations and actions; ``rich`` marks buttons (mode ``text_rich``)."""

    rich: bool = False
    page_size: int = 10

    def goal(self, _goal: Goal, /) -> Messages:
        """The rules alone: every page but the last repeats the instruction."""
        return (Message("system", RULES),)

    def observe(self, session: Session) -> str:
        return session.text_rich() if self.rich else session.text()

    def action(self, _session: Session, reply: str, /) -> str | None:
        action = find_action(reply)
        parsed = parse_action(action)
        return action if parsed is not None and parsed[0] in ("search", "click") else None

    def actions(self, session: Session) -> Sequence[str]:
        """Every click that does something, and on the search page a search for the instruction."""
        clicks = [f"click[{label}]" for label in session.clickables() if label != "search"]
        return [f"search[{session.goal.instruction_text.lower()}]", *clicks] if session.has_search_bar else clicks


@dataclass(frozen=True)
class CompactView:
    """Short words for a tiny model (see ``compact``)."""

    page_size: int = 4

    def goal(self, goal: Goal) -> Messages:
        from agentrl.envs.webshop.compact import goal_text

        return (Message("user", goal_text(goal)),)

    def observe(self, session: Session) -> str:
        from agentrl.envs.webshop.compact import observe

        return observe(session, session.shop)

    def action(self, session: Session, reply: str) -> str | None:
        from agentrl.envs.webshop.compact import to_action

        return to_action(session, session.shop, reply)

    def actions(self, session: Session) -> Sequence[str]:
        from agentrl.envs.webshop.compact import actions

        return actions(session, session.shop)


VIEWS: dict[str, View] = {"text": TextView(), "text_rich": TextView(rich=True), "compact": CompactView()}
