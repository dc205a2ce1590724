"""A reader that knows the reference, with a noise dial, and the choices that an episode offers.

The reader looks at the pictures of the question, searches every name it asks about, then answers. At each turn, with
probability ``noise``, it errs as a hasty person would: it searches half of a name, answers before it has looked
everything up (leaving out what it has not read), or answers with something wrong: a fact left out, or the value of
another fact.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentrl.envs.base import Episode
from agentrl.envs.long_qa.views import Act, CompactView
from agentrl.errors import EnvError
from agentrl.judges.language import sentences, words_of
from agentrl.types import Message

if TYPE_CHECKING:
    from agentrl.envs.long_qa.env import LongQAEpisode

UNKNOWN = "I do not know."


class Reader:
    """Draws from its own generator, so equal (noise, seed) and equal order of calls give equal play."""

    def __init__(self, noise: float, seed: int) -> None:
        if not 0.0 <= noise <= 1.0:
            raise EnvError(f"expert noise is {noise}; expected a number from 0 (careful) to 1")
        self._noise = noise
        self._rng = random.Random(f"reader/{seed}")

    def __call__(self, episode: Episode) -> Message:
        from agentrl.envs.long_qa.env import LongQAEpisode

        assert isinstance(episode, LongQAEpisode)
        act = self._act(episode)
        return Message("assistant", episode.env.shown.write(episode.record, act))

    def _act(self, episode: LongQAEpisode) -> Act:
        left = [act for act in plan(episode) if act not in episode.state.acts]
        if self._rng.random() >= self._noise:
            return left[0] if left else Act("answer", " ".join(pieces(episode)))
        if not left:
            return Act("answer", self._wrong(pieces(episode)))
        if left[0].verb == "search" and self._rng.random() < 0.5:
            words = left[0].argument.split()
            return Act("search", self._rng.choice(words))
        if self._rng.random() < 0.5:
            return left[-1]
        return Act("answer", self._wrong(pieces(episode)))

    def _wrong(self, told: Sequence[str]) -> str:
        """An answer that lacks a piece, or in which two pieces end alike."""
        told = list(told)
        place = self._rng.randrange(len(told))
        if self._rng.random() < 0.5 and len(told) > 1:
            other = told[place - 1].split()
            told[place] = " ".join([*told[place].split()[:1], *other[1:]])
        else:
            del told[place]
        return " ".join(told) or "none"


def plan(episode: LongQAEpisode) -> list[Act]:
    """What a careful player does before it answers: look at all pictures, search all names (or the questions)."""
    record, view = episode.record, episode.env.shown
    looks = [Act("view", url) for url in record.media]
    if isinstance(view, CompactView):
        names = [view.short(part.subject) for part in record.parts]
    else:
        names = [part.subject for part in record.parts] or list(record.sub_questions) or [record.question]
    return [*looks, *(Act("search", name) for name in dict.fromkeys(names))]


def pieces(episode: LongQAEpisode) -> list[str]:
    """The right answer, fact by fact."""
    record, view = episode.record, episode.env.shown
    if isinstance(view, CompactView):
        return [f"{fact.cues[0]} {fact.values[0]}" for fact in view.world.facts(record.parts, True)]
    if not record.parts:
        return [record.reference]
    entities = episode.env.world.encyclopedia.entities
    return [entities[part.subject].facts[relation].statement for part in record.parts for relation in part.relations]


def choices(episode: LongQAEpisode) -> list[Act]:
    """Acts that the grammar accepts here, made from what is on the screen."""
    if episode.state.done:
        return []
    record, view = episode.record, episode.env.shown
    looks = [Act("view", url) for url in record.media]
    if not isinstance(view, CompactView):
        asked = [Act("search", text) for text in (*record.sub_questions, record.question)]
        known = [Act("search", name) for name in _capitals(record.question)]
        return [*looks, *known, *asked, Act("answer", UNKNOWN)]
    goal = [] if record.media else [view.short(part.subject) for part in record.parts]
    names = dict.fromkeys([*goal, *(" ".join(note.split()[:2]) for note in episode.state.notes)])
    if record.media:
        names |= dict.fromkeys(" ".join(note.split()[-2:]) for note in episode.state.notes)
    return [*looks, *(Act("search", name) for name in names), *_answers(episode)]


def _answers(episode: LongQAEpisode) -> list[Act]:
    """Compact answers: the asked relations, each with a value that was read somewhere; the wrong ones come first."""
    relations = [relation for part in episode.record.parts for relation in part.relations]
    words = [word for note in episode.state.notes for word in note.split()]
    values = list(dict.fromkeys(words))[-12:] or ["none"]
    guesses = [" ".join(f"{relation} {value}" for relation in relations) for value in values]
    return [Act("answer", guess) for guess in guesses]


def _capitals(question: str) -> list[str]:
    """Names in a question, as a searcher would type them."""
    from agentrl.judges.language import Lexicon, mentions

    spelled = {word.casefold(): word for word in question.replace(",", " ").replace(".", " ").split()}
    found = [m.words for s in sentences(question) for m in mentions(s, Lexicon()) if not m.number]
    return list(dict.fromkeys(" ".join(spelled.get(w, w) for w in words) for words in found if words != words_of("I")))
