"""What a database looks like: types, columns, tables; and how MySQL would describe them.

Plain records, shared by the dump reader, the generator, the translator and the stores. Names compare without regard
to case, as on a server started with ``--lower_case_table_names=1``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

Kind = Literal["int", "decimal", "double", "float", "text", "binary", "date", "datetime", "time", "null"]
NUMERIC = frozenset({"int", "decimal", "double", "float"})
TEMPORAL = frozenset({"date", "datetime", "time"})
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "bool", "boolean", "year"), "int"),
    **dict.fromkeys(("bit", "serial"), "int"),
    **dict.fromkeys(("decimal", "numeric", "dec", "fixed"), "decimal"),
    **dict.fromkeys(("double", "real"), "double"),
    "float": "float",
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json"), "text"),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "binary"),
    "date": "date",
    **dict.fromkeys(("datetime", "timestamp"), "datetime"),
    "time": "time",
}
DECLARED = re.compile(r"([a-z]+)\s*(?:\(\s*([^)]*)\))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SqlType:
    """The type of a column or an expression.

    ``scale``: digits behind the point of a decimal, or of the display of a float or double (None: as many as it has).
    ``collation``: what SQLite compares this text by without being told (``collation`` module): that of a stored column,
    empty for the outcome of an expression.
    """

    kind: Kind
    scale: int | None = None
    collation: str = ""

    @property
    def numeric(self) -> bool:
        return self.kind in NUMERIC

    @property
    def temporal(self) -> bool:
        return self.kind in TEMPORAL


INT, DOUBLE, TEXT, NULL = SqlType("int"), SqlType("double"), SqlType("text"), SqlType("null")
DATE, DATETIME, TIME = SqlType("date"), SqlType("datetime"), SqlType("time")


def decimal(scale: int) -> SqlType:
    """A decimal with so many digits behind the point (MySQL allows 30)."""
    return SqlType("decimal", min(scale, 30))


def type_of(declared: str) -> SqlType | None:
    """The type behind a MySQL type name as written, such as ``float(10,2)``; None when MySQL has no such type."""
    found = DECLARED.match(declared.strip())
    kind = KINDS.get(found[1].lower()) if found else None
    if found is None or kind is None:
        return None
    sizes = [int(part) for part in (found[2] or "").split(",") if part.strip().isdigit()]
    if kind == "decimal":
        return decimal(sizes[1] if len(sizes) > 1 else 0)
    if kind in ("float", "double") and len(sizes) > 1:
        return SqlType(kind, sizes[1])
    return SqlType(kind)


@dataclass(frozen=True)
class Column:
    """One column as declared.

    ``default`` is its value as text; ``extra`` is ``auto_increment`` or empty; ``collation`` how SQLite compares its
    texts (set by the store that holds them).
    """

    name: str
    declared: str
    nullable: bool = True
    default: str | None = None
    extra: str = ""
    collation: str = ""

    @cached_property
    def type(self) -> SqlType:
        found = type_of(self.declared) or TEXT
        return replace(found, collation=self.collation) if found.kind == "text" else found


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: ``columns`` of this table point to ``target_columns`` of ``target``."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table without its rows. ``unique`` and ``keys`` hold the columns of each index in the order of the dump."""

    name: str
    columns: tuple[Column, ...]
    primary: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    references: tuple[Reference, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns by lower-case name."""
        return {column.name.lower(): column for column in self.columns}

    @cached_property
    def clustered(self) -> tuple[str, ...]:
        """The key that InnoDB keeps the rows in order of: the primary one, else the first unique one without NULLs."""
        if self.primary:
            return self.primary
        whole = (key for key in self.unique if not any(self.by_name[name.lower()].nullable for name in key))
        return next(whole, ())

    def key_mark(self, column: Column) -> str:
        """``PRI``, ``UNI``, ``MUL`` or empty, as DESCRIBE shows it."""
        name = column.name.lower()
        if name in (key.lower() for key in self.primary):
            return "PRI"
        if any(len(key) == 1 and key[0].lower() == name for key in self.unique):
            return "UNI" if self.primary or self.clustered[:1] != (column.name,) else "PRI"
        return "MUL" if any(key[0].lower() == name for key in (*self.keys, *self.unique)) else ""

    def describe(self) -> list[tuple[Any, ...]]:
        """The rows of DESCRIBE: field, type, null, key, default, extra."""
        return [
            (c.name, c.declared, "YES" if c.nullable else "NO", self.key_mark(c), c.default, c.extra)
            for c in self.columns
        ]

    def create_text(self) -> str:
        """A CREATE TABLE statement in MySQL's layout."""
        lines = [f"  `{c.name}` {c.declared}{_column_rest(c)}" for c in self.columns]
        if self.primary:
            lines.append(f"  PRIMARY KEY ({self._key(self.primary)})")
        lines += [f"  UNIQUE KEY `unique_{i}` ({self._key(key)})" for i, key in enumerate(self.unique)]
        lines += [f"  KEY `key_{i}` ({self._key(key)})" for i, key in enumerate(self.keys)]
        body = ",\n".join(lines)
        return (
            f"CREATE TABLE `{self.name}` (\n{body}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"
        )

    def _key(self, names: Sequence[str]) -> str:
        """The columns of a key; long texts by their first 255 characters."""
        long = {name for name in names if self.by_name[name.lower()].declared.endswith(("text", "blob"))}
        return ",".join(f"`{name}`(255)" if name in long else f"`{name}`" for name in names)


def _column_rest(column: Column) -> str:
    if column.extra == "auto_increment":
        return " NOT NULL AUTO_INCREMENT"
    if column.default is not None:
        value = column.default if column.default.upper().startswith("CURRENT_TIMESTAMP") else f"'{column.default}'"
        return ("" if column.nullable else " NOT NULL") + f" DEFAULT {value}"
    return (" DEFAULT NULL" if column.type.kind != "text" else "") if column.nullable else " NOT NULL"


Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Database:
    """A named set of tables; ``rows`` by table name (only while a store is being built)."""

    name: str
    tables: tuple[Table, ...]
    rows: Mapping[str, Rows] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Table]:
        """Tables by lower-case name."""
        return {table.name.lower(): table for table in self.tables}


Catalog = Mapping[str, Database]  # by lower-case name
