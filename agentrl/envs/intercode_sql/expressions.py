"""Expressions of MySQL, bound to their columns and rewritten for SQLite, with the type of their value.

Each handler takes a node of the syntax tree and returns ``(node, type)``. The type decides how values meet
(``coercion``) and what the result's cells become in Python (``values``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from agentrl.envs.intercode_sql import coercion as to
from agentrl.envs.intercode_sql.calls import AGGREGATES, SPECIAL, WINDOWS, Call, call_of, unify
from agentrl.envs.intercode_sql.coercion import Typed, call, number_literal, text_literal
from agentrl.envs.intercode_sql.collation import BINARY
from agentrl.envs.intercode_sql.schema import DOUBLE, INT, NULL, TEXT, SqlType, decimal, type_of
from agentrl.envs.intercode_sql.scopes import ORDER, Scope, find
from agentrl.envs.intercode_sql.special import special_call
from agentrl.envs.intercode_sql.syntax import SqlError

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.queries import Queries

COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ)
IN_CLAUSE = "IN/ALL/ANY subquery"
BAD_GROUP = "Invalid use of group function"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression stands: its scope, its clause's name in errors, and whether aggregates may be used."""

    scope: Scope
    clause: str
    aggregates: bool = False
    bare: tuple[dict[str, Typed], ...] = ()  # output aliases that are looked up before columns, and those after them
    only: frozenset[str] | None = None  # HAVING: the texts of the columns that may be used outside aggregates


class Expressions:
    """Binds expressions; ``queries`` binds the subqueries inside them."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._handlers: dict[type[exp.Expr], Callable[[exp.Expr, Place], Typed]] = {
            exp.Column: self._column,
            exp.Literal: _literal,
            exp.Null: lambda node, _: (node, NULL),
            exp.Boolean: lambda node, _: (number_literal(int(bool(node.this))), INT),
            exp.Paren: self._paren,
            exp.Neg: self._negative,
            exp.Not: self._logic,
            exp.And: self._chain,
            exp.Or: self._chain,
            exp.Xor: self._xor,
            **dict.fromkeys(COMPARISONS, self._compare),
            exp.Is: self._logic,
            exp.Between: self._between,
            exp.In: self._in,
            exp.Like: self._like,
            exp.Escape: self._escape,
            exp.RegexpLike: self._regexp,
            exp.Exists: self._exists,
            exp.Subquery: self._scalar,
            exp.Select: self._scalar,
            exp.Case: self._case,
            exp.If: self._if,
            **dict.fromkeys((exp.Add, exp.Sub, exp.Mul), self._arithmetic),
            exp.Div: self._divide,
            exp.IntDiv: self._int_divide,
            exp.Mod: self._modulo,
            exp.Anonymous: self._function,
            exp.Cast: self._cast,
            exp.Extract: self._extract,
            exp.Trim: self._trim,
            exp.Substring: self._substring,
            exp.StrPosition: self._position,
            exp.GroupConcat: self._group_concat,
            exp.Window: self._window,
            exp.Collate: self._collate,
            exp.Chr: self._char,
            exp.Ceil: lambda node, place: self._named("CEIL", [node.this], place),
            exp.Floor: lambda node, place: self._named("FLOOR", [node.this], place),
            **dict.fromkeys((exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseLeftShift), self._bits),
            exp.BitwiseRightShift: self._bits,
            exp.Tuple: self._tuple,
        }

    def bind(self, node: exp.Expr, place: Place) -> Typed:
        """The expression for SQLite and its type. Raises SqlError where a server would, or where we cannot follow."""
        handler = self._handlers.get(type(node))
        if handler is None:
            raise unsupported(type(node).__name__.upper())
        return handler(node, place)

    @property
    def database(self) -> str:
        """The database that is in use."""
        return self._queries.database

    def number(self, node: exp.Expr, place: Place) -> exp.Expr:
        return to.as_number(self.bind(node, place))

    def text(self, node: exp.Expr, place: Place) -> exp.Expr:
        return to.as_text(self.bind(node, place))

    def _column(self, node: exp.Expr, place: Place) -> Typed:
        assert isinstance(node, exp.Column)
        if isinstance(node.this, exp.Star):
            raise SqlError("Invalid use of '*'")
        name = node.name.lower()
        if not node.table and not node.this.args.get("quoted") and name.upper() in CONSTANTS:
            return special_call(self, name.upper(), [], place)
        first, last = (*place.bare, {}, {})[:2]
        if not node.table and name in first:
            return first[name][0].copy(), first[name][1]
        try:
            return self._allowed(node, find(place.scope, node, place.clause), place)
        except SqlError as error:
            if not node.table and name in last and "ambiguous" not in str(error):
                return last[name][0].copy(), last[name][1]
            raise

    def _allowed(self, node: exp.Column, found: Typed, place: Place) -> Typed:
        own = found[0].args["table"].name in place.scope.sources if isinstance(found[0], exp.Column) else False
        if place.only is not None and own and found[0].sql() not in place.only:
            raise SqlError(f"Unknown column '{'.'.join(p for p in (node.table, node.name) if p)}' in '{place.clause}'")
        return found

    def _paren(self, node: exp.Expr, place: Place) -> Typed:
        inner, found = self.bind(node.this, place)
        return exp.Paren(this=inner), found

    def _negative(self, node: exp.Expr, place: Place) -> Typed:
        typed = self.bind(node.this, place)
        kept = typed[1].kind in ("int", "decimal", "float")
        return exp.Neg(this=exp.paren(to.as_number(typed), copy=False)), typed[1] if kept else DOUBLE

    def _logic(self, node: exp.Expr, place: Place) -> Typed:
        """NOT x, x IS NULL, x IS TRUE."""
        inner = self.bind(node.this, place)
        node.set("this", to.as_number(inner) if isinstance(node, exp.Not) else inner[0])
        return node, INT

    def _chain(self, node: exp.Expr, place: Place) -> Typed:
        """AND and OR, without recursion along the chain: it may be long."""
        kind, parts, left = type(node), [], node
        while isinstance(left, kind):
            parts.append(left.expression)
            left = left.this
        bound = [self._condition(part, place) for part in (left, *reversed(parts))]
        whole = bound[0]
        for part in bound[1:]:
            whole = kind(this=whole, expression=part)
        return whole, INT

    def _condition(self, node: exp.Expr, place: Place) -> exp.Expr:
        typed = self.bind(node, place)
        return to.as_number(typed)

    def _xor(self, node: exp.Expr, place: Place) -> Typed:
        a, b = (self._condition(part, place) for part in (node.this, node.expression))
        one, other = (exp.NEQ(this=exp.paren(side, copy=False), expression=number_literal(0)) for side in (a, b))
        return exp.Paren(this=exp.NEQ(this=exp.Paren(this=one), expression=exp.Paren(this=other))), INT

    def _compare(self, node: exp.Expr, place: Place) -> Typed:
        right = node.expression
        if isinstance(right, exp.Any | exp.All):
            return self._quantified(node, right, place)
        if isinstance(node.this, exp.Tuple) or isinstance(right, exp.Tuple):
            return self._rows(node, place)
        a, b = to.comparable(self.bind(node.this, place), self.bind(right, place))
        return type(node)(this=a, expression=b), INT

    def _rows(self, node: exp.Expr, place: Place) -> Typed:
        """(a, b) = (c, d)."""
        sides = (node.this, node.expression)
        if not all(isinstance(side, exp.Tuple) for side in sides) or len({len(s.expressions) for s in sides}) != 1:
            raise SqlError(f"Operand should contain {len(sides[0].expressions) or 1} column(s)")
        pairs = zip(sides[0].expressions, sides[1].expressions, strict=True)
        same = [exp.EQ(this=a, expression=b) for a, b in pairs]
        if not isinstance(node, exp.EQ | exp.NEQ):
            raise unsupported("ordered comparison of rows")
        whole = exp.paren(exp.and_(*same, copy=False), copy=False)
        return self.bind(whole if isinstance(node, exp.EQ) else exp.Not(this=whole), place)

    def _quantified(self, node: exp.Expr, right: exp.Expr, place: Place) -> Typed:
        """x > ALL (...) by way of the extremes; = ANY is IN, <> ALL is NOT IN."""
        every = isinstance(right, exp.All)
        if isinstance(node, exp.EQ) and not every:
            return self._in(exp.In(this=node.this, query=_subquery(right.this)), place)
        if isinstance(node, exp.NEQ) and every:
            return self._logic(exp.Not(this=exp.In(this=node.this, query=_subquery(right.this))), place)
        if not isinstance(node, exp.GT | exp.GTE | exp.LT | exp.LTE):
            raise unsupported("this comparison with ALL or ANY")
        left = self.bind(node.this, place)
        query, found = self._column_query(right.this, place)
        largest = isinstance(node, exp.GT | exp.GTE) == every
        inner = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier("q")))
        cell = to.sortable((exp.column("c0", "q"), found))
        pick = exp.select(call("max" if largest else "min", cell), copy=False).from_(inner, copy=False)
        a, b = to.comparable(left, (exp.Subquery(this=pick), found))
        compared = type(node)(this=a, expression=b)
        return call("ifnull", compared, number_literal(int(every))), INT

    def _between(self, node: exp.Expr, place: Place) -> Typed:
        bounds = ((exp.GTE, node.args["low"]), (exp.LTE, node.args["high"]))
        pair = [kind(this=node.this.copy(), expression=bound) for kind, bound in bounds]
        return self._paren(exp.Paren(this=exp.And(this=pair[0], expression=pair[1])), place)

    def _in(self, node: exp.Expr, place: Place) -> Typed:
        query = node.args.get("query")
        if query is not None:
            return self._in_query(node.this, query, place)
        if isinstance(node.this, exp.Tuple):
            same = [exp.EQ(this=node.this.copy(), expression=item) for item in node.expressions]
            return self._paren(exp.Paren(this=exp.or_(*same, copy=False)), place)
        left = self.bind(node.this, place)
        items = [self.bind(item, place) for item in node.expressions]
        pairs = [to.comparable((left[0].copy(), left[1]), item) for item in items]
        if all(a == left[0] for a, _ in pairs):
            return exp.In(this=left[0], expressions=[b for _, b in pairs]), INT
        if all(a == pairs[0][0] for a, _ in pairs):
            return exp.In(this=pairs[0][0], expressions=[b for _, b in pairs]), INT
        return exp.paren(exp.or_(*(exp.EQ(this=a, expression=b) for a, b in pairs), copy=False), copy=False), INT

    def _in_query(self, left: exp.Expr, query: exp.Expr, place: Place) -> Typed:
        inner = query.unnest()
        if inner.args.get("limit") or inner.args.get("offset"):
            raise SqlError("This version of MySQL doesn't yet support 'LIMIT & IN/ALL/ANY/SOME subquery'")
        asked = replace(place, clause=IN_CLAUSE) if place.clause != ORDER else place
        if isinstance(left, exp.Tuple):
            sides = [self.bind(part, asked)[0] for part in left.expressions]
            bound, outputs = self._queries.bind(inner, place.scope)
            _require_width(len(outputs), len(sides))
            return exp.In(this=exp.Tuple(expressions=sides), query=exp.Subquery(this=bound)), INT
        typed = self.bind(left, asked)
        bound, outputs = self._queries.bind(inner, place.scope)
        _require_width(len(outputs), 1)
        found = outputs[0].type
        probe = exp.column("c0")
        a, b = to.comparable(typed, (probe, found))
        if b is not probe:  # the subquery's values must be converted, too
            named = self._queries.named(bound)
            inner_query = exp.Subquery(this=named, alias=exp.TableAlias(this=exp.to_identifier("q")))
            bound = exp.select(b, copy=False).from_(inner_query, copy=False)
        return exp.In(this=a, query=exp.Subquery(this=bound)), INT

    def _like(self, node: exp.Expr, place: Place, escape: exp.Expr | None = None) -> Typed:
        left, right = self.bind(node.this, place), self.bind(node.expression, place)
        if node.args.get("negate"):
            return exp.Not(this=exp.paren(self._plain_like(left, right, place, escape), copy=False)), INT
        return self._plain_like(left, right, place, escape), INT

    def _plain_like(self, left: Typed, right: Typed, place: Place, escape: exp.Expr | None) -> exp.Expr:
        plain = right[0].is_string and right[0].name.isascii() and "\\" not in right[0].name
        if plain and escape is None and left[1].collation == "nocase":
            return exp.Like(this=left[0], expression=right[0])
        more = [] if escape is None else [self.text(escape, place)]
        return call("my_like", to.as_text(left), to.as_text(right), *more)

    def _escape(self, node: exp.Expr, place: Place) -> Typed:
        return self._like(node.this, place, node.expression)

    def _regexp(self, node: exp.Expr, place: Place) -> Typed:
        return call("my_regexp", self.text(node.this, place), self.text(node.expression, place)), INT

    def _exists(self, node: exp.Expr, place: Place) -> Typed:
        bound, _ = self._queries.bind(node.this.unnest(), place.scope)
        return exp.Exists(this=bound), INT

    def _column_query(self, node: exp.Expr, place: Place) -> tuple[exp.Expr, SqlType]:
        bound, outputs = self._queries.bind(node.unnest(), place.scope)
        _require_width(len(outputs), 1)
        return self._queries.named(bound), outputs[0].type

    def _scalar(self, node: exp.Expr, place: Place) -> Typed:
        """A subquery as a value: more than one row is an error, unless it plainly gives one."""
        inner = node.unnest()
        single = _gives_one_row(inner)
        query, found = self._column_query(node, place)
        if single:
            return exp.Subquery(this=query), replace(found, collation="")
        table = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier("q")))
        only = exp.select(call("my_single", exp.column("c0", "q")), copy=False).from_(table, copy=False)
        return exp.Subquery(this=only), replace(found, collation="")

    def _case(self, node: exp.Expr, place: Place) -> Typed:
        ifs, values = [], []
        for branch in node.args["ifs"]:
            test = branch.this if node.this is None else exp.EQ(this=node.this.copy(), expression=branch.this)
            value = self.bind(branch.args["true"], place)
            values.append(value)
            ifs.append(exp.If(this=self._condition(test, place), true=value[0]))
        default = node.args.get("default")
        if default is not None:
            values.append(self.bind(default, place))
        found = unify([kind for _, kind in values])
        whole = exp.Case(ifs=ifs, default=values[-1][0] if default is not None else None)
        return whole, replace(found, collation="")

    def _if(self, node: exp.Expr, place: Place) -> Typed:
        return self._case(
            exp.Case(
                ifs=[exp.If(this=node.this, true=node.args["true"])], default=node.args.get("false") or exp.null()
            ),
            place,
        )

    def _arithmetic(self, node: exp.Expr, place: Place) -> Typed:
        if isinstance(node.expression, exp.Interval) or isinstance(node.this, exp.Interval):
            return self._shifted(node, place)
        left, right = self.bind(node.this, place), self.bind(node.expression, place)
        a, b = (exp.paren(to.as_number(side), copy=False) for side in (left, right))
        return type(node)(this=a, expression=b), _sum_type(node, left[1], right[1])

    def _shifted(self, node: exp.Expr, place: Place) -> Typed:
        date, interval = node.this, node.expression
        if isinstance(date, exp.Interval):
            date, interval = interval, date
        return special_call(self, "DATE_SUB" if isinstance(node, exp.Sub) else "DATE_ADD", [date, interval], place)

    def _divide(self, node: exp.Expr, place: Place) -> Typed:
        left, right = self.bind(node.this, place), self.bind(node.expression, place)
        a = exp.cast(exp.paren(to.as_number(left), copy=False), "REAL", copy=False)
        b = exp.paren(to.as_number(right), copy=False)
        exact = all(kind.kind in ("int", "decimal") for kind in (left[1], right[1]))
        found = decimal((left[1].scale or 0) + 4) if exact else DOUBLE
        return exp.Div(this=a, expression=b, typed=True, safe=True), found

    def _int_divide(self, node: exp.Expr, place: Place) -> Typed:
        return call("my_div", self.number(node.this, place), self.number(node.expression, place)), INT

    def _modulo(self, node: exp.Expr, place: Place) -> Typed:
        return self._named("MOD", [node.this, node.expression], place)

    def _bits(self, node: exp.Expr, place: Place) -> Typed:
        a, b = (exp.cast(self.number(side, place), "INTEGER", copy=False) for side in (node.this, node.expression))
        return exp.Paren(this=type(node)(this=a, expression=b)), INT

    def _tuple(self, node: exp.Expr, place: Place) -> Typed:
        raise SqlError("Operand should contain 1 column(s)")

    def _collate(self, node: exp.Expr, place: Place) -> Typed:
        inner, found = self.bind(node.this, place)
        if node.expression.name.lower().endswith("_bin") or node.expression.name.lower() == "binary":
            return exp.Collate(this=inner, expression=exp.Var(this=BINARY)), replace(found, collation=BINARY)
        return to.collate(inner), replace(found, collation="mysql_ci")

    def _cast(self, node: exp.Expr, place: Place) -> Typed:
        typed = self.bind(node.this, place)
        declared = node.args["to"].sql(dialect="mysql").lower()
        if declared.startswith(("binary", "varbinary")):
            return exp.Collate(this=to.as_text(typed), expression=exp.Var(this=BINARY)), SqlType("text", None, BINARY)
        found = type_of(declared.replace("signed", "bigint").replace("unbigint", "bigint"))
        if found is None:
            raise unsupported(f"CAST AS {declared.upper()}")
        width = [number_literal(int(size.name)) for size in node.args["to"].expressions[:1]]
        if found.kind == "int":
            return call("my_cast_int", typed[0] if not typed[1].temporal else to.as_number(typed)), INT
        if found.kind == "decimal":
            return call("my_round", to.as_number(typed), number_literal(found.scale or 0)), found
        if found.kind in ("double", "float"):
            return exp.cast(to.as_number(typed), "REAL", copy=False), DOUBLE
        if found.temporal:
            return call(f"my_{found.kind}", typed[0]), found
        return call("my_cast_text", to.as_text(typed), *width), TEXT

    def _extract(self, node: exp.Expr, place: Place) -> Typed:
        return self._named(node.this.name.upper(), [node.expression], place)

    def _trim(self, node: exp.Expr, place: Place) -> Typed:
        side = str(node.args.get("position") or "both").lower()
        mark = self.text(node.expression, place) if node.expression else text_literal(" ")
        return call("my_trim", self.text(node.this, place), text_literal(side), mark), TEXT

    def _substring(self, node: exp.Expr, place: Place) -> Typed:
        args = [node.this, node.args.get("start"), node.args.get("length")]
        return self._named("SUBSTRING", [arg for arg in args if arg is not None], place)

    def _position(self, node: exp.Expr, place: Place) -> Typed:
        return self._named("LOCATE", [node.args["substr"], node.this], place)

    def _char(self, node: exp.Expr, place: Place) -> Typed:
        return self._named("CHAR", node.expressions, place)

    def _function(self, node: exp.Expr, place: Place) -> Typed:
        return self._named(str(node.this), node.expressions, place)

    def _named(self, name: str, args: list[exp.Expr], place: Place) -> Typed:
        upper = name.upper()
        if upper in AGGREGATES:
            return self._aggregate(AGGREGATES[upper], upper, args, place)
        if upper in SPECIAL:
            return special_call(self, upper, args, place)
        known = call_of(upper)
        if known is None:
            raise SqlError(f"FUNCTION {self._queries.database}.{name} does not exist")
        _require_count(known, upper, args)
        typed = [self.bind(arg, place) for arg in args]
        return call(known.name, *self._wanted(known, typed)), replace(known.result([t for _, t in typed]), collation="")

    def _wanted(self, known: Call, typed: list[Typed]) -> list[exp.Expr]:
        if known.want == "any":
            return [node for node, _ in typed]
        return [to.as_text(t) if known.want == "text" else to.as_number(t) for t in typed]

    def _aggregate(self, known: Call, name: str, args: list[exp.Expr], place: Place) -> Typed:
        if not place.aggregates:
            raise SqlError(BAD_GROUP)
        inside = replace(place, aggregates=False, only=None)
        if len(args) == 1 and isinstance(args[0], exp.Star):
            if name != "COUNT":
                raise SqlError(f"Incorrect parameters in the call to native function '{name}'")
            return call("count", exp.Star()), INT
        distinct = len(args) == 1 and isinstance(args[0], exp.Distinct)
        items = args[0].expressions if distinct else args
        _require_count(known, name, items)
        typed = [self.bind(item, inside) for item in items]
        if name == "COUNT" and len(typed) > 1:
            joined = call("my_concat", *(exp.DPipe(this=to.as_text(t), expression=text_literal("\x1f")) for t in typed))
            typed = [(joined, TEXT)]
        node, found = typed[0]
        ready = to.as_number(typed[0]) if known.want == "number" else to.sortable(typed[0])
        if name == "COUNT" and not distinct:
            ready = node
        done = call(known.name, exp.Distinct(expressions=[ready]) if distinct else ready)
        return done, replace(known.result([found]), collation="")

    def _group_concat(self, node: exp.Expr, place: Place) -> Typed:
        if not place.aggregates:
            raise SqlError(BAD_GROUP)
        inside = replace(place, aggregates=False, only=None)
        inner, orders = node.this, []
        if isinstance(inner, exp.Order):
            inner, orders = inner.this, inner.expressions
        distinct = isinstance(inner, exp.Distinct)
        items = inner.expressions if distinct else [inner]
        value = self.text(items[0], inside) if len(items) == 1 else self._named("CONCAT", items, inside)[0]
        keys = [self.bind(order.this, inside)[0] for order in orders]
        directions = "".join("d" if order.args.get("desc") else "a" for order in orders)
        separator = node.args.get("separator") or text_literal(",")
        lead = (separator, number_literal(int(distinct)), text_literal(directions))
        return call("my_group_concat", *lead, value, *keys), TEXT

    def _window(self, node: exp.Expr, place: Place) -> Typed:
        inner = node.this
        name = str(inner.this).upper() if isinstance(inner, exp.Anonymous) else ""
        inside = replace(place, aggregates=True)
        if name in WINDOWS:
            _require_count(WINDOWS[name], name, inner.expressions)
            typed = [self.bind(arg, inside) for arg in inner.expressions]
            kind = WINDOWS[name].result([t for _, t in typed])
            node.set("this", call(WINDOWS[name].name, *(item for item, _ in typed)))
        elif name in AGGREGATES:
            bound, kind = self._aggregate(AGGREGATES[name], name, inner.expressions, inside)
            node.set("this", bound)
        else:
            raise unsupported(f"the window function {name or 'given'}")
        parts = node.args.get("partition_by") or []
        node.set("partition_by", [to.sortable(self.bind(part, inside)) for part in parts])
        if order := node.args.get("order"):
            for item in order.expressions:
                item.set("this", to.sortable(self.bind(item.this, inside)))
        return node, replace(kind, collation="")


CONSTANTS = frozenset(
    {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP", "CURRENT_USER"}
)


def unsupported(what: str) -> SqlError:
    """MySQL's own text for what it does not do, used for what this engine does not do."""
    return SqlError(f"This version of MySQL doesn't yet support '{what}'")


def _literal(node: exp.Expr, _place: Place) -> Typed:
    if node.is_string:
        return node, TEXT
    text = node.name.lower()
    if "e" in text or "x" in text:
        return node, DOUBLE if "x" not in text else INT
    if "." in text:
        return node, decimal(len(text.partition(".")[2]))
    return (node, INT) if abs(int(text)) < 2**63 else (node, DOUBLE)


def _sum_type(node: exp.Expr, one: SqlType, other: SqlType) -> SqlType:
    """The type of a sum, difference or product."""
    if one.kind == other.kind == "int":
        return INT
    exact = all(kind.kind in ("int", "decimal") for kind in (one, other))
    scales = [0 if kind.kind == "int" else kind.scale for kind in (one, other)]
    a, b = scales
    if a is None or b is None or "text" in (one.kind, other.kind):
        return DOUBLE
    scale = a + b if isinstance(node, exp.Mul) else max(a, b)
    return decimal(scale) if exact else SqlType("double", scale)


def _subquery(node: exp.Expr) -> exp.Expr:
    return node if isinstance(node, exp.Subquery) else exp.Subquery(this=node)


def _gives_one_row(query: exp.Expr) -> bool:
    """Is it plain from the text that this query gives at most one row?"""
    if not isinstance(query, exp.Select):
        return False
    limit = query.args.get("limit")
    if limit is not None and limit.expression is not None and limit.expression.name == "1":
        return True
    if query.args.get("from_") is None:
        return True
    items = [item.unalias() for item in query.expressions]
    return query.args.get("group") is None and any(
        isinstance(part, exp.Anonymous) and str(part.this).upper() in AGGREGATES
        for item in items
        for part in item.walk()
    )


def _require_width(got: int, expected: int) -> None:
    if got != expected:
        raise SqlError(f"Operand should contain {expected} column(s)")


def _require_count(known: Call, name: str, args: list[exp.Expr]) -> None:
    if not known.least <= len(args) <= known.most:
        raise SqlError(f"Incorrect parameter count in the call to native function '{name}'")
