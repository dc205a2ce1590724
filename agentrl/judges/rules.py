"""judge=rules: an offline rubric. Which facts does the answer state, which does it get wrong, what does it make up?

    coverage = facts stated and not contradicted / facts          wrong = facts contradicted, made_up = inventions
    score    = coverage * max(0, 1 - contradiction * wrong - invention * made_up)
               with ``match_only`` 1[that is 1]: Match or Mismatch, as the paper's judge says it

A fact is *stated* when one of its values stands in a sentence about its subject, in a clause whose nearest cue does
not belong to another relation of the same kind (number or name), and without "not" just before it. It is
*contradicted* when such a clause announces its relation with another value; "1912 or 1913" contradicts itself. A number
or name is an *invention* when neither question, reference nor rubric knows it. So listing every year earns nothing.

Where a record brings no facts, those of the reference are used: each of its numbers and names that the question does
not hold; for a sentence without any, its words, of which ``overlap`` must return in one sentence of the answer.

Ours as a whole: the paper of the long answers (arXiv:2512.07478) asks a language model. This reads no meaning: a true
fact in words that the rubric does not know is missed, lower-case inventions outside ``Rubric.names`` pass unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.judges.base import Fact, Rubric, Verdict
from agentrl.judges.language import (
    COMMON,
    DIGITS,
    NEGATIONS,
    Lexicon,
    Mention,
    Word,
    Words,
    contains,
    mentions,
    occurrences,
    sentences,
    words_of,
)
from agentrl.ranges import require_shares

VERSION = "rules-1"  # changes whenever a score could
MOST_WORDS = 1000  # of an answer; what follows is not read
MOST_CHARS = 20_000  # of an answer, likewise
NEAR = 3  # words before a value in which a negation counts


@dataclass(frozen=True, slots=True)
class _Asked:
    """A fact in normalised words; ``numeric``: its value is a number; ``gist``: it has no value, only words."""

    values: tuple[Words, ...]
    cues: tuple[Words, ...]
    subjects: tuple[Words, ...]
    numeric: bool
    gist: Words = ()
    part: int = 0


@dataclass
class _Tally:
    stated: set[int] = field(default_factory=set)
    wrong: set[int] = field(default_factory=set)
    invented: set[Words] = field(default_factory=set)


@dataclass(frozen=True)
class Rules:
    """The offline judge; its fields are the keys of ``conf/judge/rules.yaml``."""

    contradiction: float = 0.5
    invention: float = 0.25
    overlap: float = 0.6
    match_only: bool = False

    def __post_init__(self) -> None:
        require_shares(self, "judge", "contradiction", "invention", "overlap")

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "judge": VERSION,
            "contradiction": self.contradiction,
            "invention": self.invention,
            "overlap": self.overlap,
            "match_only": self.match_only,
        }

    def verdict(self, question: str, reference: str, answer: str, rubric: Rubric | None = None) -> Verdict:
        """Judge one answer; deterministic, raises nothing. Parts: coverage (share of facts), questions
        (share of sub-questions answered in full), contradicted, invented (counts), match (1: all is right)."""
        rubric = rubric or Rubric()
        facts = [_asked(fact) for fact in rubric.facts] or _facts_of(reference, question, rubric.names)
        known = _Known(question, reference, facts, rubric.allowed)
        tally = _Tally()
        about: set[Words] = set()
        spent = 0
        for words in sentences(answer[:MOST_CHARS]):
            spent += len(words)
            if spent > MOST_WORDS:
                break
            sentence = _Sentence(words, facts, about)
            _read(sentence, known, rubric.names, self.overlap, tally)
            about = sentence.about
        return self._score(facts, tally)

    def _score(self, facts: Sequence[_Asked], tally: _Tally) -> Verdict:
        stated = tally.stated - tally.wrong
        good, wrong, made_up = len(stated), len(tally.wrong), len(tally.invented)
        coverage = good / len(facts) if facts else 0.0
        asked = {fact.part for fact in facts}
        missed = {fact.part for number, fact in enumerate(facts) if number not in stated}
        score = coverage * max(0.0, 1.0 - self.contradiction * wrong - self.invention * made_up)
        parts = {
            "coverage": coverage,
            "questions": len(asked - missed) / len(asked) if asked else 0.0,
            "contradicted": float(wrong),
            "invented": float(made_up),
            "match": float(score == 1.0),
        }
        reason = f"{good} of {len(facts)} facts stated, {wrong} contradicted, {made_up} invented"
        return Verdict(parts["match"] if self.match_only else score, parts, reason)

    def close(self) -> None:
        """Nothing to free."""


class _Known:
    """Numbers and names that an answer may use without inventing them."""

    def __init__(self, question: str, reference: str, facts: Sequence[_Asked], allowed: Sequence[str]) -> None:
        self._asked = [words_of(question), *(subject for fact in facts for subject in fact.subjects)]
        self._texts = [*self._asked, words_of(reference), *(value for fact in facts for value in fact.values)]
        self._texts += map(words_of, allowed)

    def asked(self, words: Words) -> bool:
        """Whether the question, or the name of something it asks about, holds these words."""
        return any(contains(text, words) for text in self._asked)

    def holds(self, words: Words) -> bool:
        return any(contains(text, words) for text in self._texts)


def _asked(fact: Fact) -> _Asked:
    values = tuple(filter(None, map(words_of, fact.values)))
    return _Asked(
        values,
        tuple(filter(None, map(words_of, fact.cues))),
        tuple(filter(None, map(words_of, fact.subjects))),
        bool(values) and all(word[0] in DIGITS for word in values[0]),
        part=fact.part,
    )


def _facts_of(reference: str, question: str, names: Lexicon) -> list[_Asked]:
    """Facts read off a reference: its numbers and names that the question lacks, or else the words of a sentence."""
    asked = words_of(question)
    facts: list[_Asked] = []
    seen: set[Words] = set()
    for sentence in sentences(reference):
        found = [m for m in mentions(sentence, names) if not contains(asked, m.words)]
        for mention in found:
            if mention.words not in seen:
                seen.add(mention.words)
                facts.append(_Asked((mention.words,), (), (), mention.number))
        gist = tuple(word.text for word in sentence if word.text not in COMMON)
        if not found and (gist or not facts):
            facts.append(_Asked((), (), (), False, gist or tuple(word.text for word in sentence)))
    return facts


class _Sentence:
    """One sentence of the answer, and which facts it speaks of."""

    def __init__(self, words: Sequence[Word], facts: Sequence[_Asked], carried: set[Words]) -> None:
        """``carried``: subjects of the sentence before, whom "she" may mean."""
        self.words = words
        self.texts = [word.text for word in words]
        self.facts = facts
        here = {subject for fact in facts for subject in fact.subjects if contains(self.texts, subject)}
        self.about = here or carried
        self._cues = [
            (start, start + len(cue) - 1, number)
            for number, fact in enumerate(facts)
            if self.concerns(fact)
            for cue in fact.cues
            for start in occurrences(cue, self.texts)
        ]

    def concerns(self, fact: _Asked) -> bool:
        """Whether the sentence may be about the fact's subject."""
        return not fact.subjects or not self.about or bool(self.about.intersection(fact.subjects))

    def denied(self, place: int) -> bool:
        return any(word in NEGATIONS for word in self.texts[max(0, place - NEAR) : place])

    def cued(self, place: int, numeric: bool) -> set[int]:
        """Facts of one kind whose cue is nearest to ``place`` in its clause; of two equally near, the one before."""
        near: list[tuple[int, int, int]] = []
        for first, last, number in self._cues:
            same = self.words[first].clause == self.words[place].clause and first != place
            if same and self.facts[number].numeric is numeric:
                near.append((place - last, 0, number) if first < place else (first - place, 1, number))
        best = min(near, default=(0, 0, 0))[:2]
        return {number for distance, side, number in near if (distance, side) == best}

    def values(self, number: int) -> Iterator[tuple[int, int]]:
        """Places and lengths of a fact's values that no other relation's cue claims."""
        fact = self.facts[number]
        for value in fact.values if self.concerns(fact) else ():
            for place in occurrences(value, self.texts):
                cued = self.cued(place, fact.numeric) if fact.cues else set()
                if not cued or number in cued:
                    yield place, len(value)


def _read(sentence: _Sentence, known: _Known, names: Lexicon, overlap: float, tally: _Tally) -> None:
    """Book what one sentence says."""
    told: set[int] = set()  # words that state some fact
    for number, fact in enumerate(sentence.facts):
        if fact.gist and sum(word in sentence.texts for word in fact.gist) >= overlap * len(fact.gist):
            tally.stated.add(number)
        for place, size in sentence.values(number):
            (tally.wrong if sentence.denied(place) else tally.stated).add(number)
            told.update(range(place, place + size))
    for mention in mentions(sentence.words, names):
        if not told.intersection(range(mention.start, mention.end)) and not sentence.denied(mention.start):
            _book_other(mention, sentence, known, tally)


def _book_other(mention: Mention, sentence: _Sentence, known: _Known, tally: _Tally) -> None:
    """A number or name that states no fact: something the question holds, a wrong value, or an invention."""
    if known.asked(mention.words):
        return
    cued = sentence.cued(mention.start, mention.number)
    meant = {number for number in cued if mention.words not in sentence.facts[number].values}
    if meant:
        tally.wrong |= meant
    elif not known.holds(mention.words):
        tally.invented.add(mention.words)
