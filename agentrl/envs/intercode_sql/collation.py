"""How MySQL's default collation compares texts: without regard to case, accents and trailing spaces.

``utf8mb4_general_ci`` gives every letter of the basic plane the weight of its unaccented capital, and pads the shorter
text with spaces. SQLite's own NOCASE does the same on plain texts and is far faster than a Python callback; so a
column holds NOCASE while all its values are plain, and the exact collation otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

EXACT, PLAIN, BINARY = "mysql_ci", "nocase", "binary"
PLAIN_TEXT = re.compile(r"(?:[ -Za-z{|}~]*[!-Za-z{|}~])?")  # ASCII, nothing between Z and a, no space at the end


def is_plain(text: str) -> bool:
    """Does NOCASE treat this text as MySQL would?"""
    return PLAIN_TEXT.fullmatch(text) is not None


@lru_cache(65536)
def weights(text: str) -> str:
    """The text by whose code points MySQL orders, before padding."""
    if text.isascii():
        return text.upper()
    return "".join(map(_weight, text))


@lru_cache(4096)
def _weight(letter: str) -> str:
    if letter == "ß":
        return "S"
    if ord(letter) > 0xFFFF:
        return "\ufffd"
    base = unicodedata.normalize("NFD", letter)[0]
    capital = base.upper()
    return capital if len(capital) == 1 else base


def compare(one: str, other: str) -> int:
    """-1, 0 or 1, as SQLite wants it of a collation."""
    if one == other:
        return 0
    width = max(len(one), len(other))
    a, b = weights(one).ljust(width), weights(other).ljust(width)
    return (a > b) - (a < b)
