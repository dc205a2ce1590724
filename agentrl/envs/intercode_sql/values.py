"""What a statement gives back, and cells as the original's Python client would hand them over.

The observation is the text of a list of tuples, so types show: ``Decimal('34.5000')``, ``datetime.date(2014, 12, 28)``.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

from agentrl.envs.intercode_sql.dates import parse
from agentrl.envs.intercode_sql.functions import number_of, quantized, text_of
from agentrl.envs.intercode_sql.schema import SqlType

Row = tuple[Any, ...]
ERROR = "Error executing query: "


class Result:
    """The answer to one statement: rows, or none (it gives no result set), or an error."""

    def __init__(self, rows: Sequence[Row] | None = None, error: str | None = None) -> None:
        self.rows = None if rows is None else tuple(rows)
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and (self.rows, self.error) == (other.rows, other.error)

    def __hash__(self) -> int:
        return hash((self.text, self.error))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of each row, by which the reward compares."""
        return tuple(map(str, self.rows or ()))

    @cached_property
    def text(self) -> str:
        """The observation."""
        if self.error is not None:
            return ERROR + self.error
        return "None" if self.rows is None else f"[{', '.join(self.texts)}]"


def single_precision(value: float) -> float:
    """The nearest number that a FLOAT column can hold."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return value


def _decimal(scale: int) -> Callable[[Any], Any]:
    unit = Decimal(1).scaleb(-scale)
    return lambda value: Decimal(value).quantize(unit) if isinstance(value, int) else quantized(number_of(value), scale)


def _double(scale: int | None) -> Callable[[Any], Any]:
    if scale is None:
        return lambda value: float(number_of(value))
    return lambda value: round(float(number_of(value)), scale)


def _float(scale: int | None) -> Callable[[Any], Any]:
    if scale is None:
        return lambda value: float(f"{number_of(value):.6g}")
    return lambda value: round(float(number_of(value)), scale)


def _date(value: Any) -> Any:
    moment = parse(str(value))
    return None if moment is None else moment.date()


def _datetime(value: Any) -> Any:
    return parse(str(value))


def _time(value: Any) -> Any:
    moment = parse(f"2000-01-01 {value}")
    return None if moment is None else moment - datetime.datetime(2000, 1, 1)


def _int(value: Any) -> Any:
    return value if isinstance(value, int) else int(quantized(number_of(value), 0))


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else text_of(value)


def converter(found: SqlType) -> Callable[[Any], Any]:
    """From SQLite's value (never NULL) to the client's."""
    if found.kind == "decimal":
        return _decimal(found.scale or 0)
    if found.kind == "double":
        return _double(found.scale)
    if found.kind == "float":
        return _float(found.scale)
    plain = {"int": _int, "date": _date, "datetime": _datetime, "time": _time, "text": _text}
    return plain.get(found.kind, lambda value: value)


def convert(rows: Sequence[Row], types: Sequence[SqlType]) -> list[Row]:
    """All cells of a result in the client's types."""
    columns = [converter(found) for found in types]
    return [
        tuple([None if cell is None else turn(cell) for cell, turn in zip(row, columns, strict=True)]) for row in rows
    ]
