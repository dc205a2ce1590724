"""The invented world: regions of entities whose facts refer to each other, drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from agentrl.encyclopedia import prose, words
from agentrl.types import Split

# relation -> (kind of its subject, kind of its value: an entity's kind, "year", "number" or "word")
RELATIONS: Mapping[str, tuple[str, str]] = {
    "capital": ("country", "city"),
    "leader": ("country", "person"),
    "country": ("city", "country"),
    "mayor": ("city", "person"),
    "birthplace": ("person", "city"),
    "born": ("person", "year"),
    "profession": ("person", "word"),
    "spouse": ("person", "person"),
    "author": ("work", "person"),
    "published": ("work", "year"),
    "genre": ("work", "word"),
    "form": ("work", "word"),
    "venue": ("event", "city"),
    "year": ("event", "year"),
    "winner": ("event", "person"),
    "population": ("city or country", "number"),
    "founded": ("city or country", "year"),
}
SHORT_RELATIONS = tuple(RELATIONS)  # in the compact views a relation is its own name
REGION = {"country": 1, "city": 4, "person": 10, "work": 7, "event": 3}  # entities of a region
REGION_SIZE = sum(REGION.values())
CENTURY = 1800  # every year lies in 1801..1900; its short form is the distance from here
SPLITS: tuple[tuple[Split, float], ...] = (("train", 0.6), ("val", 0.75), ("test", 1.0))  # upper ends of the draw


@dataclass(frozen=True, slots=True)
class Fact:
    """``subject`` has ``relation`` to ``value``.

    ``entity``: the value names an entity. ``short``: the value in the compact views (years as 1..100 after 1800,
    populations in thousands, of countries in hundreds of thousands).
    """

    subject: str
    kind: str  # of the subject
    relation: str
    value: str
    entity: bool
    short: str

    @property
    def statement(self) -> str:
        """One sentence that says it by itself."""
        return prose.statement(self.kind, self.subject, self.relation, self.value)

    @property
    def number(self) -> int | None:
        """The value as an integer; None where it is a name or a word."""
        digits = self.value.replace(",", "")
        return int(digits) if digits.isdigit() else None


@dataclass(frozen=True, slots=True)
class Entity:
    """Something with an article. ``region`` is the name of its country, ``short`` its name in the compact views."""

    name: str
    kind: str  # country | city | person | work | event
    region: str
    aliases: tuple[str, ...]
    facts: Mapping[str, Fact]  # by relation
    short: str
    passage: str  # id of its article


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrievable text."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Encyclopedia:
    """The world. ``entities`` by full name, ``passages`` in the same order."""

    seed: int
    entities: Mapping[str, Entity]
    passages: Sequence[Passage]

    @cached_property
    def _names(self) -> Mapping[str, str]:
        names: dict[str, str] = {}
        for entity in self.entities.values():
            for name in (entity.name, entity.short, *entity.aliases):
                names.setdefault(name.casefold(), entity.name)
        return names

    def find(self, name: str) -> Entity | None:
        """The entity of a name, alias or short name, whatever its case; None when there is none."""
        full = self._names.get(" ".join(name.split()).casefold())
        return None if full is None else self.entities[full]

    @cached_property
    def regions(self) -> Mapping[str, tuple[Entity, ...]]:
        """The entities of each region, by its name."""
        found: dict[str, list[Entity]] = {}
        for entity in self.entities.values():
            found.setdefault(entity.region, []).append(entity)
        return {region: tuple(members) for region, members in found.items()}

    @cached_property
    def lines(self) -> Sequence[Passage]:
        """Every fact as a passage of short words, titled with its subject: ``bexley lamp born 31``."""
        return tuple(
            Passage(f"{entity.passage}/{fact.relation}", entity.short, f"{entity.short} {fact.relation} {fact.short}")
            for entity in self.entities.values()
            for fact in entity.facts.values()
        )


def split_of(region: str, seed: int = 0) -> Split:
    """The split of all that concerns a region, by a hash of its name."""
    place = random.Random(f"split/{seed}/{region}").random()
    return next(split for split, end in SPLITS if place < end)


def generate(seed: int = 0, size: int = 2000) -> Encyclopedia:
    """A world of ``size`` entities, rounded up to whole regions of 25; the same on every machine."""
    if size < 1:
        raise ValueError(f"encyclopedia size is {size}; expected at least 1")
    count = -(-size // REGION_SIZE)
    names = _Names(seed, count)
    entities: dict[str, Entity] = {}
    passages: list[Passage] = []
    for number in range(count):
        rng = random.Random(f"encyclopedia/{seed}/{number}")
        for entity in _region(names.region(rng), rng, names, len(entities)):
            entities[entity.name] = entity
            facts = [(fact.relation, fact.value) for fact in entity.facts.values()]
            alias = entity.aliases[0] if entity.aliases else ""
            text = prose.article(entity.kind, entity.name, alias, facts, rng)
            passages.append(Passage(entity.passage, entity.name, text))
    return Encyclopedia(seed, entities, tuple(passages))


class _Names:
    """Draws names that occur once in the world, and deals out the short ones."""

    def __init__(self, seed: int, regions: int) -> None:
        self._taken: set[str] = set()
        self._initials: Counter[str] = Counter()
        self._short = {kind: _short_names(kind, seed, REGION[kind] * regions) for kind in REGION}

    def region(self, rng: random.Random) -> dict[str, list[str]]:
        """Fresh full names of every kind for one region."""
        return {kind: [self._draw(kind, rng) for _ in range(count)] for kind, count in REGION.items()}

    def short(self, kind: str) -> str:
        return next(self._short[kind])

    def alias(self, kind: str, name: str) -> tuple[str, ...]:
        if kind == "country":
            return (f"Republic of {name}",)
        if kind == "person":
            initial, _, rest = name.partition(" ")
            return (f"{initial[0]}. {rest}",)
        return ()

    def _draw(self, kind: str, rng: random.Random) -> str:
        while True:
            name = _name(kind, rng)
            aliases = self.alias(kind, name)
            if not self._taken & {name, *aliases}:
                self._taken |= {name, *aliases}
                return name


def _short_names(kind: str, seed: int, needed: int) -> Iterator[str]:
    """Distinct pairs of words in a random order; when they are used up, again with a number behind."""
    first, second = words.SHORT_NAMES[kind]
    pairs = [f"{one} {two}" for one in first for two in second]
    random.Random(f"short/{seed}/{kind}").shuffle(pairs)
    for number in range(needed // len(pairs) + 1):
        yield from (pair if number == 0 else f"{pair} {number + 1}" for pair in pairs)


def _word(rng: random.Random, syllables: int) -> str:
    return "".join(rng.choice(words.ONSETS) + rng.choice(words.VOWELS) for _ in range(syllables)) + rng.choice(
        words.CODAS
    )


def _name(kind: str, rng: random.Random) -> str:
    if kind == "country":
        return (_word(rng, 2) + rng.choice(words.COUNTRY_ENDS)).capitalize()
    if kind == "city":
        return (_word(rng, rng.choice((1, 2))) + rng.choice(words.CITY_ENDS)).capitalize()
    if kind == "person":
        first = _word(rng, 1) + rng.choice(words.FIRST_ENDS)
        return f"{first.capitalize()} {_word(rng, 2).capitalize()}"
    if kind == "work":
        return f"{rng.choice(words.TITLE_NOUNS)} of {_word(rng, 2).capitalize()}"
    return f"{_word(rng, 2).capitalize()} {rng.choice(words.CONTESTS)}"


class _Region:
    """One region in the making: its names, and the facts about them."""

    def __init__(self, names: Mapping[str, Sequence[str]], short: Mapping[str, str]) -> None:
        self.names = names
        self.short = short
        self.kind = {name: kind for kind, members in names.items() for name in members}
        self.facts: dict[str, dict[str, Fact]] = {name: {} for name in self.kind}

    def link(self, subject: str, relation: str, value: str) -> None:
        self._add(subject, relation, value, True, self.short[value])

    def tell(self, subject: str, relation: str, value: str, short: str) -> None:
        self._add(subject, relation, value, False, short)

    def year(self, subject: str, relation: str, value: int) -> None:
        self.tell(subject, relation, str(value), str(value - CENTURY))

    def _add(self, subject: str, relation: str, value: str, entity: bool, short: str) -> None:
        self.facts[subject][relation] = Fact(subject, self.kind[subject], relation, value, entity, short)


def _region(drawn: Mapping[str, Sequence[str]], rng: random.Random, names: _Names, before: int) -> Iterator[Entity]:
    """The entities of one region with their facts; ``before``: how many entities there are already."""
    short = {name: names.short(kind) for kind, members in drawn.items() for name in members}
    region = _Region(drawn, short)
    _places(region, rng)
    _people(region, rng)
    _works(region, rng)
    _events(region, rng)
    for number, (name, facts) in enumerate(region.facts.items(), before):
        kind = region.kind[name]
        yield Entity(name, kind, drawn["country"][0], names.alias(kind, name), facts, short[name], f"p{number:06d}")


def _places(region: _Region, rng: random.Random) -> None:
    country, cities, people = region.names["country"][0], region.names["city"], region.names["person"]
    leader, *mayors = rng.sample(people, 1 + len(cities))
    region.link(country, "capital", rng.choice(cities))
    region.link(country, "leader", leader)
    millions = rng.randint(5, 99)
    region.tell(country, "population", f"{millions * 100_000:,}", str(millions))
    region.year(country, "founded", rng.randint(1801, 1815))
    years = rng.sample(range(1801, 1831), len(cities))
    sizes = rng.sample(range(5, 100), len(cities))
    for city, mayor, year, size in zip(cities, mayors, years, sizes, strict=True):
        region.link(city, "country", country)
        region.link(city, "mayor", mayor)
        region.tell(city, "population", f"{size},000", str(size))
        region.year(city, "founded", year)


def _people(region: _Region, rng: random.Random) -> None:
    people = region.names["person"]
    births = rng.sample(range(1831, 1861), len(people))
    for person, year in zip(people, births, strict=True):
        region.link(person, "birthplace", rng.choice(region.names["city"]))
        region.year(person, "born", year)
        profession = rng.choice(list(words.PROFESSIONS))
        region.tell(person, "profession", profession, words.PROFESSIONS[profession])
    couples = rng.sample(people, 6)  # six of ten people are married, among themselves
    for one, other in zip(couples[::2], couples[1::2], strict=True):
        region.link(one, "spouse", other)
        region.link(other, "spouse", one)


def _works(region: _Region, rng: random.Random) -> None:
    for work in region.names["work"]:
        author = rng.choice(region.names["person"])
        born = region.facts[author]["born"].number or 0
        region.link(work, "author", author)
        region.year(work, "published", rng.randint(born + 20, min(born + 50, 1900)))
        for relation, values in (("genre", words.GENRES), ("form", words.FORMS)):
            value = rng.choice(list(values))
            region.tell(work, relation, value, values[value])


def _events(region: _Region, rng: random.Random) -> None:
    years = rng.sample(range(1876, 1901), len(region.names["event"]))
    for event, year in zip(region.names["event"], years, strict=True):
        region.link(event, "venue", rng.choice(region.names["city"]))
        region.year(event, "year", year)
        region.link(event, "winner", rng.choice(region.names["person"]))
