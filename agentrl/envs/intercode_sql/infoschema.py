"""``information_schema`` as tables like any others: what models ask when they do not know the databases.

Four of MySQL's tables (TABLES, COLUMNS, SCHEMATA, KEY_COLUMN_USAGE) with MySQL 8's columns. Sizes and times, which a
server makes up as it goes, are NULL. They show the data set as it was built, not what an episode changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agentrl.envs.intercode_sql.schema import Column, Database, Table

NAME = "information_schema"
COLLATION = "utf8mb4_general_ci"
RIGHTS = "select,insert,update,references"


def _columns(text: str) -> tuple[Column, ...]:
    """``NAME:kind`` pairs; kinds are s (text), n (number) and t (time)."""
    kinds = {"s": "varchar(255)", "n": "bigint", "t": "datetime"}
    return tuple(Column(name, kinds[kind]) for name, kind in (pair.split(":") for pair in text.split()))


TABLES = Table(
    "TABLES",
    _columns(
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s TABLE_TYPE:s ENGINE:s VERSION:n ROW_FORMAT:s TABLE_ROWS:n"
        " AVG_ROW_LENGTH:n DATA_LENGTH:n MAX_DATA_LENGTH:n INDEX_LENGTH:n DATA_FREE:n AUTO_INCREMENT:n CREATE_TIME:t"
        " UPDATE_TIME:t CHECK_TIME:t TABLE_COLLATION:s CHECKSUM:n CREATE_OPTIONS:s TABLE_COMMENT:s"
    ),
)
COLUMNS = Table(
    "COLUMNS",
    _columns(
        "TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s COLUMN_NAME:s ORDINAL_POSITION:n COLUMN_DEFAULT:s IS_NULLABLE:s"
        " DATA_TYPE:s CHARACTER_MAXIMUM_LENGTH:n CHARACTER_OCTET_LENGTH:n NUMERIC_PRECISION:n NUMERIC_SCALE:n"
        " DATETIME_PRECISION:n CHARACTER_SET_NAME:s COLLATION_NAME:s COLUMN_TYPE:s COLUMN_KEY:s EXTRA:s PRIVILEGES:s"
        " COLUMN_COMMENT:s GENERATION_EXPRESSION:s SRS_ID:n"
    ),
)
SCHEMATA = Table(
    "SCHEMATA",
    _columns("CATALOG_NAME:s SCHEMA_NAME:s DEFAULT_CHARACTER_SET_NAME:s DEFAULT_COLLATION_NAME:s SQL_PATH:s"),
)
KEYS = Table(
    "KEY_COLUMN_USAGE",
    _columns(
        "CONSTRAINT_CATALOG:s CONSTRAINT_SCHEMA:s CONSTRAINT_NAME:s TABLE_CATALOG:s TABLE_SCHEMA:s TABLE_NAME:s"
        " COLUMN_NAME:s ORDINAL_POSITION:n POSITION_IN_UNIQUE_CONSTRAINT:n REFERENCED_TABLE_SCHEMA:s"
        " REFERENCED_TABLE_NAME:s REFERENCED_COLUMN_NAME:s"
    ),
)
Row = tuple[Any, ...]


def information_schema(databases: Mapping[str, Database]) -> Database:
    """The tables about these databases, with their rows."""
    rows: dict[str, list[Row]] = {table.name: [] for table in (TABLES, COLUMNS, SCHEMATA, KEYS)}
    for name in sorted(databases):
        rows["SCHEMATA"].append(("def", name, "utf8mb4", COLLATION, None))
        for table in sorted(databases[name].tables, key=lambda table: table.name.lower()):
            label = table.name.lower()
            count = len(databases[name].rows.get(table.name, ()))
            start = ("def", name, label, "BASE TABLE", "InnoDB", 10, "Dynamic", count)
            rows["TABLES"].append((*start, *([None] * 9), COLLATION, None, "", ""))
            rows["COLUMNS"] += [_column(name, table, column, place) for place, column in enumerate(table.columns, 1)]
            rows["KEY_COLUMN_USAGE"] += _keys(name, table)
    return Database(NAME, (TABLES, COLUMNS, SCHEMATA, KEYS), rows)


def _column(database: str, table: Table, column: Column, place: int) -> Row:
    kind = re.split(r"[( ]", column.declared)[0]
    text = column.type.kind == "text"
    size = re.search(r"\((\d+)\)", column.declared)
    length = (int(size[1]) if size else 65535) if text else None
    octets = (int(size[1]) * 4 if size else 65535) if text else None
    return (
        "def", database, table.name.lower(), column.name, place, column.default, "YES" if column.nullable else "NO",
        kind, length, octets, None if text else 10, 0 if column.type.kind == "int" else None, None,
        "utf8mb4" if text else None, COLLATION if text else None, column.declared, table.key_mark(column), column.extra,
        RIGHTS, "", "", None,
    )  # fmt: skip


def _keys(database: str, table: Table) -> list[Row]:
    label = table.name.lower()
    own = [
        ("def", database, "PRIMARY", "def", database, label, column, place, None, None, None, None)
        for place, column in enumerate(table.primary, 1)
    ]
    foreign = [
        ("def", database, f"{label}_ibfk_{number}", "def", database, label, column, place, place, database,
         reference.target.lower(), reference.target_columns[place - 1])
        for number, reference in enumerate(table.references, 1)
        for place, column in enumerate(reference.columns, 1)
    ]  # fmt: skip
    return [*own, *foreign]
