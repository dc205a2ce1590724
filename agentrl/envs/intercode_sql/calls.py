"""What MySQL's functions become in SQLite: the name to call, the number of arguments, and the type of the result.

A table of facts. Names that are not in it do not exist, as on a server; nothing else of SQLite can be called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from agentrl.envs.intercode_sql.schema import DATE, DATETIME, DOUBLE, INT, NULL, TEXT, TIME, SqlType, decimal
from agentrl.envs.intercode_sql.syntax import words

Types = Sequence[SqlType]
Want = Literal["any", "text", "number"]


def unify(types: Types) -> SqlType:
    """The type of a value that may come from any of these (CASE, COALESCE, UNION)."""
    known = [found for found in types if found.kind != "null"]
    if not known:
        return NULL
    kinds = {found.kind for found in known}
    if len(kinds) == 1:
        scales = {found.scale for found in known}
        scale = None if None in scales else max(scale for scale in scales if scale is not None)
        collations = {found.collation for found in known}
        return SqlType(known[0].kind, scale, collations.pop() if len(collations) == 1 else "")
    if all(found.numeric for found in known):
        return DOUBLE if kinds & {"double", "float"} else decimal(max(found.scale or 0 for found in known))
    return DATETIME if kinds <= {"date", "datetime"} else TEXT


def total(types: Types) -> SqlType:
    """SUM: decimals add up exactly, everything else becomes a double."""
    found = types[0]
    if found.kind in ("int", "decimal", "date", "datetime"):
        return decimal(found.scale or 0)
    return SqlType("double", found.scale)


def mean(types: Types) -> SqlType:
    """AVG: four digits more than the argument has."""
    found = types[0]
    if found.kind in ("int", "decimal", "date", "datetime"):
        return decimal((found.scale or 0) + 4)
    return SqlType("double", None if found.scale is None else found.scale + 4)


def same(types: Types) -> SqlType:
    """The first argument's."""
    return types[0]


def plain_number(types: Types) -> SqlType:
    """ABS, ROUND and others of whole numbers stay whole, decimals stay decimals."""
    found = types[0]
    return found if found.kind in ("int", "decimal") else DOUBLE


def whole(types: Types) -> SqlType:
    """CEIL and FLOOR: whole, but of a double."""
    return INT if types[0].kind in ("int", "decimal") else DOUBLE


def constant(found: SqlType) -> Callable[[Types], SqlType]:
    return lambda _types: found


@dataclass(frozen=True, slots=True)
class Call:
    """``name``: SQLite's function (with ``my_`` in front: ours). ``want``: how the arguments must come."""

    name: str
    least: int
    most: int
    result: Callable[[Types], SqlType]
    want: Want = "any"


def _texts(*rows: tuple[str, int, int], result: SqlType = TEXT) -> dict[str, Call]:
    return {name.upper(): Call(f"my_{name}", least, most, constant(result), "text") for name, least, most in rows}


def _numbers(*rows: tuple[str, int, int], result: SqlType = DOUBLE) -> dict[str, Call]:
    return {name.upper(): Call(f"my_{name}", least, most, constant(result), "number") for name, least, most in rows}


MANY = 100
AGGREGATES: dict[str, Call] = {
    "COUNT": Call("count", 1, MANY, constant(INT)),
    "SUM": Call("sum", 1, 1, total, "number"),
    "AVG": Call("avg", 1, 1, mean, "number"),
    "MIN": Call("min", 1, 1, same),
    "MAX": Call("max", 1, 1, same),
    "ANY_VALUE": Call("my_first", 1, 1, same),
    **{name: Call("my_std_pop", 1, 1, constant(DOUBLE), "number") for name in ("STD", "STDDEV", "STDDEV_POP")},
    "STDDEV_SAMP": Call("my_std_samp", 1, 1, constant(DOUBLE), "number"),
    **{name: Call("my_var_pop", 1, 1, constant(DOUBLE), "number") for name in ("VARIANCE", "VAR_POP")},
    "VAR_SAMP": Call("my_var_samp", 1, 1, constant(DOUBLE), "number"),
}
WINDOWS: dict[str, Call] = {
    **{name: Call(name.lower(), 0, 0, constant(INT)) for name in ("ROW_NUMBER", "RANK", "DENSE_RANK")},
    **{name: Call(name.lower(), 0, 0, constant(DOUBLE)) for name in ("PERCENT_RANK", "CUME_DIST")},
    "NTILE": Call("ntile", 1, 1, constant(INT)),
    **{name: Call(name.lower(), 1, 3, same) for name in ("LAG", "LEAD")},
    **{name: Call(name.lower(), 1, 1, same) for name in ("FIRST_VALUE", "LAST_VALUE")},
    "NTH_VALUE": Call("nth_value", 2, 2, same),
}
ALIASES = {
    "UCASE": "UPPER",
    "LCASE": "LOWER",
    "CHARACTER_LENGTH": "CHAR_LENGTH",
    "OCTET_LENGTH": "LENGTH",
    "SUBSTR": "SUBSTRING",
    "MID": "SUBSTRING",
    "CEILING": "CEIL",
    "POWER": "POW",
    "LN": "LOG",
    "DAYOFMONTH": "DAY",
    "WEEKOFYEAR": "WEEK",
}
SCALARS: dict[str, Call] = {
    **_texts(("concat", 1, MANY), ("concat_ws", 2, MANY), ("left", 2, 2), ("right", 2, 2), ("upper", 1, 1)),
    **_texts(("lower", 1, 1), ("ltrim", 1, 1), ("rtrim", 1, 1), ("substring", 2, 3), ("substring_index", 3, 3)),
    **_texts(("replace", 3, 3), ("reverse", 1, 1), ("repeat", 2, 2), ("space", 1, 1), ("lpad", 3, 3), ("rpad", 3, 3)),
    **_texts(("elt", 2, MANY), ("hex", 1, 1), ("format", 2, 2), ("date_format", 2, 2), ("char", 1, MANY)),
    **_texts(("dayname", 1, 1), ("monthname", 1, 1)),
    **_texts(("length", 1, 1), ("char_length", 1, 1), ("locate", 2, 3), ("field", 2, MANY), result=INT),
    **_texts(("find_in_set", 2, 2), ("strcmp", 2, 2), ("ascii", 1, 1), result=INT),
    **_numbers(("pow", 2, 2), ("sqrt", 1, 1), ("exp", 1, 1), ("log", 1, 2), ("log2", 1, 1), ("log10", 1, 1)),
    **_numbers(("sign", 1, 1), result=INT),
    "ABS": Call("abs", 1, 1, plain_number, "number"),
    "CEIL": Call("my_ceil", 1, 1, whole, "number"),
    "FLOOR": Call("my_floor", 1, 1, whole, "number"),
    "MOD": Call("my_mod", 2, 2, unify, "number"),
    "COALESCE": Call("coalesce", 1, MANY, unify),
    "IFNULL": Call("ifnull", 2, 2, unify),
    "GREATEST": Call("max", 2, MANY, unify),
    "LEAST": Call("min", 2, MANY, unify),
    "DATEDIFF": Call("my_datediff", 2, 2, constant(INT)),
    "DATE": Call("my_date", 1, 1, constant(DATE)),
    "TIMESTAMP": Call("my_datetime", 1, 1, constant(DATETIME)),
    "TIME": Call("my_time", 1, 1, constant(TIME)),
    "LAST_DAY": Call("my_last_day", 1, 1, constant(DATE)),
    "FROM_UNIXTIME": Call("my_from_unixtime", 1, 1, constant(DATETIME)),
    **{
        name: Call(f"my_{name.lower()}", 1, 1, constant(INT))
        for name in (
            "YEAR", "MONTH", "DAY", "DAYOFWEEK", "WEEKDAY", "DAYOFYEAR", "WEEK", "QUARTER", "HOUR", "MINUTE", "SECOND",
            "TO_DAYS", "UNIX_TIMESTAMP",
        )
    },
}  # fmt: skip
SPECIAL = words(  # functions whose arguments need a look of their own: see ``expressions``
    "IF NULLIF ISNULL ROUND TRUNCATE INSTR STR_TO_DATE TIMESTAMPDIFF DATE_ADD DATE_SUB ADDDATE SUBDATE NOW SYSDATE"
    " CURRENT_TIMESTAMP LOCALTIME LOCALTIMESTAMP CURDATE CURRENT_DATE CURTIME CURRENT_TIME DATABASE SCHEMA VERSION USER"
    " CURRENT_USER SESSION_USER SYSTEM_USER CONNECTION_ID RAND PI"
)


def call_of(name: str) -> Call | None:
    """The call behind a scalar function's name in any case; None where MySQL (or we) know no such function."""
    upper = name.upper()
    return SCALARS.get(ALIASES.get(upper, upper))
