"""How a question is shown and how a reply becomes an action: tags for language models, short words for a tiny one.

The compact view is a world of lines: the goal, then everything found so far, then an answer of relations and values::

    find born birthplace of photo 37
    > look photo 37
    seen photo 37 galvero jug
    > search galvero jug
    seen photo 37 galvero jug | galvero jug born 60 birthplace leather egg profession pot
    > answer born 60 birthplace leather egg

Goal and observation together are all that a player needs. Of a search it shows the best hit alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from agentrl.envs import tags
from agentrl.envs.long_qa.records import Record
from agentrl.envs.long_qa.world import World
from agentrl.retrieval import Hit
from agentrl.types import Message, Messages

COMPACT_WORDS = ("photo",)  # beside the encyclopedia's own
VERBS = ("search", "view", "answer")
NOTES = 4  # lines that the compact view keeps; a question needs at most three searches, or a look and one

RULES = (
    "Answer the question in a few full sentences: every fact it asks for, and nothing that you have not found. Write "
    "<search>words</search> to look something up; the best passages come back inside <information> tags. Write "
    "<view>URL</view> to be told what the picture at that URL shows. You may think inside <think> tags first; use one "
    "tool in a reply, as often as you need, within {turns} replies. End with <answer>your whole answer</answer>.\n"
)
REMINDER = (
    "\nThat reply did nothing. Use <search>words</search> to look something up, <view>URL</view> to see a picture, or "
    "<answer>your whole answer</answer> to finish.\n"
)
NOTHING = "Nothing was found."
NO_PICTURE = "There is no picture at this URL."


class Act(NamedTuple):
    """What a reply means: one of ``VERBS`` and its argument."""

    verb: str
    argument: str


@dataclass(frozen=True, slots=True)
class State:
    """Where an episode stands. ``acts``: searches and views so far; ``notes``: compact lines; ``shown``: the text."""

    acts: tuple[Act, ...] = ()
    notes: tuple[str, ...] = ()
    shown: str = ""
    done: bool = False


class View(Protocol):
    """What an episode needs to be shown and played."""

    @property
    def compact(self) -> bool: ...

    def goal(self, record: Record, /) -> Messages: ...

    def observe(self, state: State, /) -> Messages: ...

    def read(self, record: Record, reply: str, /) -> Act | None:
        """What a reply means, None when it follows no grammar. Of a view the argument is the URL."""
        ...

    def write(self, record: Record, act: Act, /) -> str: ...

    def found(self, hits: Sequence[Hit], /) -> str: ...

    def looked(self, record: Record, url: str, /) -> str: ...

    def refused(self) -> str:
        """What is shown for a reply outside the grammar."""
        ...

    def asked(self, record: Record, /) -> tuple[str, str]:
        """Question and reference as the judge is told them."""
        ...


@dataclass(frozen=True)
class TextView:
    """Search-R1's tags with one more for pictures. ``turns``: replies an episode has; ``most``: characters shown."""

    turns: int
    most: int
    compact: bool = field(default=False, init=False)

    def goal(self, record: Record, /) -> Messages:
        return (Message("user", f"{RULES.format(turns=self.turns)}Question: {record.question}"),)

    def observe(self, state: State, /) -> Messages:
        return (Message("user", state.shown),) if state.shown and not state.done else ()

    def read(self, record: Record, reply: str, /) -> Act | None:
        meant = tags.first(tags.cut(reply, VERBS), VERBS)
        return Act(*meant) if meant is not None else None

    def write(self, record: Record, act: Act, /) -> str:
        return f"<{act.verb}>{act.argument}</{act.verb}>"

    def found(self, hits: Sequence[Hit], /) -> str:
        return self._shown(tags.listed([hit.document.contents for hit in hits]) or NOTHING)

    def looked(self, record: Record, url: str, /) -> str:
        return self._shown(record.media.get(url, NO_PICTURE))

    def refused(self) -> str:
        return REMINDER

    def asked(self, record: Record, /) -> tuple[str, str]:
        return record.question, record.reference

    def _shown(self, text: str) -> str:
        return tags.information(text[: self.most])


@dataclass(frozen=True)
class CompactView:
    """Short words of the bundled world."""

    world: World
    compact: bool = field(default=True, init=False)

    def goal(self, record: Record, /) -> Messages:
        return (Message("user", self.question(record)),)

    def question(self, record: Record) -> str:
        """The goal line."""
        subjects = [label(record)] if record.media else [self.short(part.subject) for part in record.parts]
        asked = [
            f"{' '.join(part.relations)} of {subject}" for part, subject in zip(record.parts, subjects, strict=True)
        ]
        return f"find {' and '.join(asked)}"

    def observe(self, state: State, /) -> Messages:
        return (Message("user", "done" if state.done else f"seen {' | '.join(state.notes) or 'none'}"),)

    def read(self, record: Record, reply: str, /) -> Act | None:
        verb, _, rest = reply.strip().partition(" ")
        rest = " ".join(rest.split())
        if not rest:
            return None
        if verb == "look":
            return Act("view", next(iter(record.media)) if record.media and rest == label(record) else rest)
        return Act(verb, rest) if verb in ("search", "answer") else None

    def write(self, record: Record, act: Act, /) -> str:
        if act.verb == "view":
            return f"look {label(record) if act.argument in record.media else act.argument}"
        return f"{act.verb} {act.argument}"

    def found(self, hits: Sequence[Hit], /) -> str:
        return hits[0].document.text if hits else ""

    def looked(self, record: Record, url: str, /) -> str:
        return f"{label(record)} {self.short(record.parts[0].subject)}" if url in record.media else ""

    def refused(self) -> str:
        return ""

    def asked(self, record: Record, /) -> tuple[str, str]:
        return self.question(record), self.reference(record)

    def reference(self, record: Record) -> str:
        """The right answer: each relation with its value, in the order of the question."""
        facts = self.world.facts(record.parts, True)
        return " ".join(f"{fact.cues[0]} {fact.values[0]}" for fact in facts)

    def short(self, name: str) -> str:
        """The compact name of an entity."""
        return self.world.encyclopedia.entities[name].short


def label(record: Record) -> str:
    """The compact name of a record's picture: a number that tells nothing."""
    url = next(iter(record.media))
    return f"photo {1 + int.from_bytes(url.encode()[-8:-4], 'big') % 99}"


def noted(notes: tuple[str, ...], line: str) -> tuple[str, ...]:
    """The notes with one more line, without repetition, the newest last."""
    if not line:
        return notes
    return (*(note for note in notes if note != line), line)[-NOTES:]
