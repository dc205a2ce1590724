"""A question as a structure: what is asked of which table, and its three renderings.

``Ask`` is small enough for a tiny model and rich enough for Spider's four levels of hardness. From it come the gold
SQL, the English question of the text view, and the short question and action of the compact view::

    find name of song with singer city = marble
    select name from song join singer where city = marble
    SELECT song.name FROM song JOIN singer ON song.singer_id = singer.id WHERE singer.city = 'marble'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.envs.intercode_sql.schema import Database

AGGREGATES = ("max", "min", "avg", "sum")
OPERATORS = {">": "more than", "<": "less than", "=": ""}
WORD = r"([a-z]+)"
FORMS = re.compile(  # the grammar of compact queries
    rf"select (?:(max|min|avg|sum) )?{WORD}( count)? from {WORD}(?: (join|except) {WORD})?"
    rf"(?: where {WORD} (>|<|=) (avg|[a-z]+|\d+))?(?: group by {WORD}(?: having count > (\d+))?)?"
    rf"(?: order by {WORD}( desc)? limit 1)?"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A query. ``column`` is what is shown (``count``: how many rows), of ``table``.

    ``other`` is a second table: joined (then ``where`` and ``order`` are about its columns), or with ``without`` set
    the one whose rows must not refer to ``table``. ``value`` is a word or number, or ``avg``: the column's own mean.
    """

    column: str
    table: str
    aggregate: str = ""
    other: str = ""
    without: bool = False
    where: str = ""
    operator: str = ""
    value: str = ""
    group: str = ""
    counted: bool = False  # show how many rows each group has
    having: str = ""  # groups with more rows than this
    order: str = ""
    down: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Only what is set (for ``Task.data``)."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> Ask:
        return Ask(**record)

    @property
    def action(self) -> str:
        """The compact query."""
        words = ["select", self.aggregate, self.column, "count" if self.counted else "", "from", self.table]
        if self.other:
            words += ["except" if self.without else "join", self.other]
        if self.where:
            words += ["where", self.where, self.operator, self.value]
        if self.group:
            words += ["group by", self.group, f"having count > {self.having}" if self.having else ""]
        if self.order:
            words += ["order by", self.order, "desc" if self.down else "", "limit 1"]
        return " ".join(filter(None, words))

    def goal(self, database: Database) -> str:
        """The compact question; the table is left out where the columns tell it."""
        names = {self.column, self.group} | ({self.where, self.order} if not self.other else set())
        names -= {"count", ""}
        owners = [table for table in database.tables if names <= table.by_name.keys()]
        words = ["find", self.aggregate, self.column]
        if len(owners) != 1 or not names or self.other:
            words += ["of", self.table]
        if self.without:
            return " ".join([*filter(None, words), "not in", self.other])
        if self.where:
            words += [
                "with",
                self.other,
                self.where,
                *(["more avg"] if self.value == "avg" else [self.operator, self.value]),
            ]
        if self.having:
            words += ["having more", self.having]
        elif self.group:
            return " ".join(["find count", *filter(None, words[3:]), "by", self.group])
        if self.order:
            words += ["with", "max" if self.down else "min", self.other, self.order]
        return " ".join(filter(None, words))

    def english(self) -> str:
        """The question in plain English."""
        if self.group:
            if self.having:
                return f"Which values of {self.group} do more than {self.having} rows of {self.table} have?"
            return (
                f"For each {self.group}, how many rows of {self.table} are there? Show the {self.group} and the count."
            )
        if self.without:
            return f"What is the {self.column} of each {self.table} that no {self.other} refers to?"
        if self.column == "count":
            return f"How many rows of {self.table} are there{self._condition()}?"
        if self.aggregate:
            names = {"max": "highest", "min": "lowest", "avg": "average", "sum": "total"}
            return f"What is the {names[self.aggregate]} {self.column} over {self.table}{self._condition()}?"
        if self.order:
            level = "highest" if self.down else "lowest"
            whose = f"whose {self.other} has the {level}" if self.other else f"with the {level}"
            return f"What is the {self.column} of the {self.table} {whose} {self.order}?"
        return f"What is the {self.column} of each {self.table}{self._condition()}?"

    def _condition(self) -> str:
        if not self.where:
            return ""
        subject = f"{self.other}'s {self.where}" if self.other else self.where
        if self.value == "avg":
            return f" whose {subject} is above the average {self.where}"
        return f" whose {subject} is {OPERATORS[self.operator]} {self.value}".replace("  ", " ")

    def sql(self, database: Database) -> str | None:
        """MySQL for it; None when the tables of a join do not refer to each other."""
        table = self.table
        shown = "COUNT(*)" if self.column == "count" else f"{table}.{self.column}"
        if self.aggregate:
            shown = f"{self.aggregate.upper()}({shown})"
        if self.counted:
            shown += ", COUNT(*)"
        text = f"SELECT {shown} FROM {table}"
        owner = table
        if self.other:
            link = _link(database, table, self.other)
            if link is None:
                return None
            if self.without:
                holder, column = link
                if holder != self.other:
                    return None
                return f"{text} WHERE {table}.id NOT IN (SELECT {column} FROM {self.other})"
            holder, column = link
            target = self.other if holder == table else table
            text += f" JOIN {self.other} ON {holder}.{column} = {target}.id"
            owner = self.other
        if self.where:
            value = self.value if self.value.isdigit() else f"'{self.value}'"
            if self.value == "avg":
                value = f"(SELECT AVG({self.where}) FROM {owner})"
            text += f" WHERE {owner}.{self.where} {self.operator} {value}"
        if self.group:
            text += f" GROUP BY {table}.{self.group}"
            text += f" HAVING COUNT(*) > {self.having}" if self.having else ""
        if self.order:
            text += f" ORDER BY {owner}.{self.order}{' DESC' if self.down else ''} LIMIT 1"
        return text


def read_ask(text: str) -> Ask | None:
    """A compact query; None when it is not in the grammar."""
    found = FORMS.fullmatch(text.strip())
    if found is None:
        return None
    aggregate, column, counted, table, link, other, where, operator, value, group, having, order, down = found.groups(
        ""
    )
    return Ask(
        column, table, aggregate, other, link == "except", where, operator, value, group, bool(counted), having, order,
        bool(down),
    )  # fmt: skip


def _link(database: Database, one: str, other: str) -> tuple[str, str] | None:
    """Which of two tables refers to the other, and by which column."""
    for holder, target in ((one, other), (other, one)):
        table = database.by_name.get(holder)
        for reference in table.references if table else ():
            if reference.target == target:
                return holder, reference.columns[0]
    return None
