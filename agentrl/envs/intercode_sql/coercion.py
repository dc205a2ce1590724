"""How values of two types meet: the comparisons and conversions of MySQL, written out for SQLite.

A number meets a text as numbers, a date meets a text as dates, texts meet without regard to case and trailing spaces.
"""

from __future__ import annotations

from sqlglot import exp

from agentrl.envs.intercode_sql.collation import BINARY, EXACT, PLAIN, is_plain
from agentrl.envs.intercode_sql.dates import iso, parse
from agentrl.envs.intercode_sql.schema import SqlType
from agentrl.envs.intercode_sql.syntax import SqlError

Typed = tuple[exp.Expr, SqlType]


def call(name: str, *args: exp.Expr) -> exp.Expr:
    """A call of an SQLite function by name."""
    return exp.Anonymous(this=name, expressions=list(args))


def text_literal(text: str) -> exp.Expr:
    return exp.Literal.string(text)


def number_literal(value: int) -> exp.Expr:
    return exp.Literal.number(value)


def collate(node: exp.Expr) -> exp.Expr:
    """The text, compared exactly as MySQL compares."""
    return exp.Collate(this=exp.paren(node, copy=False), expression=exp.Var(this=EXACT))


def sortable(typed: Typed) -> exp.Expr:
    """An expression as it must stand in ORDER BY, GROUP BY, DISTINCT or an aggregate: texts with their collation."""
    node, found = typed
    return collate(node) if found.kind == "text" and not found.collation else node


def as_number(typed: Typed) -> exp.Expr:
    """The value as a number: of a text its numeric start, of a date its digits."""
    node, found = typed
    if found.kind in ("text", "binary"):
        return exp.cast(node, "REAL", copy=False)
    return call("my_date_number", node) if found.temporal else node


def as_text(typed: Typed) -> exp.Expr:
    """The value as MySQL prints it."""
    node, found = typed
    if found.kind == "decimal" or (found.kind in ("double", "float") and found.scale is not None):
        return call("my_decimal_text", node, number_literal(found.scale or 0))
    return call("my_text", node) if found.kind in ("double", "float") else node


def as_moment(typed: Typed) -> exp.Expr:
    """The value as a date with time."""
    node, found = typed
    if found.kind == "date" and isinstance(node, exp.Column):
        return exp.DPipe(this=node, expression=text_literal(" 00:00:00"), safe=True)
    return node if found.kind == "datetime" else call("my_datetime", node)


def comparable(left: Typed, right: Typed) -> tuple[exp.Expr, exp.Expr]:
    """Both sides of a comparison, converted so that SQLite decides as MySQL would."""
    (a, one), (b, other) = left, right
    if "null" in (one.kind, other.kind) or BINARY in (one.collation, other.collation):
        return a, b
    if one.temporal or other.temporal:
        return _temporal(left, right)
    if one.numeric or other.numeric:
        return (a, b) if one.numeric and other.numeric else (as_number(left), as_number(right))
    return (a, b) if plain_pair(left, right) else (collate(a), b)


def plain_pair(left: Typed, right: Typed) -> bool:
    """Can NOCASE, which a column brings along, decide this comparison of texts?"""
    plain = [found.collation == PLAIN for _, found in (left, right)]
    fine = [is_plain(node.name) if node.is_string else plain[i] for i, (node, _) in enumerate((left, right))]
    return any(plain) and all(fine)


def _temporal(left: Typed, right: Typed) -> tuple[exp.Expr, exp.Expr]:
    (a, one), (b, other) = left, right
    if one.numeric or other.numeric:
        return as_number(left), as_number(right)
    if "time" in (one.kind, other.kind):
        return a, b
    if a.is_string or b.is_string:
        return _with_literal(left, right) if b.is_string else _with_literal(right, left)[::-1]
    if one.kind == other.kind:
        return a, b
    return as_moment(left), as_moment(right)


def _with_literal(dated: Typed, literal: Typed) -> tuple[exp.Expr, exp.Expr]:
    """A date against a written text: the text is read once, here."""
    node, found = dated
    moment = parse(literal[0].name)
    if moment is None:
        raise SqlError(f"Incorrect {found.kind.upper()} value: '{literal[0].name}'")
    if found.kind == "date" and (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0):
        return node, text_literal(str(iso(moment, False)))
    return as_moment(dated), text_literal(str(iso(moment)))
