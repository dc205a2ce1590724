"""The words, numbers and names of a text, normalised so that two spellings of one fact compare equal.

Lower case without accents, articles dropped, ``1,200`` = ``1200`` = ``1.2 thousand``, ``three`` = ``3``.
Sentences and clauses are found by punctuation and a few joining words; nothing here needs a model or a download.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Words = tuple[str, ...]

DIGITS = "0123456789"
ARTICLES = frozenset({"a", "an", "the"})
NEGATIONS = frozenset({"not", "never", "no", "isn't", "wasn't", "aren't", "weren't", "didn't", "doesn't", "without"})
JOINTS = frozenset({"and", "but", "while", "whereas", "then", "who", "which"})  # a clause begins behind them
SMALL = {"zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
CALENDAR = (
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday i"
)
FILLERS = (
    "is was are were be been being has have had do does did of in on at by to from for with as and or but that this "
    "these those it its he she his her him you your we our they their there which who whom whose what when where how "
    "then than also so into about after before during between both here however"
)
COMMON = frozenset({*CALENDAR.split(), *FILLERS.split(), *ARTICLES})  # no names, however they are written

_URL = re.compile(r"\b[a-z]+://\S+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[;\n]")
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|,|:")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"[0-9]{1,24}(?:\.[0-9]+)?")
_ABBREVIATION = re.compile(r"(?:^|\W)(?:[^\W\d_]|mr|mrs|ms|dr|st|jr|sr|no|vs)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Word:
    """One normalised word; ``clause`` counts clauses inside the sentence, ``capital`` is as it was written."""

    text: str
    clause: int = 0
    capital: bool = False

    @property
    def number(self) -> bool:
        return self.text[0] in DIGITS


@dataclass(frozen=True, slots=True)
class Mention:
    """A number or a name in a sentence: ``words[start:end]``."""

    start: int
    end: int
    words: Words
    number: bool


def sentences(text: str) -> list[list[Word]]:
    """The sentences of a text, each a list of words. URLs are left out."""
    found: list[list[Word]] = []
    for piece in _pieces(_URL.sub(" ", text)):
        words = _read(piece)
        if words:
            found.append(words)
    return found


@lru_cache(16_384)  # questions, references and the values of facts come again and again
def words_of(text: str) -> Words:
    """All normalised words of a text in one row."""
    return tuple(word.text for sentence in sentences(text) for word in sentence)


def occurrences(needle: Words, words: Sequence[str]) -> Iterator[int]:
    """Places at which ``needle`` (not empty) stands in ``words``."""
    size = len(needle)
    for place in range(len(words) - size + 1):
        if tuple(words[place : place + size]) == needle:
            yield place


def contains(words: Sequence[str], needle: Words) -> bool:
    """Whether ``needle`` stands in ``words`` as one piece."""
    return bool(needle) and next(occurrences(needle, words), None) is not None


@dataclass(frozen=True)
class Lexicon:
    """Names of a closed world, found in any spelling of case and accents."""

    by_first: dict[str, tuple[Words, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> Lexicon:
        """Names that are plain numbers, or nothing but fillers, are left out."""
        table: dict[str, set[Words]] = {}
        for name in names:
            words = words_of(name)
            if words and not all(word in COMMON or word[0] in DIGITS for word in words):
                table.setdefault(words[0], set()).add(words)
        return cls({first: tuple(sorted(group, key=lambda w: (-len(w), w))) for first, group in table.items()})

    def at(self, words: Sequence[str], place: int) -> int:
        """Length in words of the longest name that begins at ``place``; 0 if there is none."""
        for name in self.by_first.get(words[place], ()):
            if tuple(words[place : place + len(name)]) == name:
                return len(name)
        return 0


def mentions(sentence: Sequence[Word], names: Lexicon) -> list[Mention]:
    """Numbers, names of the world, and capitalised names (not a single word at the start of the sentence).

    A sentence written mostly in capitals shows no names by its capitals.
    """
    texts = [word.text for word in sentence]
    shouting = sum(word.capital for word in sentence) > 0.6 * len(sentence) and len(sentence) > 4
    found: list[Mention] = []
    place = 0
    while place < len(sentence):
        size = max(names.at(texts, place), 0 if shouting else _capitals(sentence, place))
        if size or sentence[place].number:
            end = place + max(size, 1)
            found.append(Mention(place, end, tuple(texts[place:end]), not size))
            place = end
        else:
            place += 1
    return found


def _capitals(sentence: Sequence[Word], place: int) -> int:
    end = place
    while end < len(sentence) and sentence[end].capital and sentence[end].clause == sentence[place].clause:
        end += 1
    if place == 0 and (end == 1 or sentence[0].text in COMMON):
        return 0
    return 0 if all(word.text in COMMON for word in sentence[place:end]) else end - place


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        if match[0] == "." and _ABBREVIATION.search(text[max(0, match.start() - 5) : match.start()]):
            continue
        yield text[begin : match.start()]
        begin = match.end()
    yield text[begin:]


def _read(piece: str) -> list[Word]:
    words: list[Word] = []
    clause = 0
    for match in _WORD.finditer(piece):
        raw = match[0]
        if raw in ",:":
            clause += 1
            continue
        text = _plain(raw)
        if text in JOINTS:
            clause += 1
        if text in SCALES and words and _DECIMAL.fullmatch(words[-1].text):
            words[-1] = Word(_number(float(words[-1].text) * SCALES[text]), words[-1].clause)
        elif text and text not in ARTICLES:
            words.append(Word(text, clause, raw[0].isupper()))
    return words


def _plain(raw: str) -> str:
    if raw[0].isdigit():
        return _digits(raw)
    text = unicodedata.normalize("NFKD", raw).casefold().replace("\u2019", "'")
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = text.removesuffix("'s")
    return str(SMALL[text]) if text in SMALL else text


def _digits(raw: str) -> str:
    """A number in one form. What is no number in ASCII digits of sane length stays as it is written."""
    bare = raw.replace(",", "") if _GROUPED.fullmatch(raw) else raw
    if not bare.isascii() or len(bare) > 15:
        return unicodedata.normalize("NFKC", bare)
    try:
        return _number(float(bare))
    except ValueError:  # 1.2.3, 1,5
        return bare


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
