"""Functions of MySQL whose arguments are no plain values: units, formats, constants of the session."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlglot import exp

from agentrl.envs.intercode_sql import coercion as to
from agentrl.envs.intercode_sql.coercion import Typed, call, number_literal, text_literal
from agentrl.envs.intercode_sql.dates import NOW, iso
from agentrl.envs.intercode_sql.schema import DATE, DATETIME, DOUBLE, INT, TEXT, TIME, SqlType, decimal
from agentrl.envs.intercode_sql.syntax import SqlError

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.expressions import Expressions, Place

USER, VERSION = "admin@localhost", "8.0.32"
DAY_UNITS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR"})
MOMENTS = frozenset({"NOW", "SYSDATE", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"})
USERS = frozenset({"USER", "CURRENT_USER", "SESSION_USER", "SYSTEM_USER"})
COUNTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("NULLIF", "STR_TO_DATE", "INSTR", "DATE_ADD", "DATE_SUB", "ADDDATE", "SUBDATE"), (2, 2)),
    "IF": (3, 3),
    "ISNULL": (1, 1),
    "ROUND": (1, 2),
    "TRUNCATE": (2, 2),
    "TIMESTAMPDIFF": (3, 3),
}


def special_call(binder: Expressions, name: str, args: list[exp.Expr], place: Place) -> Typed:
    """Bind one of ``calls.SPECIAL``. Raises SqlError on a wrong number of arguments."""
    least, most = COUNTS.get(name, (0, 1))
    if not least <= len(args) <= most:
        raise SqlError(f"Incorrect parameter count in the call to native function '{name}'")
    if name in MOMENTS:
        return text_literal(str(iso(NOW))), DATETIME
    if name in ("CURDATE", "CURRENT_DATE"):
        return text_literal(str(iso(NOW, False))), DATE
    if name in ("CURTIME", "CURRENT_TIME"):
        return text_literal(NOW.time().isoformat()), TIME
    if name in USERS:
        return text_literal(USER), TEXT
    if name in ("DATABASE", "SCHEMA"):
        return text_literal(binder.database), TEXT
    constants: dict[str, Typed] = {
        "VERSION": (text_literal(VERSION), TEXT),
        "CONNECTION_ID": (number_literal(1), INT),
        "RAND": (exp.Literal.number("0.5"), DOUBLE),
        "PI": (exp.Literal.number("3.141592653589793"), SqlType("double", 6)),
    }
    if name in constants:
        return constants[name]
    return _with_values(binder, name, args, place)


def _with_values(binder: Expressions, name: str, args: list[exp.Expr], place: Place) -> Typed:
    if name == "IF":
        return binder.bind(exp.If(this=args[0], true=args[1], false=args[2]), place)
    if name == "NULLIF":
        test = exp.EQ(this=args[0].copy(), expression=args[1])
        return binder.bind(exp.Case(ifs=[exp.If(this=test, true=exp.null())], default=args[0]), place)
    if name == "ISNULL":
        return exp.Paren(this=exp.Is(this=binder.bind(args[0], place)[0], expression=exp.null())), INT
    if name in ("ROUND", "TRUNCATE"):
        return _rounded(binder, name, args, place)
    if name == "INSTR":
        return call("my_locate", binder.text(args[1], place), binder.text(args[0], place)), INT
    if name == "STR_TO_DATE":
        layout = binder.text(args[1], place)
        timed = layout.is_string and re.search("%[HkhIlisSfTr]", layout.name)
        return call("my_str_to_date", binder.text(args[0], place), layout), DATETIME if timed else DATE
    if name == "TIMESTAMPDIFF":
        moments = [binder.bind(arg, place)[0] for arg in args[1:]]
        return call("my_timestampdiff", text_literal(args[0].name), *moments), INT
    if name in ("DATE_ADD", "ADDDATE", "DATE_SUB", "SUBDATE"):
        return _shifted(binder, name, args, place)
    raise SqlError(f"FUNCTION {binder.database}.{name} does not exist")


def _rounded(binder: Expressions, name: str, args: list[exp.Expr], place: Place) -> Typed:
    typed = binder.bind(args[0], place)
    places = binder.number(args[1], place) if len(args) > 1 else number_literal(0)
    found = typed[1]
    if found.kind == "decimal":
        literal = places.name if places.is_number else "0"
        scale = max(0, min(found.scale or 0, int(float(literal)))) if places.is_number else found.scale or 0
        found = decimal(scale)
    elif found.kind != "int":
        found = DOUBLE
    return call(f"my_{name.lower()}", to.as_number(typed), places), found


def _shifted(binder: Expressions, name: str, args: list[exp.Expr], place: Place) -> Typed:
    interval = args[1]
    date = binder.bind(args[0], place)
    unit = (
        interval.args["unit"].name.upper()
        if isinstance(interval, exp.Interval) and interval.args.get("unit")
        else "DAY"
    )
    amount = binder.number(interval.this if isinstance(interval, exp.Interval) else interval, place)
    if name in ("DATE_SUB", "SUBDATE"):
        amount = exp.Neg(this=exp.paren(amount, copy=False))
    kept = date[1].kind == "date" and unit in DAY_UNITS
    return call("my_date_shift", date[0], amount, text_literal(unit)), DATE if kept else DATETIME
