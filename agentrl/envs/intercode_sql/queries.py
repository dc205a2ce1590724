"""Queries of MySQL, bound to their tables and rewritten for SQLite.

The order of the checks is MySQL 8's (tables, field list, WHERE, ON, GROUP BY, HAVING, ORDER BY), so that of several
mistakes the same one is told. Stars are written out, NATURAL and USING joins become ON, names are given in full. As on
a server without ONLY_FULL_GROUP_BY, a column that is neither grouped nor aggregated shows the first row of its group.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from agentrl.envs.intercode_sql import coercion as to
from agentrl.envs.intercode_sql.calls import unify
from agentrl.envs.intercode_sql.coercion import Typed, call
from agentrl.envs.intercode_sql.expressions import Expressions, Place, unsupported
from agentrl.envs.intercode_sql.schema import Catalog, SqlType, Table
from agentrl.envs.intercode_sql.scopes import FIELDS, GROUP, HAVING, ON, ORDER, WHERE, Output, Scope, Source
from agentrl.envs.intercode_sql.syntax import SqlError

Bound = tuple[exp.Expr, list[Output]]
NATIVE_EXTREMES = ("min", "max")
OTHER_WIDTH = "The used SELECT statements have a different number of columns"


def mangled(database: str, table: str) -> str:
    """The name of a table inside the one SQLite database that holds all of them."""
    return f"{database.lower()}.{table.lower()}"


class Queries:
    """Binds queries against a catalogue, with ``database`` in use.

    ``labels``: outermost expressions without alias are named by their text, too (it costs time, and rarely matters).
    """

    def __init__(self, catalog: Catalog, database: str, labels: bool = False) -> None:
        self._labels = labels
        self.catalog = catalog
        self.database = database
        self.expressions = Expressions(self)

    def bind(self, node: exp.Expr, parent: Scope | None = None) -> Bound:
        """A query for SQLite and its output columns. Raises SqlError with MySQL's text."""
        if parent is None:
            self._require_tables(node)
        scope = Scope(parent)
        ctes = self._common(node, scope)
        if isinstance(node, exp.Subquery):
            bound, outputs = self._wrapped(node, scope)
        elif isinstance(node, exp.SetOperation):
            bound, outputs = self._set_operation(node, scope)
        elif isinstance(node, exp.Select):
            bound, outputs = self._select(node, scope)
        else:
            raise unsupported(type(node).__name__.upper())
        if ctes is not None:
            bound.set("with_", ctes)
        return bound, outputs

    def named(self, query: exp.Expr, names: list[str] | None = None) -> exp.Expr:
        """The query with its columns called ``names``, or c0, c1, ..."""
        first = query
        while isinstance(first, exp.SetOperation):
            first = first.this
        items = [item.unalias() for item in first.expressions]
        labels = names or [f"c{i}" for i in range(len(items))]
        first.set(
            "expressions", [exp.alias_(item, label, quoted=True) for item, label in zip(items, labels, strict=True)]
        )
        return query

    def _require_tables(self, node: exp.Expr) -> None:
        """A server opens all tables of a statement before it looks at any column."""
        common = {cte.alias.lower() for cte in node.find_all(exp.CTE)}
        for table in sorted(node.find_all(exp.Table), key=_start):
            if isinstance(table.this, exp.Identifier) and table.name.lower() not in {"dual", *common}:
                self.table(table)

    def table(self, node: exp.Table) -> tuple[str, Table]:
        """Database name and table. Raises SqlError when there is none of this name."""
        database, name = (node.db or self.database).lower(), node.name
        known = self.catalog.get(database)
        if known is None:
            raise SqlError(f"Unknown database '{node.db}'")
        if name.lower() not in known.by_name:
            raise SqlError(f"Table '{database}.{name.lower()}' doesn't exist")
        return database, known.by_name[name.lower()]

    def _common(self, node: exp.Expr, scope: Scope) -> exp.With | None:
        """WITH: each common table expression may use those before it, a recursive one itself."""
        given = node.args.get("with_")
        if given is None:
            return None
        node.set("with_", None)
        done = []
        for cte in given.expressions:
            name, inner = cte.alias.lower(), cte.this
            wanted = [column.name for column in cte.args["alias"].columns]
            if given.args.get("recursive") and isinstance(inner, exp.Union):
                _, outputs = self.bind(inner.this.copy(), scope)
                scope.common[name] = _renamed(outputs, wanted)
            bound, outputs = self.bind(inner, scope)
            scope.common[name] = _renamed(outputs, wanted)
            labels = [output.name for output in scope.common[name]]
            _require_distinct(labels)
            alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
            done.append(exp.CTE(this=self.named(bound, labels), alias=alias))
        return exp.With(expressions=done, recursive=given.args.get("recursive"))

    def _wrapped(self, node: exp.Subquery, scope: Scope) -> Bound:
        """A query in brackets, perhaps with an ORDER BY or LIMIT of its own outside them."""
        bound, outputs = self.bind(node.this, scope)
        if not any(node.args.get(part) for part in ("order", "limit", "offset")):
            return bound, outputs
        outer = self._from_query(bound, outputs)
        self._output_order(node, outer, outputs)
        return outer, outputs

    def _from_query(self, bound: exp.Expr, outputs: list[Output]) -> exp.Select:
        """SELECT c0, c1, ... FROM (query)."""
        inner = exp.Subquery(this=self.named(bound), alias=exp.TableAlias(this=exp.to_identifier("q")))
        items = [exp.column(f"c{i}", "q") for i in range(len(outputs))]
        return exp.select(*items, copy=False).from_(inner, copy=False)

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Bound:
        left, first = self.bind(node.this, scope)
        right, second = self.bind(node.expression, scope)
        if len(first) != len(second):
            raise SqlError(OTHER_WIDTH)
        members = [self._member(left, first), self._member(right, second, right_hand=True)]
        outputs = []
        for place, (a, b) in enumerate(zip(first, second, strict=True)):
            found = unify([a.type, b.type])
            if found.kind == "text" and not found.collation:
                for member in members:
                    _collate_item(member, place)
                found = replace(found, collation="mysql_ci")
            outputs.append(Output(a.name, found))
        done = self._combined(node, members, outputs)
        self._output_order(node, done, outputs)
        return done, outputs

    def _combined(self, node: exp.SetOperation, members: list[exp.Expr], outputs: list[Output]) -> exp.Expr:
        """The set operation, its rows in order of their first appearance, as MySQL's temporary table gives them."""
        if not node.args.get("distinct"):
            if not isinstance(node, exp.Union):
                raise unsupported(f"{type(node).__name__.upper()} ALL")
            return exp.Union(this=members[0], expression=members[1], distinct=False)
        if isinstance(node, exp.Union):
            rows = self._from_query(exp.Union(this=members[0], expression=members[1], distinct=False), outputs)
            rows.set("distinct", exp.Distinct())
            return rows
        rows, other = (self._from_query(member, outputs) for member in members)
        keys = []
        for side in (rows, other):
            cells = [call("ifnull", item.copy(), exp.HexString(this="00")) for item in side.expressions]
            keys.append([to.collate(c) if o.type.kind == "text" else c for c, o in zip(cells, outputs, strict=True)])
        other.set("expressions", keys[1])
        probe = keys[0][0] if len(outputs) == 1 else exp.Tuple(expressions=keys[0])
        found: exp.Expr = exp.In(this=probe, query=exp.Subquery(this=other))
        rows.set("where", exp.Where(this=exp.Not(this=found) if isinstance(node, exp.Except) else found))
        rows.set("distinct", exp.Distinct())
        return rows

    def _member(self, query: exp.Expr, outputs: list[Output], right_hand: bool = False) -> exp.Expr:
        """SQLite takes no brackets, order or limit in a member, and reads from left to right."""
        held = any(query.args.get(part) for part in ("order", "limit", "offset", "with_"))
        if held or (right_hand and isinstance(query, exp.SetOperation)):
            return self._from_query(query, outputs)
        return query

    def _output_order(self, node: exp.Expr, target: exp.Expr, outputs: list[Output]) -> None:
        """ORDER BY and LIMIT over a query's outputs: by name or place."""
        order = node.args.get("order")
        if order is not None:
            names = [output.name.lower() for output in outputs]
            keys = []
            for item in order.expressions:
                place = _place_of(item.this, names)
                if place is None or not 1 <= place <= len(outputs):
                    raise SqlError(f"Unknown column '{item.this.sql(dialect='mysql')}' in '{ORDER}'")
                keys.append(_ordered(exp.Literal.number(place), item))
            target.set("order", exp.Order(expressions=keys))
        self._limit(node, target)

    def _limit(self, node: exp.Expr, target: exp.Expr) -> None:
        for part in ("limit", "offset"):
            given = node.args.get(part)
            if given is None:
                continue
            count = given.expression if isinstance(given, exp.Limit | exp.Offset) else None
            if not isinstance(count, exp.Literal) or count.is_string or not count.name.isdigit():
                raise unsupported(f"{part.upper()} other than a whole number")
            target.set(part, type(given)(expression=exp.Literal.number(min(int(count.name), 2**62))))

    def _select(self, node: exp.Select, scope: Scope) -> Bound:
        for part in ("into", "connect", "qualify", "windows", "laterals", "pivots", "sample"):
            if node.args.get(part):
                raise unsupported(part.upper())
        source, conditions = self._sources(node, scope)
        items = self._items(node, scope)
        done = exp.Select(expressions=[item for item, _, _ in items])
        if source is not None:
            done.set("from_", source[0])
            done.set("joins", source[1])
        where = node.args.get("where")
        if where is not None:
            condition = to.as_number(self.expressions.bind(where.this, Place(scope, WHERE)))
            done.set("where", exp.Where(this=condition))
        for join, condition, visible in conditions:
            scope.visible = visible
            join.set("on", to.as_number(self.expressions.bind(condition, Place(scope, ON))))
        scope.visible = None
        keys = self._grouping(node, scope, done, items)
        self._having(node, scope, done, items, keys)
        self._ordering(node, scope, done, items)
        self._limit(node, done)
        _first_of_group(done, keys)
        if node.args.get("distinct") is not None:
            done.set("distinct", exp.Distinct())
            done.set("expressions", [to.sortable((item, found)) for item, found, _ in _with_types(done, items)])
            items = [(i, replace(t, collation=t.collation or "mysql_ci"), n) for i, t, n in items]
        return done, [Output(name, found) for _, found, name in items]

    def _items(self, node: exp.Select, scope: Scope) -> list[tuple[exp.Expr, SqlType, str]]:
        """The field list, stars written out."""
        items: list[tuple[exp.Expr, SqlType, str]] = []
        place = Place(scope, FIELDS, aggregates=True)
        for item in node.expressions:
            inner = item.unalias()
            if isinstance(inner, exp.Star):
                items += self._star(scope, None)
            elif isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star):
                items += self._star(scope, inner.table)
            else:
                name = item.alias if isinstance(item, exp.Alias) else self._label(inner, scope)
                bound, found = self.expressions.bind(inner, place)
                items.append((bound, found, name))
                if isinstance(item, exp.Alias) or isinstance(inner, exp.Column):
                    scope.items.setdefault(name.lower(), (bound, found))
        return items

    def _label(self, node: exp.Expr, scope: Scope) -> str:
        """The name of an output column without alias: a column's own, else the text of the expression."""
        if isinstance(node, exp.Column):
            return node.name
        return node.sql(dialect="mysql") if self._labels or scope.parent is not None else ""

    def _star(self, scope: Scope, qualifier: str | None) -> list[tuple[exp.Expr, SqlType, str]]:
        sources = list(scope.sources.values())
        if qualifier is not None:
            sources = [source for source in sources if source.alias == qualifier.lower()]
            if not sources:
                raise SqlError(f"Unknown table '{qualifier}'")
        if not sources:
            raise SqlError("No tables used")
        names = [(s, n) for s in sources for n in s.columns if qualifier or n not in s.merged]
        if not qualifier:  # columns that USING joined come first
            shared = {name for source in sources for name in source.merged}
            names = [pair for pair in names if pair[1] in shared] + [pair for pair in names if pair[1] not in shared]
        return [(source.column(name), source.columns[name].type, source.columns[name].name) for source, name in names]

    def _sources(
        self, node: exp.Select, scope: Scope
    ) -> tuple[tuple[exp.From, list[exp.Expr]] | None, list[tuple[exp.Expr, exp.Expr, set[str] | None]]]:
        """FROM and its joins; the ON conditions are bound later, as MySQL does."""
        start = node.args.get("from_")
        if start is None:
            return None, []
        if isinstance(start.this, exp.Table) and start.this.name.lower() == "dual" and not start.this.db:
            return None, []
        first = self._source(start.this, scope)
        joins: list[exp.Expr] = []
        conditions: list[tuple[exp.Expr, exp.Expr, set[str] | None]] = []
        group = list(scope.sources)
        pending = [*(start.this.args.get("joins") or []), *(node.args.get("joins") or [])]
        for join in pending:
            before = list(scope.sources)
            nested = join.this.args.get("joins") or [] if isinstance(join.this, exp.Table) else []
            bound = self._source(join.this, scope)
            side, kind = str(join.side or "").upper(), str(join.kind or "").upper()
            comma = not (side or kind or join.args.get("on") or join.args.get("using") or join.method)
            fresh = [name for name in scope.sources if name not in before]
            group = fresh if comma else group + fresh
            made = exp.Join(
                this=bound, side=side if side in ("LEFT", "RIGHT") else None, kind=None if side else "CROSS"
            )
            condition = self._condition(join, scope, before, fresh)
            if condition is not None:
                made.set("kind", None if side else "INNER")
                conditions.append((made, condition, set(group)))
            joins.append(made)
            for inner in nested:
                raise_nested = inner.sql(dialect="mysql")
                raise unsupported(f"nested join {raise_nested}")
        return (exp.From(this=first), joins), conditions

    def _condition(self, join: exp.Join, scope: Scope, before: list[str], fresh: list[str]) -> exp.Expr | None:
        """ON as written; USING and NATURAL as equalities, their columns merged."""
        given: exp.Expr | None = join.args.get("on")
        if given is not None:
            return given
        right = scope.sources[fresh[-1]]
        names = [column.name.lower() for column in join.args.get("using") or []]
        left = [scope.sources[name] for name in before]
        if str(join.method or "").upper() == "NATURAL":
            names = [name for name in right.columns if any(name in s.columns and name not in s.merged for s in left)]
        pairs = []
        for name in names:
            owner = next((s for s in left if name in s.columns and name not in s.merged), None)
            if owner is None or name not in right.columns:
                raise SqlError(f"Unknown column '{name}' in 'from clause'")
            pairs.append(exp.EQ(this=owner.column(name), expression=right.column(name)))
            (owner if str(join.side).upper() == "RIGHT" else right).merged.add(name)
        return exp.and_(*pairs, copy=False) if pairs else None

    def _source(self, node: exp.Expr, scope: Scope) -> exp.Expr:
        """One table or derived table of FROM, entered into the scope."""
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table):
            # a derived table sees what lies around the query, not its siblings
            bound, outputs = self.bind(node.this, scope.parent_for_derived())
            columns = [column.name for column in (node.args["alias"].columns if node.args.get("alias") else [])]
            outputs = _renamed(outputs, columns)
            _require_distinct([output.name for output in outputs])
            alias = self._enter(scope, node.alias.lower(), "", outputs)
            inner = self.named(bound, [output.name for output in outputs])
            return exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise unsupported("this kind of table")
        common = None if node.db else scope.common_table(node.name.lower())
        if common is not None:
            database, real, outputs = "", node.name.lower(), common
        else:
            database, table = self.table(node)
            real = mangled(database, table.name)
            outputs = [Output(column.name, column.type) for column in table.columns]
        alias = self._enter(scope, (node.alias or node.name).lower(), database, outputs)
        quoted = exp.to_identifier(alias, quoted=True)
        return exp.Table(this=exp.to_identifier(real, quoted=True), alias=exp.TableAlias(this=quoted))

    def _enter(self, scope: Scope, alias: str, database: str, outputs: list[Output]) -> str:
        if alias in scope.sources:
            raise SqlError(f"Not unique table/alias: '{alias}'")
        scope.sources[alias] = Source(alias, database, {output.name.lower(): output for output in outputs})
        return alias

    def _grouping(
        self, node: exp.Select, scope: Scope, done: exp.Select, items: list[tuple[exp.Expr, SqlType, str]]
    ) -> list[Typed] | None:
        """GROUP BY. Gives the bound keys; None when the query does not group at all."""
        group = node.args.get("group")
        if group is None:
            return [] if any(_aggregates(item) for item, _, _ in items) or node.args.get("having") else None
        if group.args.get("rollup") or group.args.get("cube") or group.args.get("grouping_sets"):
            raise unsupported("ROLLUP")
        keys = []
        for key in group.expressions:
            typed = self._by_place(key, items, GROUP)
            if typed is None:
                typed = self.expressions.bind(key, Place(scope, GROUP, bare=({}, scope.items)))
            if not _own_columns(typed[0], scope) and not _aggregates(typed[0]):
                typed = (exp.Literal.string(""), typed[1])  # a constant, perhaps a column of the query around
            if _aggregates(typed[0]):
                raise SqlError(f"Can't group on '{key.sql(dialect='mysql')}'")
            keys.append(typed)
        done.set("group", exp.Group(expressions=[to.sortable((k.copy(), t)) for k, t in keys]))
        return keys

    def _by_place(self, key: exp.Expr, items: list[tuple[exp.Expr, SqlType, str]], clause: str) -> Typed | None:
        if not isinstance(key, exp.Literal) or key.is_string or not key.name.isdigit():
            return None
        if not 1 <= int(key.name) <= len(items):
            raise SqlError(f"Unknown column '{key.name}' in '{clause}'")
        item, found, _ = items[int(key.name) - 1]
        return item.copy(), found

    def _having(
        self,
        node: exp.Select,
        scope: Scope,
        done: exp.Select,
        items: list[tuple[exp.Expr, SqlType, str]],
        keys: list[Typed] | None,
    ) -> None:
        """HAVING sees what is selected or grouped by, by alias or by column."""
        having = node.args.get("having")
        if having is None:
            return
        allowed = frozenset(part.sql() for part in [*(item for item, _, _ in items), *(key for key, _ in keys or [])])
        place = Place(scope, HAVING, aggregates=True, bare=(scope.items,), only=allowed)
        condition = to.as_number(self.expressions.bind(having.this, place))
        if (
            keys == []
            and not done.args.get("group")
            and not any(_aggregates(i) for i in (condition, *done.expressions))
        ):
            old = done.args.get("where")  # without groups and aggregates HAVING filters rows
            both = condition if old is None else exp.And(this=exp.paren(old.this), expression=exp.paren(condition))
            done.set("where", exp.Where(this=both))
            return
        if not done.args.get("group"):
            done.set(
                "group", exp.Group(expressions=[exp.Literal.string("")])
            )  # one group of all rows, if there are any
        done.set("having", exp.Having(this=condition))

    def _ordering(
        self, node: exp.Select, scope: Scope, done: exp.Select, items: list[tuple[exp.Expr, SqlType, str]]
    ) -> None:
        order = node.args.get("order")
        if order is None:
            return
        keys = []
        for item in order.expressions:
            typed = self._by_place(item.this, items, ORDER)
            if typed is None:
                alias = isinstance(item.this, exp.Column) and not item.this.table
                bare = (scope.items,) if alias else ({}, scope.items)
                typed = self.expressions.bind(item.this, Place(scope, ORDER, aggregates=True, bare=bare))
            if _own_columns(typed[0], scope) or _aggregates(typed[0]) or typed[0].find(exp.Query, exp.Window):
                keys.append(_ordered(to.sortable((typed[0].copy(), typed[1])), item))
        if keys:
            done.set("order", exp.Order(expressions=keys))


def _start(table: exp.Table) -> int:
    """Where a table stands in the text."""
    return int(table.this.meta.get("start", 0))


def _own_columns(node: exp.Expr, scope: Scope) -> bool:
    """Does the expression depend on a row of this query?"""
    return any(column.table in scope.sources for column in node.find_all(exp.Column))


def _ordered(key: exp.Expr, item: exp.Expr) -> exp.Ordered:
    """An order key; NULLs come first upwards and last downwards in both systems."""
    down = bool(item.args.get("desc"))
    if isinstance(key, exp.Literal) and key.is_string:
        key = exp.Paren(this=key)
    return exp.Ordered(this=key, desc=down, nulls_first=not down)


def _place_of(key: exp.Expr, names: list[str]) -> int | None:
    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit():
        return int(key.name)
    if isinstance(key, exp.Column) and key.name.lower() in names:
        return names.index(key.name.lower()) + 1
    return None


def _renamed(outputs: list[Output], names: list[str]) -> list[Output]:
    if not names:
        return outputs
    if len(names) != len(outputs):
        raise SqlError("In definition of view, derived table or common table expression, SELECT list and column names"
                       " list have different column counts")  # fmt: skip
    return [Output(name, output.type) for name, output in zip(names, outputs, strict=True)]


def _require_distinct(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise SqlError(f"Duplicate column name '{name}'")
        seen.add(name.lower())


def _collate_item(query: exp.Expr, place: int) -> None:
    """Tell a member of a set operation to compare this column as MySQL does."""
    for part in query.find_all(exp.Select) if isinstance(query, exp.SetOperation) else (query,):
        if isinstance(query, exp.SetOperation) and part.parent_select is not None:
            continue
        items = list(part.expressions)
        if not isinstance(items[place].unalias(), exp.Collate):
            items[place] = to.collate(items[place].unalias())
            part.set("expressions", items)


def _aggregates(node: exp.Expr) -> bool:
    """Does the expression hold an aggregate of its own query (windows and subqueries apart)?"""
    from agentrl.envs.intercode_sql.functions import AGGREGATES

    names = {"count", "sum", "avg", *(f"my_{name}" for name in AGGREGATES)}
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, exp.Query | exp.Window):
            continue
        if isinstance(part, exp.Anonymous):
            name = str(part.this)
            if name in names or (name in NATIVE_EXTREMES and len(part.expressions) == 1):
                return True
        stack += list(part.iter_expressions())
    return False


def _first_of_group(done: exp.Select, keys: list[Typed] | None) -> None:
    """SQLite shows the row of the extreme beside MIN and MAX, MySQL the first one: say so where it matters.

    Texts that are grouped by are meant, too: equal ones may differ in case.
    """
    if keys is None:
        return
    grouped = {key.sql() for key, found in keys if found.kind != "text"}
    parts = [*done.expressions, *(done.args[name] for name in ("having", "order") if done.args.get(name))]
    bare: list[exp.Expr] = []
    extremes = False
    stack: list[exp.Expr] = list(parts)
    while stack:
        part = stack.pop()
        if isinstance(part, exp.Query | exp.Window) or part.sql() in grouped:
            continue
        if isinstance(part, exp.Column):
            bare.append(part)
        elif isinstance(part, exp.Anonymous) and _aggregates(part) and not _inner_aggregates(part):
            extremes |= str(part.this) in NATIVE_EXTREMES
        else:
            stack += list(part.iter_expressions())
    if not (extremes and bare):
        return
    for column in bare:
        if column.parent is done:
            items = [call("my_first", item) if item is column else item for item in done.expressions]
            done.set("expressions", items)
        else:
            column.replace(call("my_first", column.copy()))


def _inner_aggregates(call_: exp.Expr) -> bool:
    """A scalar function around an aggregate is searched further."""
    return any(_aggregates(part) for part in call_.iter_expressions())


def _with_types(done: exp.Select, items: list[tuple[exp.Expr, SqlType, str]]) -> list[tuple[exp.Expr, SqlType, str]]:
    return [(node, found, name) for node, (_, found, name) in zip(done.expressions, items, strict=True)]
