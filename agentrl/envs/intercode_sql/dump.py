"""Reads a MySQL dump: databases, tables, keys and rows, nothing executed.

Understands what mysqldump writes (``CREATE TABLE`` with keys and constraints, ``INSERT INTO ... VALUES``, ``USE``) and
passes over the rest. Values become int, float, text or None; what they mean is the column's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentrl.envs.intercode_sql.schema import Column, Database, Reference, Table
from agentrl.errors import DataError

USE = re.compile(r"USE\s+`([^`]+)`", re.IGNORECASE)
CREATE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?`([^`]+)` \((.*)\)[^)]*$", re.IGNORECASE | re.DOTALL)
INSERT = re.compile(r"INSERT INTO `([^`]+)`\s+VALUES\s*", re.IGNORECASE)
COLUMN = re.compile(r"`([^`]+)` ([a-z]+(?:\([^)]*\))?)(.*)", re.IGNORECASE | re.DOTALL)
KEY = re.compile(r"(PRIMARY|UNIQUE|FULLTEXT|SPATIAL)? ?KEY(?: `[^`]+`)? \((.*)\)", re.IGNORECASE | re.DOTALL)
FOREIGN = re.compile(r"FOREIGN KEY \(([^)]*)\) REFERENCES `([^`]+)` \(([^)]*)\)", re.IGNORECASE)
DEFAULT = re.compile(r"DEFAULT ('(?:[^'\\]|\\.|'')*'|[^\s,]+)", re.IGNORECASE)
VALUE = re.compile(r"'((?:[^'\\]|\\.|'')*)'|([^\s,()']+)", re.DOTALL)
PIECE = re.compile(r"'(?:[^'\\]|\\.|'')*'|`[^`]*`|/\*.*?\*/|--[ \t][^\n]*|;|[^;'`/-]+|[/-]", re.DOTALL)
ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}
NAME = re.compile(r"`([^`]+)`")


def read_dump(path: Path) -> dict[str, Database]:
    """All databases of a dump by lower-case name. Raises DataError when the file is missing or no whole dump."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the dump could not be read ({error}); is it there, and whole?") from None
    tables: dict[str, dict[str, Table]] = {}
    rows: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
    current = ""
    for statement in statements(text):
        if use := USE.match(statement):
            current = use[1].lower()
            tables.setdefault(current, {})
            rows.setdefault(current, {})
        elif create := CREATE.match(statement):
            _require_database(path, current, create[1])
            tables[current][create[1]] = _table(path, create[1], create[2])
            rows[current].setdefault(create[1], [])
        elif insert := INSERT.match(statement):
            _require_table(path, tables.get(current, {}), insert[1])
            rows[current][insert[1]] += _rows(path, tables[current][insert[1]], statement[insert.end() :])
    if not any(tables.values()):
        raise DataError(f"{path}: no CREATE TABLE found; expected a dump that mysqldump wrote")
    return {name: Database(name, tuple(found.values()), rows[name]) for name, found in tables.items()}


def statements(text: str) -> Iterator[str]:
    """The statements of a dump, without comments (those of the ``/*!...*/`` kind included)."""
    parts: list[str] = []
    for piece in PIECE.findall(text):
        if piece == ";":
            yield "".join(parts).strip()
            parts = []
        elif not piece.startswith(("/*", "--")):
            parts.append(piece)
    if rest := "".join(parts).strip():
        yield rest


def _require_database(path: Path, current: str, table: str) -> None:
    if not current:
        raise DataError(f"{path}: table `{table}` comes before any USE; expected a dump made with --databases")


def _require_table(path: Path, tables: dict[str, Table], name: str) -> None:
    if name not in tables:
        raise DataError(f"{path}: rows for table `{name}`, which is not created before; is the dump whole?")


def _table(path: Path, name: str, body: str) -> Table:
    columns: list[Column] = []
    primary: tuple[str, ...] = ()
    unique: list[tuple[str, ...]] = []
    keys: list[tuple[str, ...]] = []
    references: list[Reference] = []
    for line in body.split(",\n"):
        line = line.strip()
        if foreign := FOREIGN.search(line):
            references.append(Reference(_names(foreign[1]), foreign[2], _names(foreign[3])))
        elif line.startswith("`"):
            columns.append(_column(path, name, line))
        elif key := KEY.match(line):
            if (key[1] or "").upper() == "PRIMARY":
                primary = _names(key[2])
            else:
                (unique if (key[1] or "").upper() == "UNIQUE" else keys).append(_names(key[2]))
    return Table(name, tuple(columns), primary, tuple(unique), tuple(keys), tuple(references))


def _column(path: Path, table: str, line: str) -> Column:
    found = COLUMN.match(line)
    if found is None:
        raise DataError(f"{path}: table `{table}` has a column that cannot be read: {line[:80]!r}")
    rest = found[3].upper()
    default = DEFAULT.search(found[3])
    value = None if default is None or default[1].upper() == "NULL" else _unquote(default[1])
    extra = "auto_increment" if "AUTO_INCREMENT" in rest else ""
    return Column(found[1], found[2].lower(), "NOT NULL" not in rest, value, extra)


def _names(text: str) -> tuple[str, ...]:
    return tuple(NAME.findall(text))


def _rows(path: Path, table: Table, text: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a VALUES list: commas and brackets outside quotes only ever separate."""
    width = len(table.columns)
    values: list[Any] = []
    for quoted, plain in VALUE.findall(text):
        values.append(_plain(plain) if plain else _unescape(quoted))
        if len(values) == width:
            yield tuple(values)
            values = []
    if values:
        raise DataError(f"{path}: a row of table `{table.name}` has not {width} values; is the dump whole?")


def _plain(text: str) -> Any:
    if text.upper() == "NULL":
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _unquote(text: str) -> str:
    return _unescape(text[1:-1]) if text.startswith("'") else text


def _unescape(text: str) -> str:
    if "\\" not in text and "''" not in text:
        return text
    return ESCAPE.sub(lambda found: ESCAPES.get(found[1], found[1]) if found[1] else "'", text)
