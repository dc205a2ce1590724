"""Statements about the databases themselves: SHOW, DESCRIBE, EXPLAIN, USE. Answered from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from agentrl.envs.intercode_sql.functions import STRICT
from agentrl.envs.intercode_sql.queries import Queries
from agentrl.envs.intercode_sql.schema import Catalog, Table
from agentrl.envs.intercode_sql.syntax import RESERVED, SqlError, parse, syntax_error, tokens
from agentrl.envs.intercode_sql.values import Result, Row

NAME = r"(?:`([^`]+)`|([\w$]+))"
PATH = rf"{NAME}(?:\s*\.\s*{NAME})?"
FROM = rf"(?:\s+(?:FROM|IN)\s+{NAME})?"
LIKE = r"(?:\s+LIKE\s+(?P<quote>['\"])(?P<like>.*?)(?P=quote))?"
END = r"\s*;*\s*$"
FLAGS = re.IGNORECASE | re.DOTALL
DATABASES = re.compile(rf"SHOW\s+(?:DATABASES|SCHEMAS){LIKE}{END}", FLAGS)
TABLES = re.compile(rf"SHOW\s+(FULL\s+)?TABLES{FROM}{LIKE}{END}", FLAGS)
COLUMNS = re.compile(rf"SHOW\s+(FULL\s+)?(?:COLUMNS|FIELDS)\s+(?:FROM|IN)\s+{PATH}{FROM}{LIKE}{END}", FLAGS)
CREATE = re.compile(rf"SHOW\s+CREATE\s+TABLE\s+{PATH}{END}", FLAGS)
INDEX = re.compile(rf"SHOW\s+(?:INDEX|INDEXES|KEYS)\s+(?:FROM|IN)\s+{PATH}{FROM}{END}", FLAGS)
DESCRIBE = re.compile(rf"(?:DESC|DESCRIBE|EXPLAIN)\s+(?:TABLE\s+)?{PATH}(?:\s+{NAME})?{END}", FLAGS)
EXPLAIN = re.compile(r"(?:DESC|DESCRIBE|EXPLAIN)\s+(?=\(*\s*(?:SELECT|WITH)\b)", FLAGS)
SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")
USE = re.compile(rf"USE\s+{NAME}{END}", FLAGS)


def use(sql: str, catalog: Catalog) -> str:
    """The database that USE names, in lower case."""
    found = USE.match(sql.strip())
    if found is None:
        raise _no_syntax(sql)
    name = _picked(found, 1).lower()
    if name not in catalog:
        raise SqlError(f"Unknown database '{_picked(found, 1)}'")
    return name


def answer(sql: str, catalog: Catalog, database: str) -> Result:
    """SHOW, DESCRIBE and EXPLAIN. Raises SqlError."""
    text = sql.strip()
    for pattern, handler in _HANDLERS:
        if found := pattern.match(text):
            return Result(handler(found, catalog, database))
    if found := EXPLAIN.match(text):
        return Result(_explain(text[found.end() :], catalog, database))
    raise _no_syntax(sql)


def _no_syntax(sql: str) -> SqlError:
    """The error at the first word that does not fit (after the verb, which does)."""
    words = tokens(sql)
    known = {
        "TABLES",
        "DATABASES",
        "SCHEMAS",
        "COLUMNS",
        "FIELDS",
        "FROM",
        "IN",
        "FULL",
        "CREATE",
        "TABLE",
        "INDEX",
        "KEYS",
    }
    place = next((token.start for token in words[1:] if token.text.upper() not in known), len(sql))
    return syntax_error(sql, place)


def _picked(found: re.Match[str], group: int) -> str:
    """A name that may stand in backticks (groups ``group`` and ``group + 1``)."""
    return found[group] or found[group + 1] or ""


def _matching(names: list[str], pattern: str | None) -> list[str]:
    return [name for name in names if pattern is None or STRICT["like"](name, pattern)]


def _databases(found: re.Match[str], catalog: Catalog, _database: str) -> list[Row]:
    return [(name,) for name in _matching(sorted({*catalog, *SYSTEM}), found["like"])]


def _tables(found: re.Match[str], catalog: Catalog, database: str) -> list[Row]:
    name = (_picked(found, 2) or database).lower()
    if name not in catalog:
        raise SqlError(f"Unknown database '{_picked(found, 2)}'")
    names = _matching(sorted(catalog[name].by_name), found["like"])
    return [(table, "BASE TABLE") if found[1] else (table,) for table in names]


def _table(found: re.Match[str], catalog: Catalog, database: str, group: int, other: str = "") -> Table:
    first, second = _picked(found, group), _picked(found, group + 2)
    name, schema = (second, first) if second else (first, other or database)
    if schema.lower() not in catalog:
        raise SqlError(f"Unknown database '{schema}'")
    table = catalog[schema.lower()].by_name.get(name.lower())
    if table is None:
        raise SqlError(f"Table '{schema.lower()}.{name.lower()}' doesn't exist")
    return table


def _columns(found: re.Match[str], catalog: Catalog, database: str) -> list[Row]:
    table = _table(found, catalog, database, 2, _picked(found, 6))
    kept = set(_matching([column.name for column in table.columns], found["like"]))
    rows = [row for row in table.describe() if row[0] in kept]
    if not found[1]:
        return rows
    texts = {column.name for column in table.columns if column.type.kind == "text"}
    rights = "select,insert,update,references"
    return [
        (name, kind, "utf8mb4_general_ci" if name in texts else None, null, key, default, extra, rights, "")
        for name, kind, null, key, default, extra in rows
    ]


def _create(found: re.Match[str], catalog: Catalog, database: str) -> list[Row]:
    table = _table(found, catalog, database, 1)
    return [(table.name.lower(), table.create_text())]


def _index(found: re.Match[str], catalog: Catalog, database: str) -> list[Row]:
    table = _table(found, catalog, database, 1, _picked(found, 5))
    keys = [("PRIMARY", 0, table.primary)] if table.primary else []
    keys += [("_".join(key), 0, key) for key in table.unique] + [("_".join(key), 1, key) for key in table.keys]
    return [
        (table.name.lower(), unique, name, place, column, "A", None, None, None, "", "BTREE", "", "", "YES", None)
        for name, unique, columns in keys
        for place, column in enumerate(columns, 1)
    ]


def _describe(found: re.Match[str], catalog: Catalog, database: str) -> list[Row]:
    for group in (2, 4):
        if (found[group] or "").upper() in RESERVED:
            raise syntax_error(found.string, found.start(group))
    rows = _table(found, catalog, database, 1).describe()
    wanted = _picked(found, 5).lower()
    return [row for row in rows if not wanted or row[0].lower() == wanted]


def _explain(sql: str, catalog: Catalog, database: str) -> list[Row]:
    """One row for each table that the query reads; the plan itself is not MySQL's and not shown."""
    tree = parse(sql)
    aliases = [table.alias or table.name for table in tree.find_all(exp.Table)]
    Queries(catalog, database).bind(tree)
    simple = "SIMPLE" if len(list(tree.find_all(exp.Select))) <= 1 else "PRIMARY"
    return [(1, simple, name, None, "ALL", None, None, None, None, None, 100.0, None) for name in aliases] or [
        (1, "SIMPLE", None, None, None, None, None, None, None, None, None, "No tables used")
    ]


_HANDLERS: list[tuple[re.Pattern[str], Callable[[re.Match[str], Catalog, str], list[Row]]]] = [
    (DATABASES, _databases),
    (TABLES, _tables),
    (COLUMNS, _columns),
    (CREATE, _create),
    (INDEX, _index),
    (DESCRIBE, _describe),
]
