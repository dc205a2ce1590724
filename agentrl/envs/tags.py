"""The tags by which a model searches and answers, as Search-R1 (Jin et al. 2025, arXiv 2503.09516) reads them.

A reply thinks in ``<think>`` and acts with ``<search>query</search>`` or ``<answer>text</answer>``; what a search finds
comes back inside ``<information>``. Engines stop at the end of a turn, not at a tag, so a reply is cut here: behind the
first ``</search>`` if it has one, else behind the first ``</answer>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

NAMES = ("search", "answer")  # the order is the order of cutting


def cut(reply: str, names: Sequence[str] = NAMES) -> str:
    """The reply up to the first closing tag of the first of ``names`` that is closed in it; whole when none is."""
    for name in names:
        before, found, _ = reply.partition(f"</{name}>")
        if found:
            return before + found
    return reply


def first(reply: str, names: Sequence[str] = NAMES) -> tuple[str, str] | None:
    """(name, content without outer spaces) of the first complete tag of any of ``names``; None when there is none."""
    last = {name: reply.rfind(f"</{name}>") for name in names}  # so that a flood of open tags is read once
    for tag in _pattern(tuple(names)).finditer(reply):
        if tag.end() <= last[tag[1]]:
            return tag[1], reply[tag.end() : reply.find(f"</{tag[1]}>", tag.end())].strip()
    return None


def ambiguous(reply: str, names: Sequence[str] = NAMES) -> bool:
    """Does the reply hold several kinds of tag, or one kind twice (which verl-agent's wrapper calls invalid)?"""
    counts = [reply.count(f"<{name}>") for name in names]
    return sum(count > 0 for count in counts) > 1 or max(counts) > 1


def information(text: str) -> str:
    """What a search found, as it is shown."""
    return f"\n\n<information>{text.strip()}</information>\n\n"


def listed(contents: Sequence[str]) -> str:
    """Passages as numbered documents; the first line of each is its title."""
    parts = (text.partition("\n") for text in contents)
    return "".join(f"Doc {number}(Title: {title}) {text}\n" for number, (title, _, text) in enumerate(parts, 1))


@lru_cache(16)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"<({'|'.join(map(re.escape, names))})>")
