"""The invented world: the same everywhere, closed in its regions, told once, and asked without ambiguity."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest

from agentrl.encyclopedia import RELATIONS, Encyclopedia, generate, questions, split_of


@pytest.fixture(scope="module")
def world() -> Encyclopedia:
    return generate(seed=0, size=500)


EXPECTED = "a8c0ebfb5eb97bec"  # of the world, its lines and questions
DIGEST = (
    "import hashlib, json\n"
    "from agentrl.encyclopedia import generate, questions\n"
    "world = generate(3, 100)\n"
    "text = json.dumps([[p.id, p.title, p.text] for p in (*world.passages, *world.lines)])\n"
    "text += json.dumps([[q.id, q.text, q.answer] for q in questions(world)])\n"
    "print(hashlib.sha256(text.encode()).hexdigest()[:16])\n"
)


def test_the_world_is_the_same_on_every_machine_and_hash_seed() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert digests == {EXPECTED}


def test_sizes_are_rounded_up_to_whole_regions(world: Encyclopedia) -> None:
    assert len(world.entities) == len(world.passages) == 500
    assert len(generate(0, 1).entities) == 25
    with pytest.raises(ValueError, match="size is 0"):
        generate(0, 0)


def test_another_seed_gives_other_names(world: Encyclopedia) -> None:
    assert not set(world.entities) & set(generate(seed=1, size=500).entities)


def test_facts_have_the_types_that_the_schema_promises(world: Encyclopedia) -> None:
    for entity in world.entities.values():
        for relation, fact in entity.facts.items():
            subject, value = RELATIONS[relation]
            assert entity.kind in subject.split(" or ")
            assert fact.subject == entity.name
            assert fact.entity == (value in ("city", "person", "country"))
            if fact.entity:
                assert world.entities[fact.value].kind == value
                assert fact.short == world.entities[fact.value].short
            elif value in ("year", "number"):
                assert fact.number is not None
                assert 1 <= int(fact.short) <= 100
            else:
                assert fact.number is None
            if value == "year":
                assert fact.number == 1800 + int(fact.short)


def test_no_fact_leaves_its_region(world: Encyclopedia) -> None:
    for entity in world.entities.values():
        for fact in entity.facts.values():
            if fact.entity:
                assert world.entities[fact.value].region == entity.region


def test_lives_make_sense(world: Encyclopedia) -> None:
    for entity in world.entities.values():
        if entity.kind == "work":
            author = world.entities[entity.facts["author"].value]
            age = (entity.facts["published"].number or 0) - (author.facts["born"].number or 0)
            assert 20 <= age <= 50
        if "spouse" in entity.facts:
            other = world.entities[entity.facts["spouse"].value]
            assert other.facts["spouse"].value == entity.name != other.name


def test_every_name_means_one_thing(world: Encyclopedia) -> None:
    names = Counter(n for e in world.entities.values() for n in (e.name, e.short, *e.aliases))
    assert max(names.values()) == 1
    large = generate(0, 10_000)  # more than there are pairs of words
    assert len({entity.short for entity in large.entities.values()}) == 10_000
    for entity in world.entities.values():
        assert world.find(entity.short.upper()) is entity
        assert all(world.find(f" {alias} ") is entity for alias in entity.aliases)
    assert world.find("nobody") is None


def test_articles_state_each_fact_once(world: Encyclopedia) -> None:
    for passage in world.passages:
        entity = world.entities[passage.title]
        assert entity.passage == passage.id
        body = passage.text.partition(". " if entity.kind != "person" else "history.")[2]
        for fact in entity.facts.values():
            assert body.count(fact.value) == 1, (fact, passage.text)


def test_statements_read_as_sentences(world: Encyclopedia) -> None:
    for entity in list(world.entities.values())[:25]:
        for fact in entity.facts.values():
            assert entity.name in fact.statement
            assert fact.value in fact.statement
            assert fact.statement[0].isupper()
            assert fact.statement.endswith(".")
            assert " a o" not in fact.statement
            assert " a i" not in fact.statement


def test_lines_are_the_facts_in_short_words(world: Encyclopedia) -> None:
    facts = [fact for entity in world.entities.values() for fact in entity.facts.values()]
    assert len(world.lines) == len(facts)
    for line, fact in zip(world.lines, facts, strict=True):
        assert line.text == f"{line.title} {fact.relation} {fact.short}"
        assert world.find(line.title) is world.entities[fact.subject]


def test_answers_follow_from_the_facts_named(world: Encyclopedia) -> None:
    asked = questions(world)
    assert {question.kind for question in asked} == {"chain", "comparison", "arithmetic"}
    for question in asked:
        facts = [hop.fact for hop in question.hops]
        assert all(world.entities[fact.subject].region == question.region for fact in facts)
        assert question.support == tuple(dict.fromkeys(world.entities[fact.subject].passage for fact in facts))
        if question.kind == "chain":
            assert all(one.value == other.subject for one, other in itertools.pairwise(facts))
            assert question.answer == facts[-1].value
            assert facts[0].subject in question.text
            assert question.answer not in question.text
        else:
            assert facts[0].relation == facts[1].relation
            assert all(fact.subject in question.text for fact in facts)


def test_comparisons_and_sums_by_hand() -> None:
    world = generate(0, 25)
    words = {"later": max, "more": max, "earlier": min, "fewer": min}
    for question in questions(world, ("comparison", "arithmetic"), per_region=60):
        one, other = (hop.fact for hop in question.hops)
        numbers = [int(fact.value.replace(",", "")) for fact in (one, other)]
        if question.kind == "comparison":
            pick = next(function for word, function in words.items() if f" {word}" in question.text)
            assert question.answer == (one, other)[numbers.index(pick(numbers))].subject
        else:
            together = "together" in question.text
            assert int(question.answer) == (sum(numbers) if together else max(numbers) - min(numbers))


def test_no_wording_has_two_answers(world: Encyclopedia) -> None:
    asked = questions(world, per_region=1000)
    assert len({question.text for question in asked}) == len(asked)
    assert len({question.id for question in asked}) == len(asked)
    assert len({(question.kind, question.short) for question in asked}) == len(asked)


def test_kinds_and_lengths_can_be_chosen(world: Encyclopedia) -> None:
    asked = questions(world, kinds=("chain",), hops=(2,), per_region=5)
    assert {(question.kind, len(question.hops)) for question in asked} == {("chain", 2)}
    assert len(asked) == 5 * len(world.regions)
    assert len({question.region for question in asked[: len(world.regions)]}) == len(world.regions)
    for wrong in ({"kinds": ("riddle",)}, {"hops": (4,)}, {"kinds": ()}):
        with pytest.raises(ValueError, match="expected kinds of"):
            questions(world, **wrong)  # type: ignore[arg-type]


def test_regions_are_split_in_the_shares_that_are_named() -> None:
    counts = Counter(split_of(f"region {number}") for number in range(4000))
    assert abs(counts["train"] / 4000 - 0.6) < 0.03
    assert abs(counts["val"] / 4000 - 0.15) < 0.03
