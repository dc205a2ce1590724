"""MySQL's functions of dates and times, on ISO text.

What is no date gives NULL, as in MySQL. ``parse`` also reads MySQL's loose forms (``2014-1-5``, ``20140105``).
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Value = Any
NOW = datetime.datetime(2024, 1, 1, 12, 0, 0)  # the time of every episode (ours: results never depend on the day)
LOOSE = re.compile(
    r"\s*(\d{4})[-/.:](\d{1,2})[-/.:](\d{1,2})(?:[ T]+(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)?)?"
)
PACKED = re.compile(r"\s*(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2}))?\s*$")
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
MONTHS = {"month": 1, "quarter": 3, "year": 12}


@lru_cache(8192)
def parse(text: str) -> datetime.datetime | None:
    """A date with or without time, as MySQL reads text; None when it is none."""
    found = LOOSE.match(text) or PACKED.match(text)
    if found is None:
        return None
    parts = [int(part or 0) for part in found.groups()[:6]]
    micro = int((found[7] or "0").ljust(6, "0")) if found.re is LOOSE else 0
    try:
        year, month, day, hour, minute, second = parts
        return datetime.datetime(year, month, day, hour, minute, second, micro)
    except ValueError:
        return None


def iso(moment: datetime.datetime | None, with_time: bool = True) -> str | None:
    """The stored form: ``YYYY-MM-DD`` or ``YYYY-MM-DD HH:MM:SS[.ffffff]``."""
    if moment is None:
        return None
    return moment.isoformat(" ") if with_time else moment.date().isoformat()


def has_time(text: str) -> bool:
    """Does this text hold more than a date?"""
    return len(text.strip()) > 10


def moment_of(value: Value) -> datetime.datetime | None:
    """A value as a moment: ISO text, or MySQL's packed numbers."""
    return parse(str(int(value)) if isinstance(value, int | float) else str(value))


def number_of(value: Value) -> Value:
    """MySQL's number of a date (20140105) or moment (20140105093000)."""
    moment = moment_of(value)
    if moment is None:
        return None
    return int(moment.strftime("%Y%m%d%H%M%S" if has_time(str(value)) else "%Y%m%d"))


def _part(read: Callable[[datetime.datetime], Value]) -> Callable[[Value], Value]:
    def called(value: Value) -> Value:
        moment = moment_of(value)
        return None if moment is None else read(moment)

    return called


def _clock(read: Callable[[datetime.datetime], Value]) -> Callable[[Value], Value]:
    """Parts of a time: also of a bare ``HH:MM:SS``."""

    def called(value: Value) -> Value:
        text = str(value)
        moment = parse(f"2000-01-01 {text}") if re.match(r"\s*\d{1,2}:", text) else moment_of(value)
        return None if moment is None else read(moment)

    return called


def _week(moment: datetime.datetime) -> int:
    """Mode 0: weeks begin on Sunday, those before the first Sunday are week 0."""
    return int(moment.strftime("%U"))


PARTS: dict[str, Callable[[datetime.datetime], Value]] = {
    "year": lambda m: m.year,
    "month": lambda m: m.month,
    "day": lambda m: m.day,
    "dayofweek": lambda m: m.isoweekday() % 7 + 1,
    "weekday": lambda m: m.weekday(),
    "dayofyear": lambda m: m.timetuple().tm_yday,
    "week": _week,
    "quarter": lambda m: (m.month + 2) // 3,
    "dayname": lambda m: calendar.day_name[m.weekday()],
    "monthname": lambda m: calendar.month_name[m.month],
    "to_days": lambda m: m.toordinal() + 365,
    "last_day": lambda m: f"{m.year:04d}-{m.month:02d}-{calendar.monthrange(m.year, m.month)[1]:02d}",
    "unix_timestamp": lambda m: int(m.replace(tzinfo=datetime.UTC).timestamp()),
}
CLOCK: dict[str, Callable[[datetime.datetime], Value]] = {
    "hour": lambda m: m.hour,
    "minute": lambda m: m.minute,
    "second": lambda m: m.second,
    "time": lambda m: m.time().isoformat(),
}


def _shift(value: Value, count: Value, unit: Value) -> Value:
    """DATE_ADD: months end at the last day of a shorter month; a date stays a date under units of days and more."""
    moment = moment_of(value)
    if moment is None:
        return None
    name, number = str(unit).lower().rstrip("s"), float(count)
    if name in MONTHS:
        months = moment.year * 12 + moment.month - 1 + int(number) * MONTHS[name]
        year, month = divmod(months, 12)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        moment = moment.replace(year=year, month=month + 1, day=day)
    elif name in UNITS:
        moment += datetime.timedelta(seconds=number * UNITS[name])
    else:
        return None
    return iso(moment, has_time(str(value)) or name in ("second", "minute", "hour"))


def _difference(a: Value, b: Value) -> Value:
    one, other = moment_of(a), moment_of(b)
    return None if one is None or other is None else (one.date() - other.date()).days


def _timestampdiff(unit: Value, a: Value, b: Value) -> Value:
    start, end = moment_of(a), moment_of(b)
    name = str(unit).lower().rstrip("s")
    if start is None or end is None or name not in UNITS | MONTHS:
        return None
    if name in UNITS:
        return int((end - start).total_seconds() / UNITS[name])
    sign = 1 if end >= start else -1
    early, late = (start, end) if sign > 0 else (end, start)
    months = (late.year - early.year) * 12 + late.month - early.month
    months -= (late.day, late.time()) < (early.day, early.time())
    return sign * (months // MONTHS[name])


PLAIN_FORMATS = dict(zip("YmdHMSfpajy", "YmdHMSfpajy", strict=True)) | {
    "i": "M", "s": "S", "S": "S", "h": "I", "I": "I", "b": "b", "M": "B", "W": "A", "U": "U", "u": "W", "w": "w",
}  # fmt: skip


def _date_format(value: Value, layout: Value) -> Value:
    moment = moment_of(value)
    if moment is None:
        return None
    own: dict[str, Callable[[datetime.datetime], str]] = {
        "e": lambda m: str(m.day),
        "c": lambda m: str(m.month),
        "k": lambda m: str(m.hour),
        "l": lambda m: str((m.hour + 11) % 12 + 1),
        "D": lambda m: f"{m.day}{_ordinal(m.day)}",
        "T": lambda m: m.strftime("%H:%M:%S"),
        "r": lambda m: m.strftime("%I:%M:%S %p"),
    }

    def filled(found: re.Match[str]) -> str:
        letter = found[1]
        if letter in own:
            return own[letter](moment)
        return moment.strftime(f"%{PLAIN_FORMATS[letter]}") if letter in PLAIN_FORMATS else letter

    return re.sub(r"%(.)", filled, str(layout))


def _ordinal(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _str_to_date(text: Value, layout: Value) -> Value:
    names = {"e": "d", "c": "m", "k": "H", "l": "I", "T": "H:%M:%S", "D": "d"}

    def filled(found: re.Match[str]) -> str:
        return "%" + (names.get(found[1]) or PLAIN_FORMATS.get(found[1], found[1]))

    pattern = re.sub(r"%(.)", filled, str(layout))
    moment = datetime.datetime.strptime(str(text), pattern)
    return iso(moment, any(f"%{mark}" in pattern for mark in "HIMSfp"))


def as_date(value: Value) -> Value:
    return iso(moment_of(value), False)


def as_datetime(value: Value) -> Value:
    return iso(moment_of(value))


DATE_FUNCTIONS: dict[str, Callable[..., Value]] = {
    **{name: _part(read) for name, read in PARTS.items()},
    **{name: _clock(read) for name, read in CLOCK.items()},
    "date": as_date,
    "datetime": as_datetime,
    "date_number": number_of,
    "date_shift": _shift,
    "datediff": _difference,
    "timestampdiff": _timestampdiff,
    "date_format": _date_format,
    "str_to_date": _str_to_date,
    "from_unixtime": lambda s: (
        datetime.datetime.fromtimestamp(float(s), datetime.UTC).replace(tzinfo=None).isoformat(" ")
    ),
}
