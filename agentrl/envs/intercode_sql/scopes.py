"""Which names a query may use where, and MySQL's words when it may not.

A scope is one SELECT: its sources in order of FROM, and the scope around it. Names are looked up inside out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from agentrl.envs.intercode_sql.schema import SqlType
from agentrl.envs.intercode_sql.syntax import SqlError

FIELDS, WHERE, ON, GROUP, HAVING, ORDER = (
    "field list",
    "where clause",
    "on clause",
    "group statement",
    "having clause",
    "order clause",
)


@dataclass(frozen=True, slots=True)
class Output:
    """One column that a query gives: its name, its type."""

    name: str
    type: SqlType


@dataclass(slots=True)
class Source:
    """A table, derived table or common table in FROM. ``merged``: columns that USING joined into an earlier one."""

    alias: str
    database: str
    columns: Mapping[str, Output]
    merged: set[str] = field(default_factory=set)

    def column(self, name: str) -> exp.Column:
        """The column, in full."""
        return exp.column(exp.to_identifier(self.columns[name].name, quoted=True), exp.to_identifier(self.alias, True))


@dataclass(slots=True)
class Scope:
    """The sources of one SELECT. ``items``: its bound outputs by name, for the clauses that may use them."""

    parent: Scope | None
    sources: dict[str, Source] = field(default_factory=dict)
    items: dict[str, tuple[exp.Expr, SqlType]] = field(default_factory=dict)
    common: dict[str, list[Output]] = field(default_factory=dict)
    visible: set[str] | None = None  # while an ON clause is read: the sources joined so far

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def parent_for_derived(self) -> Scope:
        """What a derived table in FROM may see: the common tables of this scope, and what lies around it."""
        return Scope(self.parent, common=self.common)

    def seen(self) -> list[Source]:
        """The sources that may be named now."""
        return [s for name, s in self.sources.items() if self.visible is None or name in self.visible]

    def common_table(self, name: str) -> list[Output] | None:
        """The columns of a common table expression, from here outwards."""
        return next((scope.common[name] for scope in self.chain() if name in scope.common), None)


def find(scope: Scope, column: exp.Column, clause: str) -> tuple[exp.Expr, SqlType]:
    """The column that a name means. Raises SqlError: unknown, or ambiguous."""
    name = column.name.lower()
    qualifier = column.table.lower()
    for level in scope.chain():
        found = [
            source
            for source in level.seen()
            if name in source.columns
            and (source.alias == qualifier if qualifier else name not in source.merged)
            and (not column.db or source.database == column.db.lower())
        ]
        if len(found) > 1:
            raise SqlError(f"Column '{column.name}' in {clause} is ambiguous")
        if found:
            return found[0].column(name), found[0].columns[name].type
    shown = ".".join(part for part in (column.db, column.table, column.name) if part)
    raise SqlError(f"Unknown column '{shown}' in '{clause}'")
