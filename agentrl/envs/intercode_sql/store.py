"""All databases of a data set in one SQLite image, and connections that cannot do harm.

Tables are kept as ``database.table``. Rows lie in the order of InnoDB's clustered key, texts have a collation that
compares as MySQL does, dates are ISO text. The image is built once and read by every episode; an episode that writes
gets its own copy (``Connection``), gone when it ends.

Every statement runs under limits: virtual machine instructions (so that the same statement is cut on every machine),
rows, characters, memory, and an authorizer that knows only reading (and writing, on copies): no files, no ATTACH, no
PRAGMA, no extensions, no functions but those of ``functions`` and a few of SQLite's own.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.envs.intercode_sql import functions
from agentrl.envs.intercode_sql.calls import AGGREGATES, SCALARS, WINDOWS
from agentrl.envs.intercode_sql.collation import EXACT, PLAIN, is_plain
from agentrl.envs.intercode_sql.infoschema import NAME, information_schema
from agentrl.envs.intercode_sql.queries import mangled
from agentrl.envs.intercode_sql.schema import Catalog, Column, Database, SqlType, Table
from agentrl.envs.intercode_sql.values import Result, convert, single_precision
from agentrl.errors import EnvError

TICK = 1000  # instructions between two looks at the clock of instructions
PAGES = 16384  # of 4 KiB: an episode's copy grows to 64 MiB at most
CELLS = 4_000_000  # characters of text in one result
CHUNK = 32  # rows fetched at once
INTERRUPTED = "Query execution was interrupted, maximum statement execution time exceeded"
OWN = {"like", "ifnull", "coalesce", "nullif", "typeof"}
NATIVE = {known.name for table in (AGGREGATES, SCALARS, WINDOWS) for known in table.values()}
ALLOWED = frozenset(
    {*OWN, *(name for name in NATIVE if not name.startswith(functions.PREFIX))}
    | {functions.PREFIX + name for name in (*functions.STRICT, *functions.LOOSE, *functions.AGGREGATES)}
)
READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
WRITING = READING | {
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_SAVEPOINT,
}
INTERNAL = frozenset(
    {
        "printf",
        "substr",
        "length",
        "sqlite_rename_table",
        "sqlite_rename_column",
        "sqlite_rename_test",
        "sqlite_drop_column",
        "sqlite_rename_quotefix",
    }
)  # what SQLite's ALTER TABLE calls; no statement can name them
CAPS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 2 * functions.MAX_TEXT,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 500_000,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}
AFFINITY = {"int": "INTEGER", "decimal": "REAL", "double": "REAL", "float": "REAL", "binary": "BLOB"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one statement: virtual machine instructions and rows; of the whole process: MiB that SQLite may hold."""

    instructions: int = 20_000_000
    rows: int = 10_000
    memory_mib: int = 512


class Connection:
    """One SQLite connection under limits; safe to share between threads."""

    def __init__(self, image: bytes, limits: Limits, writable: bool = False) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._ticks = 0
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.deserialize(image)
        self._db.execute(f"PRAGMA hard_heap_limit = {limits.memory_mib * 2**20}").fetchall()
        self._db.execute("PRAGMA temp_store = MEMORY")
        self._db.execute(f"PRAGMA max_page_count = {PAGES}").fetchall()
        if not writable:
            self._db.execute("PRAGMA query_only = ON")
        for limit, most in CAPS.items():
            self._db.setlimit(limit, most)
        self._meter = functions.Meter(limits.instructions)
        functions.register(self._db, self._meter)
        self._may = WRITING if writable else READING
        self._db.set_authorizer(self._authorize)
        self._db.set_progress_handler(self._tick, TICK)

    def _authorize(self, action: int, one: str | None, two: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            allowed = ALLOWED | INTERNAL if self._may is WRITING else ALLOWED
            return sqlite3.SQLITE_OK if (two or "").lower() in allowed else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in self._may else sqlite3.SQLITE_DENY

    def _tick(self) -> int:
        self._ticks += 1
        return int(self._ticks * TICK > self._limits.instructions)

    def read(self, sql: str, types: Sequence[SqlType]) -> Result:
        """The rows of a query in the client's types, or the error."""
        with self._lock:
            self._start()
            try:
                cursor = self._db.execute(sql)
                rows, refused = self._fetch(cursor)
                cursor.close()
            except (sqlite3.Error, OverflowError, ValueError, MemoryError) as error:
                return Result(error=told(error))
        if refused:
            return Result(error=refused)
        try:
            return Result(convert(rows, types))
        except (ValueError, OverflowError, ArithmeticError) as error:
            return Result(error=f"Data cannot be shown: {error}")

    def _start(self) -> None:
        self._ticks = self._meter.spent = 0

    def _fetch(self, cursor: sqlite3.Cursor) -> tuple[list[tuple[Any, ...]], str]:
        """The rows, and why there are too many of them (or empty). Long ones are never held all at once."""
        rows: list[tuple[Any, ...]] = []
        size = 0
        while chunk := cursor.fetchmany(CHUNK):
            rows += chunk
            size += sum(len(cell) for row in chunk for cell in row if isinstance(cell, str | bytes))
            if size > CELLS:
                return [], f"The result has more than {CELLS} characters; ask for fewer"
            if len(rows) > self._limits.rows:
                return [], f"The result has more than {self._limits.rows} rows; ask for fewer"
        return rows, ""

    def write(self, statements: Iterable[str]) -> Result:
        """Run all statements, or none of them when one fails."""
        with self._lock:
            self._start()
            self._db.execute("SAVEPOINT statement")
            try:
                for sql in statements:
                    self._db.execute(sql)
            except (sqlite3.Error, OverflowError, ValueError, MemoryError) as error:
                self._start()
                self._db.execute("ROLLBACK TO statement")
                self._db.execute("RELEASE statement")
                return Result(error=told(error))
            self._db.execute("RELEASE statement")
            return Result()

    def close(self) -> None:
        with self._lock:
            self._db.close()


def told(error: BaseException) -> str:
    """SQLite's complaint in MySQL's words."""
    text = str(error)
    if "interrupted" in text:
        return INTERRUPTED
    if "aggregate's 'step' method" in text:
        return "Subquery returns more than 1 row"
    if "user-defined function raised" in text:
        return INTERRUPTED
    if "out of memory" in text or isinstance(error, MemoryError) or "too big" in text or "full" in text:
        return "Memory capacity exceeded; use a smaller query"
    if text.startswith("UNIQUE constraint failed: "):
        column = text.rpartition(".")[2]
        return f"Duplicate entry for key '{column}'"
    if text.startswith("NOT NULL constraint failed: "):
        return f"Column '{text.rpartition('.')[2]}' cannot be null"
    if "integer overflow" in text:
        return "BIGINT value is out of range"
    return f"This version of MySQL doesn't yet support '{text}'"


@dataclass(frozen=True)
class Store:
    """A data set: what it holds (rows left out, collations decided), its SQLite image, and a hash of its content."""

    catalog: Catalog
    image: bytes
    hash: str

    def connect(self, limits: Limits, writable: bool = False) -> Connection:
        """A connection of its own to a copy of the data."""
        return Connection(self.image, limits, writable)


def build(databases: Mapping[str, Database]) -> Store:
    """The store of these databases. Raises EnvError where this Python's SQLite is too old."""
    if sqlite3.sqlite_version_info < (3, 39):
        raise EnvError(
            f"SQLite {sqlite3.sqlite_version} is too old; expected 3.39 or later (RIGHT JOIN): update Python"
        )
    connection = sqlite3.connect(":memory:")
    functions.register(connection, functions.Meter(0))
    catalog: dict[str, Database] = {}
    content = hashlib.sha256()
    everything = {**databases, NAME: information_schema(databases)}
    for name in sorted(everything):
        given = everything[name]
        tables = []
        for table in given.tables:
            rows = given.rows.get(table.name, ())
            kept = _with_collations(table, rows)
            _fill(connection, name, kept, rows)
            tables.append(kept)
            content.update(repr((name, table, tuple(rows))).encode())
        catalog[name] = Database(name, tuple(tables))
    connection.commit()
    image = connection.serialize()
    connection.close()
    return Store(catalog, image, content.hexdigest()[:16])


def _with_collations(table: Table, rows: Sequence[tuple[Any, ...]]) -> Table:
    """Each text column with NOCASE if all its values are plain, else with the exact collation."""
    columns = []
    for place, column in enumerate(table.columns):
        plain = column.type.kind != "text" or all(is_plain(row[place]) for row in rows if isinstance(row[place], str))
        columns.append(replace(column, collation=PLAIN if plain else EXACT))
    return replace(table, columns=tuple(columns))


def create_sql(database: str, table: Table) -> list[str]:
    """CREATE TABLE and CREATE INDEX for SQLite."""
    name = mangled(database, table.name)
    lines = [column_sql(column) for column in table.columns]
    rest = ""
    if table.clustered:
        lines.append(f"PRIMARY KEY ({_names(table.clustered)})")
        rest = " WITHOUT ROWID"
    lines += [f"UNIQUE ({_names(key)})" for key in table.unique if key != table.clustered]
    made = [f'CREATE TABLE "{name}" ({", ".join(lines)}){rest}']
    return made + [f'CREATE INDEX "{name}:{place}" ON "{name}" ({_names(key)})' for place, key in enumerate(table.keys)]


def column_sql(column: Column) -> str:
    """One column definition."""
    kind = AFFINITY.get(column.type.kind, "TEXT")
    collation = f" COLLATE {column.collation or EXACT}" if kind == "TEXT" else ""
    default = "" if column.default is None else f" DEFAULT '{column.default.replace(chr(39), chr(39) * 2)}'"
    return f"{quoted(column.name)} {kind}{collation}{'' if column.nullable else ' NOT NULL'}{default}"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))


def _fill(connection: sqlite3.Connection, database: str, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    for sql in create_sql(database, table):
        connection.execute(sql)
    types = [column.type for column in table.columns]
    marks = ", ".join("?" * len(types))
    stored = (tuple(map(stored_value, row, types)) for row in rows)
    connection.executemany(f'INSERT INTO "{mangled(database, table.name)}" VALUES ({marks})', stored)


def stored_value(value: Any, found: SqlType) -> Any:
    """A value of a dump as the store holds it."""
    if value is None:
        return None
    if found.kind == "float":
        number = functions.number_of(value)
        return single_precision(round(number, found.scale) if found.scale is not None else number)
    if found.kind in ("double", "decimal"):
        return float(functions.number_of(value))
    if found.kind == "text" and not isinstance(value, str):
        return functions.text_of(value)
    return value
