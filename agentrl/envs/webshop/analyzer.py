"""Lucene's English analyzer: text to search terms, without Java.

UAX #29 words as Lucene 9's StandardTokenizer cuts them (emoji are words, pictures of numbers are not),
possessive ``'s`` dropped, lower case, 33 stop words dropped, Porter stems. Stems come from NLTK's Porter
stemmer in the mode with Martin Porter's own extensions, which is Lucene's.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache, lru_cache

from nltk.stem.porter import PorterStemmer

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this"
    " to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
MAX_TOKEN = 255
_MID_LETTER = ":\u00b7\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a"
_MID_NUMBER = ",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b"
_MID_BOTH = ".'\u2018\u2019\u2024\ufe52\uff07\uff0e"
_JOINER = "_\u203f\u2040\u2054\ufe33\ufe34\ufe4d-\ufe4f\uff3f"
_KATAKANA = "\u3031-\u3035\u309b\u309c\u30a0-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357\uff66-\uff9d"
_VOICED = "\uff9e\uff9f"
_HAN = "\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\U00020000-\U0003134f"
_HIRAGANA = "\u3041-\u3096\u309d-\u309f"
_SOUTHEAST = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_OTHER_ALPHABETIC = "\u24b6-\u24e9\u0345\u05f3\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189"
_PICTURES = (
    "\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u2388\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2605\u2607-\u2612\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2714\u2716"
    "\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c\u274e\u2753-\u2755\u2757\u2763-\u2767\u2795-\u2797\u27a1\u27b0\u27bf"
    "\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\u00a9\u00ae"
    "\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f16f\U0001f18e\U0001f191-\U0001f19a"
    "\U0001f201-\U0001f20f\U0001f21a\U0001f22f\U0001f232-\U0001f23a\U0001f249-\U0001f3fa\U0001f400-\U0001f64f"
    "\U0001f680-\U0001f6ff\U0001f774-\U0001f77f\U0001f7d5-\U0001f7ff\U0001f900-\U0001faff"
)
_SKIN = "\U0001f3fb-\U0001f3ff"
_FLAGS = "\U0001f1e6-\U0001f1ff"


def _ranges(categories: frozenset[str]) -> str:
    """The body of a character class: every character of the given Unicode categories up to U+1FFFF."""
    points = [point for point in range(0x20000) if unicodedata.category(chr(point)) in categories]
    parts: list[str] = []
    start = previous = points[0]
    for point in [*points[1:], sys.maxunicode + 2]:
        if point != previous + 1:
            parts.append(re.escape(chr(start)) + ("" if start == previous else "-" + re.escape(chr(previous))))
            start = point
        previous = point
    return "".join(parts)


def _word(letter: str, number: str, joiner: str, mids: tuple[str, str], katakana: str) -> str:
    """Runs of letters and digits with the marks that join them (rules WB5 to WB13 of UAX #29)."""
    letters = f"(?:{letter})+(?:{mids[0]}(?:{letter})+)*"
    numbers = f"(?:{number})+(?:{mids[1]}(?:{number})+)*"
    core = f"(?:(?:{letters}|{numbers})+{katakana})"
    return f"(?:{joiner})*{core}(?:(?:{joiner})+{core})*(?:{joiner})*"


_ASCII_WORD = re.compile(_word("[A-Za-z]", "[0-9]", "_", ("[:.']", "[,;.']"), ""))


@cache
def _token_pattern() -> re.Pattern[str]:
    """One alternative for each token type of UAX #29 as Lucene names them."""
    special = f"{_KATAKANA}{_HAN}{_HIRAGANA}{_SOUTHEAST}"
    extend = f"(?:[{_ranges(frozenset({'Mn', 'Mc', 'Me', 'Cf'}))}{_VOICED}](?<!\u200b))*"
    letters = _ranges(frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nl"}))
    letter = f"(?![{special}{_VOICED}])[{letters}{_OTHER_ALPHABETIC}]{extend}"
    number = f"[{_ranges(frozenset({'Nd'}))}\u066b]{extend}"
    joiner = f"[{_JOINER}]{extend}"
    katakana = f"|[{_KATAKANA}]{extend}(?:(?:{joiner})*[{_KATAKANA}]{extend})*"
    mids = (f"[{_MID_LETTER}{_MID_BOTH}]{extend}", f"[{_MID_NUMBER}{_MID_BOTH}]{extend}")
    picture = f"[{_PICTURES}](?:\ufe0f|[{_SKIN}])?(?:\u200d[{_PICTURES}](?:\ufe0f|[{_SKIN}])?)*"
    alternatives = (
        _word(letter, number, joiner, mids, katakana),
        f"[{_FLAGS}]{{2}}",
        picture,
        f"[{_SOUTHEAST}]+",
        f"[{_HAN}{_HIRAGANA}]{extend}",
    )
    return re.compile("|".join(alternatives))


@cache
def _stemmer() -> PorterStemmer:
    return PorterStemmer(mode=PorterStemmer.MARTIN_EXTENSIONS)


@lru_cache(maxsize=32_768)
def term_of(word: str) -> str:
    """The search term of one word, "" for a stop word."""
    if len(word) > 1 and word[-1] in "sS" and word[-2] in "'\u2019\uff07":
        word = word[:-2]
    word = word.lower()
    if word in STOP_WORDS:
        return ""
    stem: str = _stemmer().stem(word) if len(word) > 2 else word
    return stem


def words_of(text: str) -> list[str]:
    """The words of a text as Lucene's StandardTokenizer cuts them (longer ones in pieces of 255 characters)."""
    words = (_ASCII_WORD if text.isascii() else _token_pattern()).findall(text)
    if all(len(word) <= MAX_TOKEN for word in words):
        return words
    return [word[i : i + MAX_TOKEN] for word in words for i in range(0, len(word), MAX_TOKEN)]


def analyze(text: str) -> list[str]:
    """The search terms of a text, in order."""
    return [term for word in words_of(text) if (term := term_of(word))]
