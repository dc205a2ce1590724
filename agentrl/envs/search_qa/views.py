"""How an episode is shown and how a reply becomes an action: Search-R1's tags, or short words for a tiny model.

An episode knows neither: it asks its view. ``read`` gives ("search", query), ("answer", text) or None.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from agentrl.encyclopedia import Encyclopedia
from agentrl.envs import tags
from agentrl.envs.search_qa import compact
from agentrl.envs.search_qa.scoring import EXPECTED, extract
from agentrl.envs.search_qa.seeker import Line, decide, want_of
from agentrl.envs.search_qa.session import Session
from agentrl.types import Message, Messages

PROMPT = (
    "Answer the given question. Whenever you get new information, first think inside <think> and </think>. If you find"
    " that you lack knowledge, call a search engine with <search> query </search>; its best results come back between"
    " <information> and </information>. You may search as often as you like. Once you need no more knowledge, give the"
    " answer inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>."
    " Question: {question}\n"
)
MALFORMED = {
    "code": (
        "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>."
        " If I want to give the final answer, I should put the answer between <answer> and </answer>."
        " Let me try again.\n"
    ),
    "paper": "\nMy action is not correct. Let me rethink.\n",
}
SPOKEN = {"born": "year of birth", "founded": "year of foundation", "published": "year of publication"}  # as nouns
ERRS_ON_FILES = 0.5  # share of mistakes on a user's questions that end in an early answer; the others lose words


class View(Protocol):
    """What an episode needs to be shown and played."""

    def goal(self, session: Session, /) -> Messages: ...

    def first(self, session: Session, /) -> Messages: ...

    def read(self, reply: str, /) -> tuple[str, str] | None: ...

    def found(self, session: Session, /) -> str:
        """The observation after a search, when ``session`` already holds it."""
        ...

    def refused(self, session: Session, /) -> str:
        """The observation after a malformed reply."""
        ...

    def final(self, session: Session, answered: str | None, /) -> str | None:
        """The answer to score once the play is over; ``answered``: the last reply's own, if it gave one."""
        ...

    def golds(self, session: Session, /) -> Sequence[str]: ...

    def actions(self, session: Session, /) -> Sequence[str]: ...

    def play(self, session: Session, noise: float, rng: random.Random, /) -> str:
        """The reply of an expert that errs with probability ``noise``."""
        ...


def asked(question: str) -> str:
    """The question as it is put: stripped, with a question mark."""
    question = question.strip()
    return question if question.endswith("?") else f"{question}?"


@dataclass(frozen=True)
class TextView:
    """Search-R1's protocol. ``world`` gives the bundled encyclopedia to the expert, None with a user's questions."""

    prompt: str
    malformed: str
    strict: bool
    compat: bool
    words: int  # of passages in one observation, at most; 0: all
    world: Callable[[], Encyclopedia | None]

    def goal(self, session: Session) -> Messages:
        return (Message("user", self._prompt(session)),)

    def first(self, session: Session) -> Messages:
        return ()

    def read(self, reply: str) -> tuple[str, str] | None:
        if self.strict and tags.ambiguous(reply):
            return None
        return tags.first(tags.cut(reply))

    def found(self, session: Session) -> str:
        documents = session.searches[-1].documents
        text = tags.listed([document.contents for document in documents])
        if not self.words:
            return tags.information(text)
        if self.compat:
            return _shortened(tags.information(text), self.words)
        return tags.information(_shortened(text, self.words))

    def refused(self, session: Session) -> str:
        return MALFORMED[self.malformed]

    def final(self, session: Session, answered: str | None) -> str | None:
        if not self.compat:
            return answered
        return extract(self._prompt(session) + session.text, EXPECTED)

    def golds(self, session: Session) -> Sequence[str]:
        golds: Sequence[str] = session.task.data["answers"]
        return golds

    def actions(self, session: Session) -> Sequence[str]:
        """The question as a query, the titles found as queries and as answers."""
        if session.done:
            return []
        titles = [document.title for search in session.searches for document in search.documents]
        queries = dict.fromkeys([session.task.data["question"], *titles])
        answers = [f"<answer> {title} </answer>" for title in dict.fromkeys(titles)] or ["<answer> unknown </answer>"]
        return [*(f"<search> {query} </search>" for query in queries), *answers] if session.left > 1 else answers

    def play(self, session: Session, noise: float, rng: random.Random) -> str:
        world = self.world()
        if world is None:
            return self._play_file(session, noise, rng)
        data = session.task.data
        shown = [document.title for search in session.searches for document in search.documents]
        facts = [fact for title in shown if (entity := world.entities.get(title)) for fact in entity.facts.values()]
        lines = [Line(fact.subject, fact.relation, fact.value) for fact in facts]
        want = want_of(data["short"]["question"], [hop[0] for hop in data["hops"]], [hop[1] for hop in data["hops"]])
        verb, relation, text = decide(want, lines, session.left <= 1, noise, rng)
        if verb == "answer":
            return f"<think>I know enough.</think>\n<answer> {text} </answer>"
        query = f"{SPOKEN.get(relation, relation)} of {text}"
        return f"<think>I need the {query}.</think>\n<search> {query} </search>"

    def _play_file(self, session: Session, noise: float, rng: random.Random) -> str:
        """Search for the question and for every supporting title, then give the gold answer."""
        data = session.task.data
        queries = [data["question"], *data.get("support", [])][: session.left + len(session.searches) - 1]
        place = len(session.searches)
        if rng.random() < noise:
            if session.left <= 1 or rng.random() < ERRS_ON_FILES:
                return "<answer> unknown </answer>"
            words = str(queries[min(place, len(queries) - 1)]).split()
            return f"<search> {' '.join(rng.sample(words, max(1, len(words) // 2)))} </search>"
        if place < len(queries) and session.left > 1:
            return f"<search> {queries[place]} </search>"
        return f"<answer> {data['answers'][0]} </answer>"

    def _prompt(self, session: Session) -> str:
        return self.prompt.replace("{question}", asked(session.task.data["question"]))


@dataclass(frozen=True)
class CompactView:
    """Short words for a tiny model (see ``compact``)."""

    def goal(self, session: Session) -> Messages:
        return (Message("user", compact.goal_text(session)),)

    def first(self, session: Session) -> Messages:
        return (Message("user", compact.observe(session)),)

    def read(self, reply: str) -> tuple[str, str] | None:
        return compact.parse(reply)

    def found(self, session: Session) -> str:
        return compact.observe(session)

    def refused(self, session: Session) -> str:
        return compact.observe(session)

    def final(self, session: Session, answered: str | None) -> str | None:
        return answered

    def golds(self, session: Session) -> Sequence[str]:
        golds: Sequence[str] = session.task.data["short"]["answers"]
        return golds

    def actions(self, session: Session) -> Sequence[str]:
        return compact.actions(session)

    def play(self, session: Session, noise: float, rng: random.Random) -> str:
        short = session.task.data["short"]
        want = want_of(short["question"], [hop[0] for hop in short["hops"]], [hop[1] for hop in short["hops"]])
        return " ".join(part for part in decide(want, compact.lines(session), session.left <= 1, noise, rng) if part)


def _shortened(text: str, words: int) -> str:
    """The text up to the end of its ``words``-th word."""
    ends = [match.end() for match in islice(re.finditer(r"\S+", text), words + 1)]
    return text if len(ends) <= words else text[: ends[words - 1]]
