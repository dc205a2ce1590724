"""The compact view: a question, the tables and the last result in 20 to 90 known words, for a tiny model.

Each turn shows all that the next action depends on: the tables with their columns (a column that refers to another
table is shown by that table's name), the last query and what it gave, and how many actions are left::

    find name with type = seamless
    tables teacher name salary country | course name type value teacher | student name age city course | none | left 10
    > select name from course where type = seamless
    tables ... | query select name from course where type = seamless | result 3 lumeno norwell corvane | left 9
    > submit

Only generated questions have this view. The grammar of queries is in ``questions.FORMS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agentrl.envs.intercode_sql.questions import read_ask
from agentrl.envs.intercode_sql.schema import Database
from agentrl.envs.intercode_sql.views import Move
from agentrl.types import Message, Messages

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.env import SqlEpisode

COMPACT_WORDS: tuple[str, ...] = ()  # every word of this view is in the tiny tokenizer's vocabulary already
SHOWN = 4  # cells of a result
DONE = "done"
BAD_LINK = "Cannot join these tables"  # only this view's short joins can fail so


def shown_tables(database: Database) -> str:
    """The tables and their columns, ids left out."""
    parts = []
    for table in database.tables:
        links = {reference.columns[0]: reference.target for reference in table.references}
        names = [links.get(column.name, column.name) for column in table.columns if column.name != "id"]
        parts.append(" ".join([table.name, *names]))
    return "tables " + " | ".join(parts)


def shown_result(rows: Sequence[tuple[Any, ...]]) -> str:
    """How many rows, and the first cells."""
    cells = [_cell(cell) for row in rows for cell in row][:SHOWN]
    return " ".join(["result", str(len(rows)), *cells])


def _cell(cell: Any) -> str:
    if isinstance(cell, Decimal | float):
        return str(round(cell))
    return "none" if cell is None else str(cell).lower()


class Compact:
    """The view for tiny models."""

    def goal(self, episode: SqlEpisode) -> Messages:
        return (Message("user", episode.question.short),)

    def observe(self, episode: SqlEpisode) -> str:
        if episode.done:
            return DONE
        return f"{shown_tables(episode.schema())} | {self._last(episode)} | left {episode.left}"

    def _last(self, episode: SqlEpisode) -> str:
        """The last query and what it gave."""
        if episode.invalid:
            return "error"
        if episode.result is None:
            return "none"
        told = "error" if episode.result.rows is None else shown_result(episode.result.rows)
        return f"query {episode.said} | {told}"

    def move(self, episode: SqlEpisode, text: str) -> Move:
        text = text.strip()
        if text == "submit":
            return Move("submit")
        ask = read_ask(text)
        if ask is None:
            return Move("invalid", parsed=False)
        sql = ask.sql(episode.schema())
        return Move("invalid") if sql is None else Move("run", sql)

    def say(self, episode: SqlEpisode, sql: str) -> str:
        return sql

    def actions(self, episode: SqlEpisode) -> Sequence[str]:
        """A plain look at each table, and submit."""
        names = [table.name for table in episode.schema().tables]
        return [
            *(f"select name from {name}" for name in names),
            *(f"select count from {name}" for name in names),
            "submit",
        ]
