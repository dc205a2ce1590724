"""The bundled data: small databases of everyday things, generated, with questions of Spider's four hardness levels.

Every database has two or three tables that refer to each other, columns and rows of its own, and questions whose gold
query was run on it when it was made: the answer is never empty, and never decided by a tie. All of it follows from
(seed, number of the database); another seed gives other databases.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.envs.intercode_sql.questions import AGGREGATES, Ask
from agentrl.envs.intercode_sql.schema import Column, Database, Reference, Table
from agentrl.envs.webshop.words import BRANDS, COLOURS, MATERIALS, STYLES

DOMAINS: dict[str, tuple[tuple[str, str], ...]] = {  # (table, table it refers to), the first ones first
    "school": (("teacher", ""), ("course", "teacher"), ("student", "course")),
    "music": (("singer", ""), ("song", "singer"), ("concert", "singer")),
    "cars": (("maker", ""), ("car", "maker"), ("owner", "car")),
    "air": (("airline", ""), ("flight", "airline"), ("airport", "")),
    "work": (("department", ""), ("employee", "department"), ("shop", "")),
    "sport": (("team", ""), ("player", "team"), ("stadium", "team")),
    "books": (("author", ""), ("book", "author")),
    "trade": (("shop", ""), ("product", "shop"), ("employee", "shop")),
}
PEOPLE = frozenset({"teacher", "student", "singer", "owner", "employee", "player", "author", "maker"})
NUMBERS = {"price": (5, 99), "number": (1, 99), "value": (1, 99), "age": (18, 60), "salary": (20, 99)}  # column: range
WORDS = {"city": MATERIALS, "country": BRANDS, "type": STYLES, "team": COLOURS}  # text columns draw from few of these
ROWS = (6, 12)
LEVELS = ("easy", "medium", "hard", "extra")
Cells = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One task: ``db``, the question ``query``, its ``gold`` SQL and ``hardness``.

    Generated ones bring their structure ``ask`` and their ``short`` form, for the compact view.
    """

    db: str
    query: str
    gold: str
    hardness: str
    ask: Ask | None = None
    short: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What ``Task.data`` holds."""
        record: dict[str, Any] = {"db": self.db, "query": self.query, "gold": self.gold, "hardness": self.hardness}
        return record if self.ask is None else record | {"ask": self.ask.to_dict(), "short": self.short}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> Question:
        ask = record.get("ask")
        plain = (record["db"], record["query"], record["gold"], record["hardness"])
        return Question(*plain, Ask.from_dict(ask) if ask else None, record.get("short", ""))


def generate(databases: int, questions: int, seed: int) -> tuple[dict[str, Database], list[Question]]:
    """``databases`` databases by name, and up to ``questions`` questions about each."""
    made: dict[str, Database] = {}
    asked: list[Question] = []
    for number in range(databases):
        rng = random.Random(f"intercode_sql/{seed}/{number}")
        database = _database(f"{rng.choice(list(DOMAINS))}_{number}", rng)
        made[database.name] = database
        asked += _questions(database, questions, rng)
    return made, asked


def _database(name: str, rng: random.Random) -> Database:
    tables: list[Table] = []
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for table, target in DOMAINS[name.partition("_")[0]]:
        numbers = ["age", "salary"] if table in PEOPLE else ["price", "number", "value"]
        picked = [*rng.sample(numbers, rng.randint(1, 2)), rng.choice(["city", "country", "type"])]
        columns = [Column("id", "int", False, None, "auto_increment"), Column("name", "varchar(20)")]
        columns += [Column(c, "int" if c in NUMBERS else "varchar(20)") for c in picked]
        references: tuple[Reference, ...] = ()
        if target:
            columns.append(Column(f"{target}_id", "int"))
            references = (Reference((f"{target}_id",), target, ("id",)),)
        keys = ((f"{target}_id",),) if target else ()
        tables.append(Table(table, tuple(columns), ("id",), (), keys, references))
        rows[table] = _rows(picked, len(rows[target]) if target else 0, rng)
    return Database(name, tuple(tables), rows)


def _rows(columns: list[str], targets: int, rng: random.Random) -> list[tuple[Any, ...]]:
    count = rng.randint(*ROWS)
    names = rng.sample(BRANDS, count)
    pools = {column: rng.sample(WORDS[column], 4) for column in columns if column in WORDS}
    used = max(1, targets - rng.randint(1, 3))  # some rows of the other table are never referred to
    rows = []
    for place in range(count):
        cells = [rng.choice(pools[c]) if c in pools else rng.randint(*NUMBERS[c]) for c in columns]
        rows.append((place + 1, names[place], *cells, *([rng.randint(1, used)] if targets else [])))
    return rows


def _questions(database: Database, count: int, rng: random.Random) -> list[Question]:
    """Questions of all levels in turn, none twice."""
    maker = _Maker(database, rng)
    found: dict[str, Question] = {}
    for attempt in range(count * 8):
        if len(found) == count:
            break
        level = LEVELS[attempt % len(LEVELS)]
        ask = rng.choice(maker.kinds[level])()
        gold = ask.sql(database) if ask is not None else None
        if ask is not None and gold is not None and (goal := ask.goal(database)) not in found:
            found[goal] = Question(database.name, ask.english(), gold, level, ask, goal)
    return list(found.values())


class _Maker:
    """Draws questions about one database; a draw that would have an empty or ambiguous answer gives None."""

    def __init__(self, database: Database, rng: random.Random) -> None:
        self._rng = rng
        self._tables = database.tables
        self._rows: dict[str, list[Cells]] = {
            table.name: [
                dict(zip((c.name for c in table.columns), row, strict=True)) for row in database.rows[table.name]
            ]
            for table in database.tables
        }
        self.kinds: dict[str, tuple[Callable[[], Ask | None], ...]] = {
            "easy": (self._listed, self._count, self._extreme),
            "medium": (self._top, self._groups, self._extreme_where, self._count_where),
            "hard": (self._joined, self._having, self._joined_count),
            "extra": (self._above, self._without, self._joined_top),
        }

    def _table(self) -> Table:
        return self._rng.choice(self._tables)

    def _column(self, table: str, numeric: bool) -> str:
        pool = NUMBERS if numeric else WORDS
        names = [name for name in self._rows[table][0] if name in pool]
        return self._rng.choice(names)

    def _where(self, table: str) -> Cells:
        """A condition that some rows meet and some do not."""
        rows = self._rows[table]
        numeric = self._rng.random() < 0.5
        column = self._column(table, numeric)
        if not numeric:
            return {"where": column, "operator": "=", "value": self._rng.choice(rows)[column]}
        values = sorted({row[column] for row in rows})
        if len(values) < 3:
            return {}
        return {"where": column, "operator": self._rng.choice("><"), "value": str(self._rng.choice(values[1:-1]))}

    def _listed(self) -> Ask | None:
        table = self._table().name
        where = self._where(table)
        return Ask("name", table, **where) if where else None

    def _count(self) -> Ask | None:
        return Ask("count", self._table().name)

    def _count_where(self) -> Ask | None:
        table = self._table().name
        where = self._where(table)
        return Ask("count", table, **where) if where else None

    def _extreme(self) -> Ask | None:
        table = self._table().name
        return Ask(self._column(table, True), table, self._rng.choice(AGGREGATES))

    def _extreme_where(self) -> Ask | None:
        table = self._table().name
        where = self._where(table)
        return Ask(self._column(table, True), table, self._rng.choice(AGGREGATES), **where) if where else None

    def _ordered(self, rows: list[Cells], column: str) -> bool | None:
        """Upwards or downwards, whichever has one winner."""
        values = sorted(row[column] for row in rows)
        fits = [
            down for down in (False, True) if len(values) > 1 and values[-1 if down else 0] != values[-2 if down else 1]
        ]
        return self._rng.choice(fits) if fits else None

    def _top(self) -> Ask | None:
        table = self._table().name
        column = self._column(table, True)
        down = self._ordered(self._rows[table], column)
        return None if down is None else Ask("name", table, order=column, down=down)

    def _groups(self) -> Ask | None:
        table = self._table().name
        column = self._column(table, False)
        return Ask(column, table, group=column, counted=True)

    def _having(self) -> Ask | None:
        table = self._table().name
        column = self._column(table, False)
        counts: dict[str, int] = {}
        for row in self._rows[table]:
            counts[row[column]] = counts.get(row[column], 0) + 1
        least = self._rng.randint(1, 3)
        if not any(count > least for count in counts.values()):
            return None
        return Ask(column, table, group=column, having=str(least))

    def _pair(self) -> tuple[str, str, list[Cells]] | None:
        """A table that refers to another, that other, and the other's row for each of its rows."""
        linked = [table for table in self._tables if table.references]
        table = self._rng.choice(linked)
        reference = table.references[0]
        targets = {row["id"]: row for row in self._rows[reference.target]}
        joined = [targets[row[reference.columns[0]]] for row in self._rows[table.name]]
        return table.name, reference.target, joined

    def _joined(self) -> Ask | None:
        return self._over_join("name")

    def _joined_count(self) -> Ask | None:
        return self._over_join("count")

    def _over_join(self, column: str) -> Ask | None:
        pair = self._pair()
        if pair is None:
            return None
        table, other, joined = pair
        where = self._where(other)
        if not where or not any(_meets(row, where) for row in joined):
            return None
        return Ask(column, table, other=other, **where)

    def _joined_top(self) -> Ask | None:
        pair = self._pair()
        if pair is None:
            return None
        table, other, joined = pair
        column = self._column(other, True)
        down = self._ordered(joined, column)
        return None if down is None else Ask("name", table, other=other, order=column, down=down)

    def _above(self) -> Ask | None:
        table = self._table().name
        return Ask("name", table, where=self._column(table, True), operator=">", value="avg")

    def _without(self) -> Ask | None:
        pair = self._pair()
        if pair is None:
            return None
        table, other, joined = pair
        if len({row["id"] for row in joined}) == len(self._rows[other]):
            return None
        return Ask("name", other, other=table, without=True)


def _meets(row: Cells, where: Cells) -> bool:
    value = row[where["where"]]
    if where["operator"] == "=":
        return bool(value == where["value"])
    return bool(value > int(where["value"]) if where["operator"] == ">" else value < int(where["value"]))
