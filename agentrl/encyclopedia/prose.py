"""How facts are told: the sentence of a fact alone, and the articles with their varied sentences."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

# relation -> ways to say it; {s} the subject or what stands for it, {v} the value. The first also stands alone.
TEMPLATES: Mapping[str, Sequence[str]] = {
    "capital": ("The capital of {s} is {v}.", "Its seat of government is {v}.", "The government sits in {v}."),
    "population": ("{s} has {v} inhabitants.", "{v} people live there.", "A census counted {v} inhabitants."),
    "founded": ("{s} was founded in {v}.", "{s} dates from {v}.", "It was established in {v}."),
    "leader": ("The head of state of {s} is {v}.", "It is governed by {v}.", "{v} leads the nation."),
    "country": ("{s} lies in {v}.", "{s} is a city in {v}.", "{s} belongs to {v}."),
    "mayor": ("The mayor of {s} is {v}.", "{v} serves as mayor.", "The office of mayor is held by {v}."),
    "birthplace": ("{s} was born in {v}.", "{s} came into the world in {v}.", "{s} was a native of {v}."),
    "born": (
        "{s} was born in the year {v}.",
        "The year of birth is given as {v}.",
        "Parish books note {v} for the birth.",
    ),
    "profession": ("{s} worked as a {v}.", "{s} earned a living as a {v}.", "{s} was a {v} by trade."),
    "spouse": ("{s} was married to {v}.", "{s} wed {v}.", "{s} shared a household with a spouse, {v}."),
    "author": ("{s} was written by {v}.", "{s} is the work of {v}.", "Its author is {v}."),
    "published": ("{s} was published in {v}.", "{s} first appeared in {v}.", "It came out in {v}."),
    "genre": ("{s} is of the {v} genre.", "Critics count it among the {v} works.", "Its tone is {v}."),
    "form": ("{s} is a {v}.", "{s} takes the form of a {v}.", "Catalogues list it as a {v}."),
    "venue": ("{s} took place in {v}.", "{s} was held in {v}.", "The host was the city of {v}."),
    "year": ("{s} was held in the year {v}.", "It happened in {v}.", "The year was {v}."),
    "winner": ("{s} was won by {v}.", "The winner was {v}.", "First prize went to {v}."),
}
FILLERS = (
    "Little else is known for certain.",
    "Local archives hold several letters on the subject.",
    "Later writers have argued about the details.",
    "The older sources agree on this.",
    "A short notice in a regional gazette repeats the account.",
    "Nothing of this was disputed at the time.",
)
LEADS = {
    "country": "{name}, officially the {alias}, is a country.",
    "city": "{name} is a city.",
    "person": "{name}, in older papers {alias}, is a figure of regional history.",
    "work": "{name} is a piece of literature.",
    "event": "The {name} was a public contest.",
}
LEAD_WITHOUT_ALIAS = "{name} is a figure of regional history."
STANDS_FOR = {"country": "the country", "city": "the city", "work": "the text", "event": "the contest"}
ARTICLE = re.compile(r" a (?=[aeio])")


def statement(kind: str, subject: str, relation: str, value: str) -> str:
    """The sentence of one fact by itself, with the subject's full name."""
    return _cased(TEMPLATES[relation][0].format(s=named(kind, subject), v=value))


def article(kind: str, name: str, alias: str, facts: Sequence[tuple[str, str]], rng: random.Random) -> str:
    """An article: a lead, then one sentence for each (relation, value) in a random order, and a filler."""
    lead = LEADS[kind] if alias or "{alias}" not in LEADS[kind] else LEAD_WITHOUT_ALIAS
    stand_in = name.split()[-1] if kind == "person" else STANDS_FOR[kind]
    sentences = []
    for relation, value in rng.sample(facts, len(facts)):
        subject = stand_in if rng.random() < 0.7 else named(kind, name)
        sentences.append(_cased(rng.choice(TEMPLATES[relation]).format(s=subject, v=value)))
    sentences.insert(rng.randint(0, len(sentences)), rng.choice(FILLERS))
    return " ".join([lead.format(name=name, alias=alias), *sentences])


def named(kind: str, name: str) -> str:
    """The name as it stands inside a sentence."""
    return f"the {name}" if kind == "event" else name


def _cased(text: str) -> str:
    """A first letter in upper case, and ``an`` where a vowel follows."""
    return text[0].upper() + ARTICLE.sub(" an ", text[1:])
