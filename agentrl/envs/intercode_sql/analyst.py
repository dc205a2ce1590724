"""A player that knows the gold query, with a noise dial.

Without noise it looks at a table (text view), runs the gold query, and submits when it sees its result. At every turn,
with probability ``noise``, it errs as a hasty analyst would:

* before any query it submits at once (7 of 10 errors), or runs a wrong query;
* behind a wrong result it submits that;
* behind the right result it runs a wrong query instead of submitting.

A wrong query is the right one with another column, with another table, without its condition, or with its condition or
order turned round.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from agentrl.envs.base import Episode
from agentrl.envs.intercode_sql.questions import Ask
from agentrl.envs.intercode_sql.schema import Database
from agentrl.envs.intercode_sql.syntax import SqlError, parse
from agentrl.errors import EnvError
from agentrl.types import Message

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.env import SqlEpisode

AT_ONCE = 0.7  # share of the errors before any query that are a submit
SUBMIT = "submit"


class Analyst:
    """Plays episodes of any view. Equal (noise, seed) and equal order of calls give equal play."""

    def __init__(self, noise: float, seed: int) -> None:
        if not 0.0 <= noise <= 1.0:
            raise EnvError(f"expert noise is {noise}; expected a number from 0 (careful) to 1")
        self._noise = noise
        self._rng = random.Random(f"analyst/{seed}")

    def __call__(self, episode: Episode) -> Message:
        playing: SqlEpisode = episode  # type: ignore[assignment]
        erring = self._rng.random() < self._noise
        return Message("assistant", playing.say(self._choice(playing, erring)))

    def _choice(self, episode: SqlEpisode, erring: bool) -> str:
        ask = episode.question.ask if episode.compact else None
        right = ask.action if ask is not None else episode.question.gold
        if episode.reward_now >= 1.0 and episode.has_answer:
            return self._wrong(episode, ask) if erring else SUBMIT
        if not erring:
            return right if ask is not None or episode.result is not None else _look(episode)
        if episode.result is not None and (ask is not None or episode.has_answer):
            return SUBMIT
        return SUBMIT if self._rng.random() < AT_ONCE else self._wrong(episode, ask)

    def _wrong(self, episode: SqlEpisode, ask: Ask | None) -> str:
        if ask is not None:
            return wrong_ask(ask, episode.schema(), self._rng).action
        return wrong_sql(episode.question.gold, episode.schema(), self._rng)


def _look(episode: SqlEpisode) -> str:
    """A look at the first table that the gold query uses."""
    try:
        tables = [table.name for table in parse(episode.question.gold).find_all(exp.Table)]
    except SqlError:
        tables = []
    return f"DESC {tables[0]}" if tables else "SHOW TABLES"


def wrong_ask(ask: Ask, database: Database, rng: random.Random) -> Ask:
    """A compact query that differs from the right one in one place."""
    table = database.by_name[ask.table]
    columns = [c.name for c in table.columns if c.name not in (ask.column, "id") and not c.name.endswith("_id")]
    others = [name for name in database.by_name if name not in (ask.table, ask.other)]
    made = [replace(ask, column=column) for column in columns] + [replace(ask, table=name) for name in others]
    if ask.where:
        made += [replace(ask, where="", operator="", value="", other="")] * 3
        if ask.operator != "=":
            made += [replace(ask, operator="<" if ask.operator == ">" else ">")] * 2
    if ask.order:
        made += [replace(ask, down=not ask.down)] * 3
    if ask.group:
        made += [replace(ask, group="", counted=False, having="")] * 2
    return rng.choice([one for one in made if one != ask] or [replace(ask, column="count", aggregate="")])


def wrong_sql(gold: str, database: Database, rng: random.Random) -> str:
    """A statement that differs from the right one in one place."""
    try:
        tree = parse(gold)
    except SqlError:
        return "SHOW TABLES"
    edits: list[Callable[[], None]] = []
    names = [column.name for table in database.tables for column in table.columns]
    for column in tree.find_all(exp.Column):
        if isinstance(column.this, exp.Identifier):
            edits.append(lambda column=column: column.set("this", exp.to_identifier(rng.choice(names))))  # type: ignore[misc]
    for table in tree.find_all(exp.Table):
        other = rng.choice(database.tables).name
        edits.append(lambda table=table, other=other: table.set("this", exp.to_identifier(other)))  # type: ignore[misc]
    for select in tree.find_all(exp.Select):
        for clause in ("where", "having", "limit", "order"):
            if select.args.get(clause):
                edits.append(lambda select=select, clause=clause: select.set(clause, None))  # type: ignore[misc]
    if edits:
        rng.choice(edits)()
    return tree.sql(dialect="mysql")
