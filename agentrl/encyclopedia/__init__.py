"""A small invented world: people, places, works and events, their facts, articles about them, and questions.

Nothing in it is true, so nothing can be answered from memory; everything follows from a seed, on every machine::

    from agentrl.encyclopedia import generate, questions

    world = generate(seed=0, size=2000)              # about 0.2 s
    entity = world.entities["Mirela Tosk"]           # Entity(name, kind, region, aliases, facts, short, passage)
    entity.facts["birthplace"]                       # Fact(subject, relation, value, entity=True, short, number)
    entity.facts["birthplace"].statement             # "Mirela Tosk was born in Orvel."
    world.passages                                   # one article each: Passage(id, title, text), every fact once
    world.lines                                      # the same facts one by one in short words, for a tiny model
    world.find("M. Tosk")                            # by name, alias or short name; None when unknown
    questions(world, kinds=("chain",), hops=(1, 2))  # Question(text, answer, aliases, hops, region, short, ...)

The world is made of regions of 25 entities (a country, 4 cities, 10 people, 7 works, 3 events) whose facts never leave
the region: a region is the family by which splits are disjoint (``split_of``).
"""

from agentrl.encyclopedia.questions import KINDS, Hop, Question, questions
from agentrl.encyclopedia.world import (
    RELATIONS,
    SHORT_RELATIONS,
    Encyclopedia,
    Entity,
    Fact,
    Passage,
    generate,
    split_of,
)

__all__ = [
    "KINDS",
    "RELATIONS",
    "SHORT_RELATIONS",
    "Encyclopedia",
    "Entity",
    "Fact",
    "Hop",
    "Passage",
    "Question",
    "generate",
    "questions",
    "split_of",
]
