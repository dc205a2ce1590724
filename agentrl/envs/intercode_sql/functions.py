"""MySQL's functions for SQLite: what each computes, on the values that SQLite hands over.

Dates travel as ISO text, decimals as floats, booleans as 0 and 1; a NULL argument gives NULL unless said otherwise.
Time stands still at ``NOW`` and ``RAND`` is a fixed sequence of one, so that an episode is the same on every machine
and day (a difference from the original). Results longer than ``MAX_TEXT`` become NULL, as in a server whose
``max_allowed_packet`` is exceeded.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import regex

from agentrl.envs.intercode_sql.collation import EXACT, compare, weights
from agentrl.envs.intercode_sql.dates import DATE_FUNCTIONS

MAX_TEXT = 1_000_000  # characters
REGEX_TIMEOUT_S = 0.2  # wall clock, for patterns that explode; others never come near it
Value = Any


def text_of(value: Value) -> str:
    """A value as MySQL prints it."""
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def number_of(value: Value) -> float:
    """A value as a number: of a text the longest numeric start, else 0."""
    if isinstance(value, int | float):
        return value
    return _number(text_of(value))


@lru_cache(4096)
def _number(text: str) -> float:
    found = regex.match(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", text)
    return float(found[0]) if found else 0.0


def quantized(value: float, places: int, rounding: str = ROUND_HALF_UP) -> Decimal:
    """The decimal with so many digits behind the point, halves away from zero."""
    try:
        return Decimal(repr(value)).quantize(Decimal(1).scaleb(-places), rounding=rounding)
    except InvalidOperation:
        return Decimal(repr(value))


def _round(value: Value, places: Value = 0) -> Value:
    number, places = number_of(value), int(number_of(places))
    if isinstance(number, int) and places >= 0:
        return number
    done = quantized(number, max(-30, min(30, places)))
    return int(done) if isinstance(number, int) else float(done)


def _truncate(value: Value, places: Value) -> Value:
    number = number_of(value)
    done = quantized(number, max(-30, min(30, int(number_of(places)))), ROUND_DOWN)
    return int(done) if isinstance(number, int) else float(done)


def _mod(a: Value, b: Value) -> Value:
    x, y = number_of(a), number_of(b)
    if y == 0:
        return None
    return int(math.fmod(x, y)) if isinstance(x, int) and isinstance(y, int) and abs(x) < 2**53 else math.fmod(x, y)


def _div(a: Value, b: Value) -> Value:
    y = number_of(b)
    return None if y == 0 else math.trunc(number_of(a) / y)


def _pow(a: Value, b: Value) -> Value:
    done = number_of(a) ** number_of(b)
    return float(done) if isinstance(done, int | float) else None


def _log(*values: Value) -> Value:
    numbers = [number_of(value) for value in values]
    if any(number <= 0 for number in numbers) or (len(numbers) == 2 and numbers[0] == 1):
        return None
    return math.log(numbers[0]) if len(numbers) == 1 else math.log(numbers[1]) / math.log(numbers[0])


def _log_to(base: float) -> Callable[[Value], Value]:
    return lambda value: math.log(number_of(value), base) if number_of(value) > 0 else None


def _sqrt(value: Value) -> Value:
    return math.sqrt(number_of(value)) if number_of(value) >= 0 else None


def _sign(value: Value) -> int:
    number = number_of(value)
    return (number > 0) - (number < 0)


def _concat(*values: Value) -> str:
    return "".join(map(text_of, values))


def _concat_ws(separator: Value, *values: Value) -> Value:
    """NULLs among the values are left out; only a NULL separator gives NULL."""
    if separator is None:
        return None
    return _short(text_of(separator).join(text_of(value) for value in values if value is not None))


def _left(value: Value, count: Value) -> str:
    return text_of(value)[: max(0, int(number_of(count)))]


def _right(value: Value, count: Value) -> str:
    size = int(number_of(count))
    return text_of(value)[-size:] if size > 0 else ""


def _substring(value: Value, start: Value, length: Value = None) -> str:
    text, first = text_of(value), int(number_of(start))
    if first == 0 or -first > len(text):
        return ""
    begin = first - 1 if first > 0 else len(text) + first
    return text[begin:] if length is None else text[begin : begin + max(0, int(number_of(length)))]


def _substring_index(value: Value, mark: Value, count: Value) -> str:
    text, separator, times = text_of(value), text_of(mark), int(number_of(count))
    if not separator or not times:
        return ""
    parts = text.split(separator)
    return separator.join(parts[:times] if times > 0 else parts[times:])


def _locate(part: Value, value: Value, start: Value = 1) -> int:
    return weights(text_of(value)).find(weights(text_of(part)), max(0, int(number_of(start)) - 1)) + 1


def _replace(value: Value, old: Value, new: Value) -> Value:
    text, what, by = text_of(value), text_of(old), text_of(new)
    if not what or len(text) + text.count(what) * (len(by) - len(what)) > MAX_TEXT:
        return text if not what else None
    return text.replace(what, by)


def _repeat(value: Value, count: Value) -> Value:
    text, times = text_of(value), max(0, int(number_of(count)))
    return text * times if len(text) * times <= MAX_TEXT else None


def _pad(left: bool) -> Callable[[Value, Value, Value], Value]:
    def padded(value: Value, width: Value, fill: Value) -> Value:
        text, size, filler = text_of(value), int(number_of(width)), text_of(fill)
        if size < 0 or size > MAX_TEXT or (not filler and size > len(text)):
            return None
        missing = max(0, size - len(text))
        more = (filler * (missing // max(1, len(filler)) + 1))[:missing]
        return (more + text[:size]) if left else (text[:size] + more)

    return padded


def _field(value: Value, *among: Value) -> int:
    """Place of the value in the list, NULLs never match."""
    if value is None:
        return 0
    texts = [None if other is None else weights(text_of(other)).rstrip() for other in among]
    wanted = weights(text_of(value)).rstrip()
    return texts.index(wanted) + 1 if wanted in texts else 0


def _find_in_set(value: Value, among: Value) -> int:
    return _field(value, *text_of(among).split(",")) if text_of(among) else 0


def _elt(place: Value, *values: Value) -> Value:
    index = int(number_of(place)) if place is not None else 0
    return values[index - 1] if 1 <= index <= len(values) else None


def _trim(value: Value, side: Value, mark: Value) -> str:
    text, what = text_of(value), text_of(mark)
    if what and side in ("both", "leading"):
        while text.startswith(what):
            text = text[len(what) :]
    if what and side in ("both", "trailing"):
        while text.endswith(what):
            text = text[: -len(what)]
    return text


def _format(value: Value, places: Value) -> str:
    return f"{quantized(float(number_of(value)), max(0, min(30, int(number_of(places))))):,}"


@lru_cache(1024)
def _like_pattern(pattern: str, escape: str) -> Any:
    parts, letters = [], iter(weights(pattern))
    for letter in letters:
        if letter == escape:
            parts.append(regex.escape(next(letters, letter)))
        else:
            parts.append(".*" if letter == "%" else "." if letter == "_" else regex.escape(letter))
    return regex.compile("".join(parts), regex.DOTALL)


def _like(value: Value, pattern: Value, escape: Value = "\\") -> int:
    found = _like_pattern(text_of(pattern), text_of(escape).upper())
    return int(found.fullmatch(weights(text_of(value)), timeout=REGEX_TIMEOUT_S) is not None)


def _regexp(value: Value, pattern: Value) -> int:
    found = regex.search(text_of(pattern), text_of(value), regex.IGNORECASE, timeout=REGEX_TIMEOUT_S)
    return int(found is not None)


def _cast_text(value: Value, width: Value = None) -> str:
    return text_of(value) if width is None else text_of(value)[: int(width)]


def _cast_int(value: Value) -> int:
    number = number_of(value)
    if isinstance(value, str):
        return int(_number_head(value))
    return number if isinstance(number, int) else int(quantized(number, 0))


@lru_cache(4096)
def _number_head(text: str) -> int:
    found = regex.match(r"\s*[+-]?\d+", text)
    return max(-(2**63), min(2**63 - 1, int(found[0]))) if found else 0


def _short(value: Value) -> Value:
    return None if isinstance(value, str) and len(value) > MAX_TEXT else value


class Meter:
    """What the functions of one statement may cost together, in characters: a call counts as 40 beside its result.

    The same on every machine, unlike a clock.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.spent = 0

    def add(self, value: Value) -> None:
        """Raises TimeoutError when the budget is spent."""
        self.spent += 40 + (len(value) if isinstance(value, str) else 0)
        if self.spent > self.budget:
            raise TimeoutError("the statement's functions cost too much")


def _strict(function: Callable[..., Value], meter: Meter) -> Callable[..., Value]:
    """NULL in, NULL out; a result that is too long or no number is NULL, too."""

    def called(*values: Value) -> Value:
        if None in values:
            return None
        try:
            result = _short(function(*values))
        except (ValueError, OverflowError, ZeroDivisionError, InvalidOperation, IndexError, regex.error):
            return None
        meter.add(result)
        return result

    return called


def _loose(function: Callable[..., Value], meter: Meter) -> Callable[..., Value]:
    """Functions that look at NULLs themselves."""

    def called(*values: Value) -> Value:
        result = function(*values)
        meter.add(result)
        return result

    return called


STRICT: dict[str, Callable[..., Value]] = {
    "concat": _concat,
    "left": _left,
    "right": _right,
    "length": lambda value: len(text_of(value).encode()),
    "char_length": lambda value: len(text_of(value)),
    "upper": lambda value: text_of(value).upper(),
    "lower": lambda value: text_of(value).lower(),
    "ltrim": lambda value: text_of(value).lstrip(" "),
    "rtrim": lambda value: text_of(value).rstrip(" "),
    "trim": _trim,
    "substring": _substring,
    "substring_index": _substring_index,
    "locate": _locate,
    "replace": _replace,
    "reverse": lambda value: text_of(value)[::-1],
    "repeat": _repeat,
    "space": lambda count: _repeat(" ", count),
    "lpad": _pad(True),
    "rpad": _pad(False),
    "find_in_set": _find_in_set,
    "strcmp": lambda a, b: compare(text_of(a), text_of(b)),
    "ascii": lambda value: text_of(value).encode()[0] if text_of(value) else 0,
    "char": lambda *codes: "".join(chr(int(number_of(code))) for code in codes),
    "hex": lambda v: f"{int(v):X}" if isinstance(v, int | float) else text_of(v).encode().hex().upper(),
    "format": _format,
    "round": _round,
    "truncate": _truncate,
    "ceil": lambda value: math.ceil(number_of(value)),
    "floor": lambda value: math.floor(number_of(value)),
    "abs": lambda value: abs(number_of(value)),
    "mod": _mod,
    "div": _div,
    "pow": _pow,
    "sqrt": _sqrt,
    "exp": lambda value: math.exp(number_of(value)),
    "log": _log,
    "log2": _log_to(2),
    "log10": _log_to(10),
    "sign": _sign,
    "like": _like,
    "regexp": _regexp,
    "cast_text": _cast_text,
    "cast_int": _cast_int,
    "decimal_text": lambda value, scale: f"{quantized(number_of(value), int(scale)):f}",
    "text": text_of,
    **DATE_FUNCTIONS,
}
LOOSE: dict[str, Callable[..., Value]] = {"concat_ws": _concat_ws, "field": _field, "elt": _elt}


class _GroupConcat:
    """GROUP_CONCAT: arguments are separator, distinct (0 or 1), directions (``ad``...), the value, the sort keys."""

    def __init__(self) -> None:
        self.items: list[tuple[str, tuple[Value, ...]]] = []
        self.separator, self.distinct, self.directions = ",", 0, ""

    def step(self, separator: str, distinct: int, directions: str, value: Value, *keys: Value) -> None:
        self.separator, self.distinct, self.directions = separator, distinct, directions
        if value is not None and len(self.items) < MAX_TEXT:
            self.items.append((text_of(value), keys))

    def finalize(self) -> Value:
        items = self.items
        for place in range(len(self.directions) - 1, -1, -1):
            items.sort(key=lambda item: _order_key(item[1][place]), reverse=self.directions[place] == "d")
        texts = [text for text, _ in items]
        if self.distinct:
            texts = list({weights(text).rstrip(): text for text in reversed(texts)}.values())[::-1]
        return self.separator.join(texts)[:1024] if texts else None  # group_concat_max_len


def _order_key(value: Value) -> tuple[int, Value]:
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, weights(text_of(value)))


class _Moments:
    """Running mean and sum of squared deviations (Welford), for the variance family."""

    sample, root = 0, False

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def step(self, value: Value) -> None:
        if value is not None:
            self.count += 1
            delta = number_of(value) - self.mean
            self.mean += delta / self.count
            self.squares += delta * (number_of(value) - self.mean)

    def finalize(self) -> Value:
        if self.count <= self.sample:
            return None
        variance = self.squares / (self.count - self.sample)
        return math.sqrt(variance) if self.root else variance


class _First:
    """The first value that comes: what MySQL shows of a column that is neither grouped nor aggregated."""

    def __init__(self) -> None:
        self.value: Value = None
        self.seen = False

    def step(self, value: Value) -> None:
        if not self.seen:
            self.value, self.seen = value, True

    def finalize(self) -> Value:
        return self.value


class _Single:
    """The only value of a subquery; a second one is MySQL's error 1242, told by the store."""

    def __init__(self) -> None:
        self.values: list[Value] = []

    def step(self, value: Value) -> None:
        if self.values:
            raise ValueError("more than one row")
        self.values.append(value)

    def finalize(self) -> Value:
        return self.values[0] if self.values else None


AGGREGATES: dict[str, tuple[int, type]] = {
    "group_concat": (-1, _GroupConcat),
    "first": (1, _First),
    "single": (1, _Single),
    "var_pop": (1, _Moments),
    "var_samp": (1, type("_Sample", (_Moments,), {"sample": 1})),
    "std_pop": (1, type("_Std", (_Moments,), {"root": True})),
    "std_samp": (1, type("_StdSample", (_Moments,), {"sample": 1, "root": True})),
}
PREFIX = "my_"  # of every function here, as SQLite knows it


def register(connection: sqlite3.Connection, meter: Meter) -> None:
    """Give a connection MySQL's functions and collation; ``meter`` counts what a statement's calls cost."""
    for name, function in STRICT.items():
        connection.create_function(PREFIX + name, -1, _strict(function, meter), deterministic=True)
    for name, function in LOOSE.items():
        connection.create_function(PREFIX + name, -1, _loose(function, meter), deterministic=True)
    for name, (count, aggregate) in AGGREGATES.items():
        connection.create_aggregate(PREFIX + name, count, aggregate)
    connection.create_collation(EXACT, compare)
