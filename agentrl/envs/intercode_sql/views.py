"""How an episode is shown and how a reply becomes a move: one class for each form of dialogue.

``Plain``    InterCode's own: the reply is the statement (or holds it in a ```sql block), observations are the text of a
             list of tuples.
``React``    the wrapper of IPR, which ETO-style papers use: ``Action:`` with a ```sql block, observations behind
             ``Observation:``.
``Compact``  short known words for a tiny model; see ``compact``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from agentrl.envs.intercode_sql.syntax import VERBS, verb
from agentrl.types import Message, Messages

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.env import SqlEpisode

RULES = (
    "You answer questions with a MySQL database. In each turn, send exactly one SQL statement; its result is shown as a"
    " list of tuples. Find out which tables and columns exist (SHOW TABLES, DESC table) before you query them. When the"
    " last result shown answers the question, reply with the single word submit: the rows of that result are your"
    " answer, in that order. Reply with the statement alone, or put it into a ```sql block."
)
REACT_RULES = (
    "You answer questions with a MySQL database. In each turn, first think, then act once, in this form:\n"
    "Thought: your reasoning\n"
    "Action: ```sql\nyour statement, on one line\n```\n"
    "The result is shown as a list of tuples. Find out which tables and columns exist (SHOW TABLES, DESC table) before"
    " you query them. When the last result shown answers the question, finish with\n"
    "Action: submit\n"
    "The rows of the last result are your answer, in that order."
)
BLOCK = re.compile(r"```(?:sql|mysql)?[ \t]*\r?\n?(.*?)```", re.DOTALL | re.IGNORECASE)
SQL_BLOCK = re.compile(r"```sql\s*(.*?)\s*```", re.DOTALL)
ACTION = re.compile(r"Action:\s?(.*)", re.DOTALL)
NO_OUTPUT = "[Executed Successfully with No Output]"
INVALID = (
    "I don't understand your input. Write `Action:` followed by one statement in a sql code block, or `Action: submit`."
)
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Move:
    """What a reply means. ``sql`` belongs to ``run``; ``parsed``: it followed the grammar."""

    kind: Literal["run", "submit", "skip", "invalid"]
    sql: str = ""
    parsed: bool = True


class View(Protocol):
    """How to show an episode and read a reply."""

    def goal(self, episode: SqlEpisode) -> Messages: ...

    def observe(self, episode: SqlEpisode) -> str:
        """The observation in the episode's current state."""
        ...

    def move(self, episode: SqlEpisode, text: str) -> Move: ...

    def say(self, episode: SqlEpisode, sql: str) -> str:
        """The reply by which a player sends a statement (or ``submit``)."""
        ...

    def actions(self, episode: SqlEpisode) -> Sequence[str]: ...


def _goal(rules: str, episode: SqlEpisode) -> Messages:
    question = f"Database: {episode.question.db}\nQuestion: {episode.question.query}"
    return (Message("system", rules), Message("user", question))


def _statements(episode: SqlEpisode) -> list[str]:
    """Some statements that help in any state."""
    tables = episode.tables()
    looks = [f"DESC `{name}`" for name in tables] + [f"SELECT * FROM `{name}` LIMIT 5" for name in tables]
    return ["SHOW TABLES", *looks, "submit"]


@dataclass(frozen=True, slots=True)
class Plain:
    """``max_chars``: an observation is cut behind so many characters (0: never)."""

    max_chars: int

    def goal(self, episode: SqlEpisode) -> Messages:
        return _goal(RULES, episode)

    def observe(self, episode: SqlEpisode) -> str:
        if episode.skipped:
            return SKIPPED
        if episode.result is None:
            return "Nothing has been run yet."
        return cut(episode.result.text, self.max_chars)

    def move(self, episode: SqlEpisode, text: str) -> Move:
        block = BLOCK.search(text)
        sql = (block[1] if block else text).strip()
        if sql.lower().startswith("submit"):
            return Move("submit")
        if sql == "skip":
            return Move("skip")
        return Move("run", sql, verb(sql) in VERBS)

    def say(self, episode: SqlEpisode, sql: str) -> str:
        return sql

    def actions(self, episode: SqlEpisode) -> Sequence[str]:
        return _statements(episode)


@dataclass(frozen=True, slots=True)
class React:
    """The IPR wrapper. ``first_line_only``: of a block only the first line is run (the wrapper's own habit)."""

    max_chars: int
    first_line_only: bool

    def goal(self, episode: SqlEpisode) -> Messages:
        return _goal(REACT_RULES, episode)

    def observe(self, episode: SqlEpisode) -> str:
        if episode.skipped:
            return f"Observation: {SKIPPED}"
        if episode.invalid or (episode.result is not None and episode.result.rows is None and not episode.result.error):
            return f"Observation: {INVALID}"
        if episode.result is None:
            return "Observation: nothing has been run yet."
        text = cut(episode.result.text, self.max_chars) or NO_OUTPUT
        if episode.result.error is not None and "Unknown" not in text:
            text += "\n"
        return f"Observation: {text}"

    def move(self, episode: SqlEpisode, text: str) -> Move:
        found = ACTION.search(text)
        if found is None:
            return Move("invalid", parsed=False)
        if "submit" in found[1]:
            return Move("submit")
        block = SQL_BLOCK.search(found[1])
        sql = block[1] if block else ""
        sql = sql.split("\n")[0].strip() if self.first_line_only else sql.strip()
        return Move("run", sql) if sql else Move("invalid", parsed=False)

    def say(self, episode: SqlEpisode, sql: str) -> str:
        if sql == "submit":
            return "Thought: The last result answers the question.\nAction: submit"
        return f"Thought: I run a statement.\nAction: ```sql\n{' '.join(sql.split())}\n```"

    def actions(self, episode: SqlEpisode) -> Sequence[str]:
        return [self.say(episode, sql) for sql in _statements(episode)]


def cut(text: str, most: int) -> str:
    """The text, ended with ``...`` where it is longer than ``most`` characters (0: as it is)."""
    return text if not most or len(text) <= most else text[:most] + "..."
