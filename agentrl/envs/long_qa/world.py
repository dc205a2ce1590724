"""The bundled questions: several facts of one entity, sub-questions on several, or a picture that has to be looked at.

Made from the invented encyclopedia, so that nothing can be known beforehand. A task asks for two or three facts, each
of another relation; its family is the region, whose facts no other split touches.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from agentrl.encyclopedia import Encyclopedia, Entity, generate, split_of
from agentrl.encyclopedia.prose import named
from agentrl.envs.long_qa.records import KINDS, Part, Record
from agentrl.judges import Fact, Rubric
from agentrl.judges.language import Lexicon
from agentrl.retrieval import Document
from agentrl.types import Split, Task

PER_REGION = 30  # tasks of a region, the three kinds in turn

# relation -> how a question names it, and the words that announce it in an answer
ASKED: dict[str, tuple[str, tuple[str, ...]]] = {
    "capital": ("the capital", ("capital", "government")),
    "population": ("the number of inhabitants", ("inhabitants", "people", "population")),
    "founded": ("the year of foundation", ("founded", "founding", "foundation", "established", "dates")),
    "leader": ("the head of state", ("head of state", "governed", "leads", "leader")),
    "country": ("the country", ("country", "lies", "belongs")),
    "mayor": ("the mayor", ("mayor",)),
    "birthplace": ("the place of birth", ("born", "birth", "birthplace", "native", "came into world")),
    "born": ("the year of birth", ("born", "birth")),
    "profession": ("the profession", ("profession", "worked", "living", "trade", "occupation", "job")),
    "spouse": ("the spouse", ("spouse", "married", "wed", "wife", "husband")),
    "author": ("the author", ("author", "written", "wrote")),
    "published": ("the year of publication", ("published", "publication", "appeared", "came out")),
    "genre": ("the genre", ("genre", "tone")),
    "form": ("the form of text", ("form",)),
    "venue": ("the venue", ("venue", "took place", "held", "host", "hosted")),
    "year": ("the year in which it was held", ("held", "happened", "took place", "year")),
    "winner": ("the winner", ("winner", "won", "prize")),
}
OPENERS = ("Please tell me", "I would like to know", "Write a few sentences that give", "Find out")


@dataclass(frozen=True)
class World:
    """The encyclopedia as this environment uses it. ``compact``: names and values in short words."""

    seed: int
    size: int

    @cached_property
    def encyclopedia(self) -> Encyclopedia:
        return generate(self.seed, self.size)

    def tasks(self, split: Split) -> list[Task]:
        """Tasks of the regions of a split, visiting every region before any twice."""
        regions = [region for region in self.encyclopedia.regions if split_of(region, self.seed) == split]
        rows = [self._row(region) for region in regions]
        return [
            Task(f"long_qa/{row[place].kind}/{self.seed}/{region}/{place}", split, region, row[place].to_data())
            for place in range(PER_REGION)
            for region, row in zip(regions, rows, strict=True)
            if place < len(row)
        ]

    def documents(self, compact: bool) -> list[Document]:
        """What can be found: the articles, or a short line for every entity."""
        if not compact:
            return [Document.of(p.id, p.title, p.text) for p in self.encyclopedia.passages]
        return [Document.of(e.passage, e.short, line_of(e)) for e in self.encyclopedia.entities.values()]

    def facts(self, parts: Sequence[Part], compact: bool) -> tuple[Fact, ...]:
        """The rubric of these parts."""
        found = []
        for number, part in enumerate(parts):
            entity = self.encyclopedia.entities[part.subject]
            for relation in part.relations:
                fact = entity.facts[relation]
                if compact:
                    found.append(Fact((fact.short,), (relation,), (), number))
                else:
                    aliases = self.encyclopedia.entities[fact.value].aliases if fact.entity else ()
                    found.append(Fact((fact.value, *aliases), ASKED[relation][1], subjects_of(entity), number))
        return tuple(found)

    def rubric(self, record: Record, compact: bool) -> Rubric:
        """What a judge may know: the facts asked for, what else is true of their subjects, and all names."""
        entities = [self.encyclopedia.entities[part.subject] for part in record.parts]
        if compact:
            return Rubric(self.facts(record.parts, True), self._short_names)
        more = [fact.value for entity in entities for fact in entity.facts.values()]
        return Rubric(record.facts, self._names, (*more, *(entity.name for entity in entities)))

    @cached_property
    def _names(self) -> Lexicon:
        entities = self.encyclopedia.entities.values()
        values = {fact.value for entity in entities for fact in entity.facts.values()}
        return Lexicon.of(sorted({*self.encyclopedia.entities, *values}))

    @cached_property
    def _short_names(self) -> Lexicon:
        entities = self.encyclopedia.entities.values()
        return Lexicon.of(sorted({fact.short for entity in entities for fact in entity.facts.values()}))

    def _row(self, region: str) -> list[Record]:
        rng = random.Random(f"long_qa/{self.seed}/{region}")
        members = self.encyclopedia.regions[region]
        makers = [self._of_kind(kind, members, rng) for kind in KINDS]
        return [next(makers[number % len(makers)]) for number in range(PER_REGION)]

    def _of_kind(self, kind: str, members: Sequence[Entity], rng: random.Random) -> Iterator[Record]:
        """Endless different records of one kind."""
        seen: set[tuple[Part, ...]] = set()
        while True:
            parts = _multi(members, rng) if kind == "multi" else _single(members, rng)
            if parts not in seen:
                seen.add(parts)
                yield self._record(kind, parts, rng)

    def _record(self, kind: str, parts: tuple[Part, ...], rng: random.Random) -> Record:
        entities = [self.encyclopedia.entities[part.subject] for part in parts]
        media: dict[str, str] = {}
        if kind == "media":
            url = picture(self.seed, entities[0].name)
            media = {url: f"A picture of {named(entities[0].kind, entities[0].name)}."}
            subjects = [f"what is shown at {url}"]
        else:
            subjects = [named(entity.kind, entity.name) for entity in entities]
        asked = [
            f"{rng.choice(OPENERS)} {_listed([ASKED[relation][0] for relation in part.relations])} of {subject}."
            for part, subject in zip(parts, subjects, strict=True)
        ]
        reference = " ".join(
            entity.facts[relation].statement
            for part, entity in zip(parts, entities, strict=True)
            for relation in part.relations
        )
        subs = tuple(asked) if kind == "multi" else ()
        return Record(" ".join(asked), reference, kind, subs, media, self.facts(parts, False), parts)


def line_of(entity: Entity) -> str:
    """All facts of an entity in short words: ``galvero jug born 60 birthplace leather egg profession pot``."""
    return " ".join([entity.short, *(f"{fact.relation} {fact.short}" for fact in entity.facts.values())])


def subjects_of(entity: Entity) -> tuple[str, ...]:
    """The names by which an answer may call an entity; of a person also the last name."""
    last = (entity.name.split()[-1],) if entity.kind == "person" else ()
    return (entity.name, *entity.aliases, *last)


def picture(seed: int, name: str) -> str:
    """The URL of the picture of an entity: tells nothing about it."""
    return f"https://pictures.example/{hashlib.sha256(f'{seed}/{name}'.encode()).hexdigest()[:12]}.jpg"


def _single(members: Sequence[Entity], rng: random.Random) -> tuple[Part, ...]:
    entity = rng.choice(members)
    count = min(rng.choice((2, 2, 3)), len(entity.facts))
    return (Part(entity.name, tuple(rng.sample(list(entity.facts), count))),)


def _multi(members: Sequence[Entity], rng: random.Random) -> tuple[Part, ...]:
    """One or two facts each of two entities, or one each of three; no relation twice."""
    shape = rng.choice(((1, 1), (1, 1), (2, 1), (1, 1, 1)))
    while True:
        chosen = rng.sample(members, len(shape))
        parts = tuple(
            Part(entity.name, tuple(rng.sample(list(entity.facts), min(count, len(entity.facts)))))
            for entity, count in zip(chosen, shape, strict=True)
        )
        relations = [relation for part in parts for relation in part.relations]
        if len(set(relations)) == len(relations):
            return parts


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
