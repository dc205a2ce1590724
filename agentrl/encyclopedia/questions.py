"""Questions about the world with gold answers: chains of facts, comparisons, and sums over numbers.

A chain follows one to three facts: ``Where was the author of Mask of Brilo born?``. A comparison asks which of two
entities has the larger number, an arithmetic question for a difference or a sum. Names occur once in the world and
every relation has one value, so each question has one answer; a wording that came up before is left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from agentrl.encyclopedia.prose import named
from agentrl.encyclopedia.world import Encyclopedia, Entity, Fact

KINDS = ("chain", "comparison", "arithmetic")
MAX_HOPS = 3
LARGEST = 100  # number that is one short word
PAIRS = 6  # of each relation drawn in a region for comparisons and sums

# relation -> the value as a noun phrase, ways to ask for the value; {s} stands for the subject
PHRASES: dict[str, tuple[str, ...]] = {
    "capital": ("the capital of {s}",),
    "leader": ("the head of state of {s}", "the leader of {s}"),
    "country": ("the country in which {s} lies",),
    "mayor": ("the mayor of {s}",),
    "birthplace": ("the birthplace of {s}", "the city where {s} was born"),
    "spouse": ("the spouse of {s}", "the person married to {s}"),
    "author": ("the author of {s}", "the person who wrote {s}"),
    "venue": ("the city that hosted {s}", "the venue of {s}"),
    "winner": ("the winner of {s}", "the person who won {s}"),
}
ASKED: dict[str, tuple[str, ...]] = {
    "capital": ("What is the capital of {s}?",),
    "leader": ("Who is the head of state of {s}?", "Who leads {s}?"),
    "country": ("In which country is {s}?", "Which country does {s} belong to?"),
    "mayor": ("Who is the mayor of {s}?",),
    "birthplace": ("Where was {s} born?", "In which city was {s} born?"),
    "born": ("In what year was {s} born?", "What is the year of birth of {s}?"),
    "profession": ("What was the profession of {s}?", "What did {s} do for a living?"),
    "spouse": ("Who was {s} married to?", "Who was the spouse of {s}?"),
    "author": ("Who wrote {s}?", "Who is the author of {s}?"),
    "published": ("In what year was {s} published?", "When did {s} first appear?"),
    "genre": ("What is the genre of {s}?",),
    "form": ("What form of text is {s}?",),
    "venue": ("In which city did {s} take place?", "Where was {s} held?"),
    "year": ("In what year did {s} take place?",),
    "winner": ("Who won {s}?",),
    "population": ("How many inhabitants does {s} have?", "What is the population of {s}?"),
    "founded": ("In what year was {s} founded?", "When was {s} founded?"),
}
# relation -> (which one has more, which one has less, the difference of the two)
COMPARED: dict[str, tuple[str, str, str]] = {
    "population": (
        "Which has more inhabitants, {a} or {b}?",
        "Which has fewer inhabitants, {a} or {b}?",
        "By how many inhabitants do {a} and {b} differ?",
    ),
    "founded": (
        "Which was founded later, {a} or {b}?",
        "Which was founded earlier, {a} or {b}?",
        "How many years lie between the founding of {a} and that of {b}?",
    ),
    "born": (
        "Who was born later, {a} or {b}?",
        "Who was born earlier, {a} or {b}?",
        "How many years lie between the births of {a} and {b}?",
    ),
    "published": (
        "Which was published later, {a} or {b}?",
        "Which was published earlier, {a} or {b}?",
        "How many years lie between the publication of {a} and that of {b}?",
    ),
    "year": (
        "Which took place later, {a} or {b}?",
        "Which took place earlier, {a} or {b}?",
        "How many years lie between {a} and {b}?",
    ),
}
TOTAL = "How many inhabitants do {a} and {b} have together?"


@dataclass(frozen=True, slots=True)
class Hop:
    """One fact that the answer rests on, and the id of the passage that states it."""

    fact: Fact
    passage: str


@dataclass(frozen=True, slots=True)
class Question:
    """``answer`` in the world's own spelling; ``short`` and ``short_answer``: question and answer in few known words.

    ``hops`` in the order in which they are needed. Comparison: the two facts; the answer is a name. Arithmetic: the
    two facts; the answer is a number without separators.
    """

    id: str
    kind: str
    text: str
    answer: str
    aliases: tuple[str, ...]
    hops: tuple[Hop, ...]
    region: str  # the family: no fact of a region is used by another
    short: str
    short_answer: str

    @property
    def support(self) -> tuple[str, ...]:
        """Ids of the passages that together hold the answer."""
        return tuple(dict.fromkeys(hop.passage for hop in self.hops))


def questions(
    world: Encyclopedia,
    kinds: Sequence[str] = KINDS,
    hops: Sequence[int] = (1, 2, 3),
    per_region: int = 30,
    seed: int = 0,
) -> tuple[Question, ...]:
    """At most ``per_region`` questions on each region, in an order that visits every region before any twice.

    ``kinds`` share them evenly; of the chains, the lengths in ``hops`` have shares in proportion to the length.
    Raises ValueError on unknown kinds or lengths.
    """
    wrong = [kind for kind in kinds if kind not in KINDS] + [n for n in hops if not 1 <= n <= MAX_HOPS]
    if wrong or not kinds or not hops:
        raise ValueError(f"questions: got {wrong or 'nothing'}; expected kinds of {KINDS} and hops of 1 to {MAX_HOPS}")
    makers = [(maker, share / len(kinds)) for kind in kinds for maker, share in _makers(kind, hops)]
    rows: list[list[Question]] = []
    for region, members in world.regions.items():
        rng = random.Random(f"questions/{world.seed}/{seed}/{region}")
        row: list[Question] = []
        for maker, share in makers:
            found = list(maker(world, members, rng))
            row += rng.sample(found, min(len(found), max(1, round(per_region * share))))
        rng.shuffle(row)
        rows.append(row[:per_region])
    random.Random(f"questions/{world.seed}/{seed}").shuffle(rows)
    return tuple(_distinct(row[place] for place in range(per_region) for row in rows if place < len(row)))


def _distinct(found: Iterator[Question]) -> Iterator[Question]:
    texts: set[str] = set()
    for question in found:
        if question.text not in texts:
            texts.add(question.text)
            yield question


Maker = Callable[[Encyclopedia, Sequence[Entity], random.Random], Iterator[Question]]


def _makers(kind: str, hops: Sequence[int]) -> list[tuple[Maker, float]]:
    """What makes questions of a kind, with its share."""
    if kind == "chain":
        return [(partial(_chains, length=length), length / sum(hops)) for length in hops]
    return [(_comparisons if kind == "comparison" else _sums, 1.0)]


def _chains(world: Encyclopedia, members: Sequence[Entity], rng: random.Random, length: int) -> Iterator[Question]:
    for entity in members:
        for path in _paths(world, entity, length, (entity.name,)):
            yield _chain(world, path, rng)


def _paths(world: Encyclopedia, entity: Entity, length: int, seen: tuple[str, ...]) -> Iterator[tuple[Fact, ...]]:
    """Every way of ``length`` facts that starts here and meets no entity twice."""
    for fact in entity.facts.values():
        if fact.value in seen:
            continue
        if length == 1:
            yield (fact,)
        elif fact.entity:
            value = world.entities[fact.value]
            for rest in _paths(world, value, length - 1, (*seen, fact.value)):
                yield (fact, *rest)


def _chain(world: Encyclopedia, path: tuple[Fact, ...], rng: random.Random) -> Question:
    start, last = world.entities[path[0].subject], path[-1]
    subject = named(start.kind, start.name)
    for fact in path[:-1]:
        subject = rng.choice(PHRASES[fact.relation]).format(s=subject)
    relations = " then ".join(fact.relation for fact in path)
    return _question(
        world,
        "chain",
        rng.choice(ASKED[last.relation]).format(s=subject),
        last.value,
        path,
        f"{start.short} {relations}",
        last.short,
    )


def _pairs(members: Sequence[Entity], rng: random.Random) -> Iterator[tuple[str, Fact, Fact]]:
    """Pairs of different facts of one relation about entities of one kind, every relation about equally often."""
    for relation in COMPARED:
        facts = [entity.facts[relation] for entity in members if relation in entity.facts]
        pairs = [
            (one, other) for one in facts for other in facts if one.kind == other.kind and one.number != other.number
        ]
        for one, other in rng.sample(pairs, min(PAIRS, len(pairs))):
            yield relation, one, other


def _comparisons(world: Encyclopedia, members: Sequence[Entity], rng: random.Random) -> Iterator[Question]:
    for relation, one, other in _pairs(members, rng):
        more = rng.random() < 0.5
        best = (max if more else min)((one, other), key=lambda fact: fact.number or 0)
        text = COMPARED[relation][0 if more else 1].format(a=_named(one), b=_named(other))
        first, second = (world.entities[fact.subject].short for fact in (one, other))
        short = f"{'more' if more else 'less'} {relation} {first} or {second}"
        answer = world.entities[best.subject]
        yield _question(world, "comparison", text, answer.name, (one, other), short, answer.short)


def _sums(world: Encyclopedia, members: Sequence[Entity], rng: random.Random) -> Iterator[Question]:
    for relation, one, other in _pairs(members, rng):
        total = relation == "population" and int(one.short) + int(other.short) <= LARGEST and rng.random() < 0.5
        text = (TOTAL if total else COMPARED[relation][2]).format(a=_named(one), b=_named(other))
        sign = 1 if total else -1
        answer = abs((one.number or 0) + sign * (other.number or 0))
        short_answer = abs(int(one.short) + sign * int(other.short))
        first, second = (world.entities[fact.subject].short for fact in (one, other))
        short = f"{'sum' if total else 'subtract'} {relation} {first} and {second}"
        yield _question(world, "arithmetic", text, str(answer), (one, other), short, str(short_answer))


def _named(fact: Fact) -> str:
    return named(fact.kind, fact.subject)


def _question(
    world: Encyclopedia, kind: str, text: str, answer: str, facts: Sequence[Fact], short: str, short_answer: str
) -> Question:
    start = world.entities[facts[0].subject]
    entity = world.entities.get(answer)
    number = answer.replace(",", "")
    aliases = entity.aliases if entity else (number,) if number != answer else ()
    hops = tuple(Hop(fact, world.entities[fact.subject].passage) for fact in facts)
    name = "/".join([kind, short.replace(" ", "_")])
    return Question(name, kind, text, answer, aliases, hops, start.region, short, short_answer)
