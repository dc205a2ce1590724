"""An expert with a noise dial: it knows which facts the answer rests on and looks for the first it has not seen.

``decide`` is a pure function from what is asked and shown to an action, so the same seeker makes demonstrations in the
environment and fabricated turns for pre-training. At every turn, with probability ``noise``, it errs as a hasty person
would: it asks for another relation, or about another entity, or answers with any value it sees.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.encyclopedia import RELATIONS
from agentrl.envs.base import Episode
from agentrl.envs.search_qa.session import Session
from agentrl.errors import EnvError
from agentrl.types import Message

WRONG_RELATION, WRONG_ENTITY = 0.35, 0.7  # upper ends of the draw of a mistake; above: an early answer
SIGNS: Mapping[str, Callable[[int, int], int]] = {"sum": lambda a, b: a + b, "subtract": lambda a, b: abs(a - b)}


@dataclass(frozen=True, slots=True)
class Line:
    """A fact as it is shown."""

    subject: str
    relation: str
    value: str


@dataclass(frozen=True, slots=True)
class Want:
    """What is asked: a chain (``op`` "", ``relations`` followed from ``subjects[0]``), or a comparison or sum of the
    one relation of two subjects (``op``: more, less, sum, subtract)."""

    op: str
    subjects: tuple[str, ...]
    relations: tuple[str, ...]


def want_of(short: str, subjects: Sequence[str], relations: Sequence[str]) -> Want:
    """From the compact wording of a question and its hops."""
    op = short.split()[0]
    if op in ("more", "less", *SIGNS):
        return Want(op, tuple(subjects), tuple(relations[:1]))
    return Want("", tuple(subjects[:1]), tuple(relations))


def progress(want: Want, lines: Sequence[Line]) -> tuple[str, str] | str:
    """(subject, relation) of the first fact that is missing among the lines; the answer when none is."""
    known = {(line.subject, line.relation): line.value for line in lines}
    if not want.op:
        subject = want.subjects[0]
        for relation in want.relations:
            if (subject, relation) not in known:
                return subject, relation
            subject = known[subject, relation]
        return subject
    relation = want.relations[0]
    for subject in want.subjects:
        if (subject, relation) not in known:
            return subject, relation
    one, other = (int(known[subject, relation].replace(",", "")) for subject in want.subjects)
    if want.op in SIGNS:
        return str(SIGNS[want.op](one, other))
    return want.subjects[0] if (one > other) == (want.op == "more") else want.subjects[1]


def decide(want: Want, lines: Sequence[Line], last: bool, noise: float, rng: random.Random) -> tuple[str, str, str]:
    """("search", relation, subject) or ("answer", "", text). ``last``: no search is possible any more."""
    err = rng.random() < noise
    aim = progress(want, lines)
    values = list(dict.fromkeys(line.value for line in lines))
    if err:
        return _mistake(want, aim, values, last, rng)
    if isinstance(aim, str):
        return "answer", "", aim
    if last:
        return "answer", "", aim[0]
    return "search", aim[1], aim[0]


def _mistake(
    want: Want, aim: tuple[str, str] | str, values: Sequence[str], last: bool, rng: random.Random
) -> tuple[str, str, str]:
    subject, relation = (want.subjects[0], want.relations[-1]) if isinstance(aim, str) else aim
    draw = rng.random()
    others = [value for value in values if value not in (aim, subject)]
    if last or (draw >= WRONG_ENTITY and others):
        return "answer", "", rng.choice(others or [subject])
    names = [value for value in others if " " in value]
    if draw < WRONG_RELATION or not names:
        return "search", rng.choice([other for other in RELATIONS if other != relation]), subject
    return "search", relation, rng.choice(names)


class Seeker:
    """Plays episodes of a view. Draws from its own generator: equal (noise, seed) and order of calls, equal play."""

    def __init__(self, view: Any, noise: float, seed: int) -> None:
        if not 0.0 <= noise <= 1.0:
            raise EnvError(f"expert noise is {noise}; expected a number from 0 (careful) to 1")
        self._view = view
        self._noise = noise
        self._rng = random.Random(f"seeker/{seed}")

    def __call__(self, episode: Episode) -> Message:
        session: Session = episode.session  # type: ignore[attr-defined]
        return Message("assistant", self._view.play(session, self._noise, self._rng))
