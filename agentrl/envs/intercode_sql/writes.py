"""Statements that change data or tables, for an episode's own copy.

INSERT, REPLACE, UPDATE and DELETE of one table; CREATE, DROP, ALTER (columns), TRUNCATE and RENAME of tables. Foreign
keys are not enforced, and what MySQL can do beyond this (views, procedures, users, databases) is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from agentrl.envs.intercode_sql import coercion as to
from agentrl.envs.intercode_sql.collation import EXACT
from agentrl.envs.intercode_sql.dates import iso
from agentrl.envs.intercode_sql.dates import parse as parse_date
from agentrl.envs.intercode_sql.expressions import Place, unsupported
from agentrl.envs.intercode_sql.functions import number_of
from agentrl.envs.intercode_sql.queries import Queries, mangled
from agentrl.envs.intercode_sql.schema import Catalog, Column, SqlType, Table, type_of
from agentrl.envs.intercode_sql.scopes import FIELDS, WHERE, Output, Scope, Source
from agentrl.envs.intercode_sql.syntax import SqlError, parse, verb
from agentrl.envs.intercode_sql.values import single_precision

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.translate import Plan

READ_ONLY = frozenset({"information_schema", "mysql", "performance_schema", "sys"})
DECLARED = {
    "int": "int", "decimal": "decimal(20,4)", "double": "double", "float": "float", "text": "text", "binary": "blob",
    "date": "date", "datetime": "datetime", "time": "time", "null": "text",
}  # fmt: skip


def write_plan(sql: str, catalog: Catalog, database: str) -> Plan:
    """The plan of a statement that writes. Raises SqlError for those that are refused."""
    tree = parse(_plain(sql))
    maker = _Writer(catalog, database)
    if isinstance(tree, exp.Insert):
        return maker.insert(tree, replacing=verb(sql) == "REPLACE")
    if isinstance(tree, exp.Update):
        return maker.update(tree)
    if isinstance(tree, exp.Delete):
        return maker.delete(tree)
    if isinstance(tree, exp.Create):
        return maker.create(tree)
    if isinstance(tree, exp.Drop):
        return maker.drop(tree)
    if isinstance(tree, exp.TruncateTable):
        return maker.truncate(tree)
    if isinstance(tree, exp.Alter):
        return maker.alter(tree)
    raise unsupported(" ".join(sql.split()[:2]).upper())


def _plain(sql: str) -> str:
    """REPLACE INTO and RENAME TABLE in words that the parser knows as tables' statements."""
    text = re.sub(r"^\s*REPLACE\s+(INTO\s+)?", "INSERT INTO ", sql, count=1, flags=re.IGNORECASE)
    found = re.fullmatch(r"\s*RENAME\s+TABLE\s+(\S+)\s+TO\s+(\S+?)\s*;?\s*", text, re.IGNORECASE)
    return f"ALTER TABLE {found[1]} RENAME TO {found[2]}" if found else text


class _Writer:
    def __init__(self, catalog: Catalog, database: str) -> None:
        self._queries = Queries(catalog, database, labels=True)
        self._database = database

    def _target(self, node: exp.Expr | None) -> tuple[str, Table, exp.Table, Scope]:
        """The table to change: its database, itself, how SQLite names it, and a scope with its columns."""
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise unsupported("changes of this kind of table")
        database, table = self._queries.table(node)
        if database in READ_ONLY:
            raise SqlError(f"Access denied for user 'admin'@'%' to database '{database}'")
        name = mangled(database, table.name)
        outputs = {column.name.lower(): Output(column.name, column.type) for column in table.columns}
        alias = (node.alias or node.name).lower()
        source = Source(alias, database, outputs)
        quoted = exp.to_identifier(name, quoted=True)
        target = exp.Table(this=quoted, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        return database, table, target, Scope(None, {alias: source})

    def _plan(self, database: str, sql: list[str], *changed: tuple[str, Table | None]) -> Plan:
        from agentrl.envs.intercode_sql.translate import Plan

        return Plan("write", tuple(sql), database=database, changed=changed)

    def _stored(self, node: exp.Expr, scope: Scope, column: Column) -> exp.Expr:
        """A value as its column keeps it."""
        if isinstance(node, exp.Column) and node.name.upper() == "DEFAULT" and not node.table:
            return exp.null() if column.default is None else _literal(column.default, column.type)
        typed = self._queries.expressions.bind(node, Place(scope, FIELDS))
        return _literal(typed[0].name, column.type) if typed[0].is_string else _cast(typed, column.type)

    def insert(self, tree: exp.Insert, replacing: bool) -> Plan:
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        database, table, _, _ = self._target(target)
        names = [c.name for c in tree.this.expressions] if isinstance(tree.this, exp.Schema) else []
        columns = [self._column(table, name) for name in names] or list(table.columns)
        head = "INSERT OR REPLACE" if replacing else "INSERT OR IGNORE" if tree.args.get("ignore") else "INSERT"
        into = f'{head} INTO "{mangled(database, table.name)}"'
        made = [column for column in table.columns if column not in columns and column.extra == "auto_increment"]
        listed = ", ".join(_quoted(column.name) for column in [*columns, *made])
        given = tree.expression
        if not isinstance(given, exp.Values):
            bound, outputs = self._queries.bind(given.unnest() if given is not None else exp.Null())
            if len(outputs) != len(columns):
                raise SqlError("Column count doesn't match value count at row 1")
            if made:
                raise unsupported("INSERT ... SELECT without the AUTO_INCREMENT column")
            return self._plan(database, [f"{into} ({listed}) {bound.sql(dialect='sqlite')}"])
        statements = []
        for number, row in enumerate(given.expressions, 1):
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            if len(cells) != len(columns):
                raise SqlError(f"Column count doesn't match value count at row {number}")
            stored = [self._stored(cell, Scope(None), column) for cell, column in zip(cells, columns, strict=True)]
            values = [value.sql(dialect="sqlite") for value in stored]
            values += [self._next(database, table, column) for column in made]
            statements.append(f"{into} ({listed}) VALUES ({', '.join(values)})")
        return self._plan(database, statements)

    def _next(self, database: str, table: Table, column: Column) -> str:
        return f'(SELECT IFNULL(MAX({_quoted(column.name)}), 0) + 1 FROM "{mangled(database, table.name)}")'

    def _column(self, table: Table, name: str) -> Column:
        if name.lower() not in table.by_name:
            raise SqlError(f"Unknown column '{name}' in '{FIELDS}'")
        return table.by_name[name.lower()]

    def update(self, tree: exp.Update) -> Plan:
        if tree.args.get("limit") or tree.args.get("order"):
            raise unsupported("UPDATE with ORDER BY or LIMIT")
        database, table, target, scope = self._target(tree.this)
        sets = []
        for pair in tree.expressions:
            column = self._column(table, pair.this.name)
            value = self._stored(pair.expression, scope, column)
            sets.append(f"{_quoted(column.name)} = {value.sql(dialect='sqlite')}")
        sql = f"UPDATE {target.sql(dialect='sqlite')} SET {', '.join(sets)}{self._condition(tree, scope)}"
        return self._plan(database, [sql])

    def delete(self, tree: exp.Delete) -> Plan:
        if tree.args.get("limit") or tree.args.get("order") or tree.args.get("tables"):
            raise unsupported("DELETE with ORDER BY, LIMIT or several tables")
        database, _, target, scope = self._target(tree.this)
        return self._plan(database, [f"DELETE FROM {target.sql(dialect='sqlite')}{self._condition(tree, scope)}"])

    def _condition(self, tree: exp.Expr, scope: Scope) -> str:
        where = tree.args.get("where")
        if where is None:
            return ""
        condition = to.as_number(self._queries.expressions.bind(where.this, Place(scope, WHERE)))
        return f" WHERE {condition.sql(dialect='sqlite')}"

    def truncate(self, tree: exp.TruncateTable) -> Plan:
        database, table, _, _ = self._target(tree.expressions[0])
        return self._plan(database, [f'DELETE FROM "{mangled(database, table.name)}"'])

    def create(self, tree: exp.Create) -> Plan:
        if tree.kind == "INDEX":
            return self._plan(self._database, [])  # an index changes no result
        if tree.kind != "TABLE":
            raise unsupported(f"CREATE {tree.kind}")
        schema = tree.this
        node = schema.this if isinstance(schema, exp.Schema) else schema
        database, name = (node.db or self._database).lower(), node.name.lower()
        if database in READ_ONLY or database not in self._queries.catalog:
            raise SqlError(f"Unknown database '{database}'")
        if name in self._queries.catalog[database].by_name:
            if tree.args.get("exists"):
                return self._plan(database, [])
            raise SqlError(f"Table '{name}' already exists")
        if tree.expression is not None:
            return self._create_as(database, name, tree.expression)
        table = Table(node.name, *_definition(schema.expressions if isinstance(schema, exp.Schema) else []))
        return self._plan(database, _create_sql(database, table), (name, table))

    def _create_as(self, database: str, name: str, query: exp.Expr) -> Plan:
        bound, outputs = self._queries.bind(query.unnest())
        columns = tuple(Column(o.name, DECLARED[o.type.kind], collation=EXACT) for o in outputs)
        table = Table(name, columns)
        made = _create_sql(database, table)
        fill = f'INSERT INTO "{mangled(database, name)}" {bound.sql(dialect="sqlite")}'
        return self._plan(database, [*made, fill], (name, table))

    def drop(self, tree: exp.Drop) -> Plan:
        if tree.kind == "INDEX":
            return self._plan(self._database, [])
        if tree.kind != "TABLE":
            raise unsupported(f"DROP {tree.kind}")
        tables: list[Table] = []
        database = self._database
        for node in tree.args.get("tables") or [tree.this]:
            try:
                database, table, _, _ = self._target(node)
                tables.append(table)
            except SqlError:
                if not tree.args.get("exists"):
                    raise SqlError(f"Unknown table '{self._database}.{node.name.lower()}'") from None
        sql = [f'DROP TABLE "{mangled(database, table.name)}"' for table in tables]
        return self._plan(database, sql, *((table.name.lower(), None) for table in tables))

    def alter(self, tree: exp.Alter) -> Plan:
        database, table, _, _ = self._target(tree.this)
        label = table.name.lower()
        actions = tree.args.get("actions") or []
        action = actions[0] if len(actions) == 1 else None
        name = f'"{mangled(database, table.name)}"'
        if isinstance(action, exp.ColumnDef):
            columns, *_ = _definition([action])
            changed = replace(table, columns=(*table.columns, *columns))
            return self._plan(database, [f"ALTER TABLE {name} ADD COLUMN {_column_sql(columns[0])}"], (label, changed))
        if isinstance(action, exp.Drop) and action.kind == "COLUMN":
            named = action.find(exp.Identifier)
            gone = self._column(table, named.name if named is not None else "")
            changed = replace(table, columns=tuple(column for column in table.columns if column is not gone))
            return self._plan(database, [f"ALTER TABLE {name} DROP COLUMN {_quoted(gone.name)}"], (label, changed))
        if isinstance(action, exp.AlterRename):
            new = action.this.name.lower()
            sql = f'ALTER TABLE {name} RENAME TO "{mangled(database, new)}"'
            return self._plan(database, [sql], (label, None), (new, replace(table, name=new)))
        raise unsupported("this ALTER TABLE")


def _literal(text: str, found: SqlType) -> exp.Expr:
    """A written text as a column of this type keeps it."""
    if found.numeric:
        value = number_of(text)
        value = single_precision(value) if found.kind == "float" else value
        return exp.Literal.number(str(round(value) if found.kind == "int" else value))
    if found.kind in ("date", "datetime"):
        moment = parse_date(text)
        if moment is None:
            raise SqlError(f"Incorrect {found.kind} value: '{text}'")
        return exp.Literal.string(str(iso(moment, found.kind == "datetime")))
    return exp.Literal.string(text)


def _cast(typed: to.Typed, found: SqlType) -> exp.Expr:
    if found.kind == "text":
        return to.as_text(typed)
    return to.as_number(typed) if found.numeric else typed[0]


def _definition(parts: list[exp.Expr]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Columns and primary key of CREATE TABLE."""
    columns, primary = [], []
    for part in parts:
        if isinstance(part, exp.PrimaryKey):
            primary += [item.find(exp.Identifier).name for item in part.expressions]
        if not isinstance(part, exp.ColumnDef):
            continue
        declared = part.args["kind"].sql(dialect="mysql").lower() if part.args.get("kind") else ""
        if type_of(declared) is None:
            raise unsupported(f"the type {declared or 'of no name'}")
        kinds = [type(constraint.kind) for constraint in part.args.get("constraints") or []]
        key = exp.PrimaryKeyColumnConstraint in kinds
        if key:
            primary.append(part.name)
        extra = "auto_increment" if exp.AutoIncrementColumnConstraint in kinds else ""
        nullable = not key and exp.NotNullColumnConstraint not in kinds
        columns.append(Column(part.name, declared, nullable, None, extra, EXACT))
    if not columns:
        raise SqlError("A table must have at least 1 column")
    return tuple(columns), tuple(primary)


def _create_sql(database: str, table: Table) -> list[str]:
    from agentrl.envs.intercode_sql.store import create_sql

    return create_sql(database, table)


def _column_sql(column: Column) -> str:
    from agentrl.envs.intercode_sql.store import column_sql

    return column_sql(column)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
