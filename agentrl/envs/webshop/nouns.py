"""Which words of a product name count as nouns: the part of the reward that needs a tagger.

The original tags names with spaCy, so its reward depends on the model that happens to be installed. Here
the nouns come from a table (a JSON file ``{asin: [nouns]}``, made with any tagger) or, without one, from a
rule of ours.

Differs from spaCy: the rule knows no parts of speech. Every run of ASCII letters of at least three letters
that is not a stop word counts as a noun, so adjectives and verbs (``wooden``, ``washable``) count too, and
words of one or two letters never do. Title scores are therefore usually a little higher than a tagger's.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from agentrl.errors import DataError

_STOP_WORDS = (
    "about above after all and any are around before below between both but can compatible each easy every extra for"
    " from great had has have her his how into its large more most much new non not off one only other our out over own"
    " per plus set size small some such than that the their them then these they this those three through too two under"
    " until use very via was were what when where which while who why will with within without you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_WORD = re.compile(r"[A-Za-z]{3,}")


class Nouns(Protocol):
    """A noun table: ``name`` goes into fingerprints; calling it gives lower-cased nouns in order, with repeats."""

    @property
    def name(self) -> str: ...

    def __call__(self, asin: str, title: str, /) -> tuple[str, ...]: ...


@lru_cache(maxsize=65_536)
def rule_nouns(title: str) -> tuple[str, ...]:
    """Nouns of a product name by the rule above."""
    return tuple(word for word in map(str.lower, _WORD.findall(title)) if word not in STOP_WORDS)


@dataclass(frozen=True)
class RuleNouns:
    """The default: a stop-list rule, no table."""

    name: str = "rules"

    def __call__(self, _asin: str, title: str, /) -> tuple[str, ...]:
        return rule_nouns(title)


@dataclass(frozen=True)
class TableNouns:
    """A given table; products it does not list fall back to the rule."""

    name: str
    table: Mapping[str, tuple[str, ...]] = field(repr=False)

    def __call__(self, asin: str, title: str, /) -> tuple[str, ...]:
        nouns = self.table.get(asin)
        return rule_nouns(title) if nouns is None else nouns


def load_nouns(source: str) -> Nouns:
    """``rules`` or the path of a JSON table ``{asin: [nouns]}`` (may be gzipped). Raises DataError if unreadable."""
    if source == "rules":
        return RuleNouns()
    path = Path(source)
    try:
        raw = path.read_bytes()
        table = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        return TableNouns(path.name, {asin: tuple(nouns) for asin, nouns in table.items()})
    except (OSError, EOFError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"noun table {source!r} could not be read ({error}); expected `rules` or a JSON file {{asin: [nouns]}}"
        ) from None
