"""When two argument values are the same.

Two sets of rules: our own loose one (:func:`equal`), and the one of the Berkeley function-calling leaderboard
(:func:`allowed`), which also looks at the types of the function's schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

IGNORED = re.compile(r"[ ,./\-_*^]")  # BFCL's checker leaves these out of strings before comparing
RELATIVE = 1e-9  # numbers this close are the same number
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "float": (int, float),  # an integer stands for a float
    "boolean": (bool,),
    "array": (list,),
    "tuple": (list,),
    "dict": (dict,),
    "object": (dict,),
    "any": (object,),
}


def standard(text: str) -> str:
    """A string without spaces and ``, . / - _ * ^``, in lower case, its single quotes double."""
    return IGNORED.sub("", text).lower().replace("'", '"')


def equal(one: Any, other: Any) -> bool:
    """The same value: numbers by size, strings by :func:`standard`, lists in order, objects by key.

    A boolean is no number; a string that spells a number equals the number (``"5"`` and ``5``).
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or abs(one - other) <= RELATIVE * max(abs(one), abs(other))
    if isinstance(one, str) and isinstance(other, str):
        return one == other or (standard(one) == standard(other) and bool(standard(one)))
    if isinstance(one, str) and isinstance(other, int | float):
        one, other = other, one
    if isinstance(one, int | float) and isinstance(other, str):
        return number_of(other) is not None and equal(one, number_of(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def number_of(text: str) -> int | float | None:
    """The number that a whole text spells, if it does."""
    if not re.fullmatch(r"\s*[+-]?\d{1,300}(\.\d{1,300})?\s*", text):
        return None
    return float(text) if "." in text else int(text)


def allowed(value: Any, values: Sequence[Any], schema: Mapping[str, Any]) -> bool:
    """BFCL's rules: the type as in the schema, and one of the allowed values.

    A value of another type passes only when an allowed value has that very type (the checker's rule for variables).
    """
    kind = str(schema.get("type", "any"))
    if not _typed(value, kind):
        return any(type(item) is type(value) and item == value for item in values)
    if isinstance(value, str):
        return any(isinstance(item, str) and standard(item) == standard(value) for item in values)
    if isinstance(value, dict):
        return any(isinstance(item, Mapping) and _fields_allowed(value, item) for item in values)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return any(_dicts_allowed(value, item) for item in values if isinstance(item, list))
    if isinstance(value, list):
        items = schema.get("items", {})
        return any(
            isinstance(item, list) and _plain(item) == _plain(value) and _same_kinds(value, item, items)
            for item in values
        )
    return any(item == value and isinstance(item, bool) == isinstance(value, bool) for item in values)


def _typed(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind in ("boolean", "any")
    return isinstance(value, TYPES.get(kind, (object,)))


def _same_kinds(value: list[Any], gold: list[Any], items: Any) -> bool:
    """Elements have the type the schema names, or that of the allowed list (which may differ from the schema)."""
    kind = str(items.get("type", "any")) if isinstance(items, Mapping) else "any"
    return all(_typed(v, kind) or type(v) is type(g) for v, g in zip(value, gold, strict=True))


def _plain(value: Any) -> Any:
    """A list with its strings in standard form."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return standard(value) if isinstance(value, str) else value


def _fields_allowed(value: Mapping[str, Any], gold: Mapping[str, Any]) -> bool:
    """Every field among its allowed values; a field that is left out must allow that (``""``)."""
    for key, item in value.items():
        choices = gold.get(key)
        if choices is None or _plain(item) not in [_plain(choice) for choice in _listed(choices)]:
            return False
    return all(key in value or "" in _listed(choices) for key, choices in gold.items())


def _dicts_allowed(value: Sequence[Any], gold: Sequence[Any]) -> bool:
    """Lists of objects, place by place."""
    return len(value) == len(gold) and all(
        isinstance(one, Mapping) and isinstance(other, Mapping) and _fields_allowed(one, other)
        for one, other in zip(value, gold, strict=True)
    )


def _listed(choices: Any) -> list[Any]:
    return choices if isinstance(choices, list) else [choices]
