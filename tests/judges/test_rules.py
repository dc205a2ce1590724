"""The offline rubric on sentences worked by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.errors import ConfigError, DataError
from agentrl.judges import Fact, Rubric, Rules
from agentrl.judges.language import Lexicon, sentences, words_of

ADA = ("Ada Vale", "Vale")
BEN = ("Ben Oro", "Oro")
FACTS = (
    Fact(("1912",), ("born",), ADA),
    Fact(("Torvik", "Port Torvik"), ("born",), ADA),
    Fact(("1950",), ("died", "death"), ADA),
    Fact(("1930",), ("born",), BEN, part=1),
)
RUBRIC = Rubric(FACTS, Lexicon.of(["Torvik", "Melm", "Ada Vale", "Ben Oro"]))
QUESTION = "What is known about the life of Ada Vale? And when was Ben Oro born?"
REFERENCE = "Ada Vale was born in Torvik in 1912. She died in 1950. Ben Oro was born in 1930."


@pytest.mark.parametrize(
    ("answer", "stated", "contradicted", "invented"),
    [
        (REFERENCE, 4, 0, 0),
        ("Ben Oro, born in 1930, knew Vale (born 1912, Port Torvik; death in 1950).", 4, 0, 0),
        ("ada vale was born in 1912 in torvik and died in 1950. ben oro was born in 1930", 4, 0, 0),
        ("1912, Torvik, 1950, 1930.", 4, 0, 0),
        ("Vale and Oro were born in 1912 and 1930 respectively.", 2, 0, 0),
        ("Ada Vale was born in melm.", 0, 1, 0),
        ("Ada Vale was born in 1950 and died in 1912.", 0, 2, 0),
        ("Ada Vale was born in 1930. Ben Oro was born in 1912.", 0, 2, 0),
        ("Ada Vale was not born in 1912.", 0, 1, 0),
        ("Ada Vale was not born in 1911.", 0, 0, 0),
        ("Ada Vale was born in 1912 or 1913.", 0, 1, 0),
        ("Ada Vale won the Golden Prize in 1944.", 0, 0, 2),
        ("Ada Vale was born in 1,912 and later lived in MELM.", 1, 0, 1),
        ("See http://x.example/1912/1950/Torvik", 0, 0, 0),
        ("", 0, 0, 0),
        ("...!?\n\n;;", 0, 0, 0),
    ],
)
def test_worked_answers(answer: str, stated: int, contradicted: int, invented: int) -> None:
    verdict = Rules().verdict(QUESTION, REFERENCE, answer, RUBRIC)
    assert verdict.reason == f"{stated} of 4 facts stated, {contradicted} contradicted, {invented} invented"
    assert verdict.score == stated / 4 * max(0.0, 1 - 0.5 * contradicted - 0.25 * invented)
    assert verdict.parts["match"] == float(stated == 4 and contradicted + invented == 0)


def test_listing_everything_earns_nothing() -> None:
    years = " ".join(str(year) for year in range(1900, 1960))
    assert Rules().verdict(QUESTION, REFERENCE, f"{years} Torvik Melm", RUBRIC).score == 0.0


def test_weights_are_read() -> None:
    answer = f"{REFERENCE} She won the Golden Prize."
    assert Rules(invention=0.1).verdict(QUESTION, REFERENCE, answer, RUBRIC).score == pytest.approx(0.9)
    wrong = "Ada Vale was born in Torvik in 1913 and died in 1950. Ben Oro was born in 1930."
    assert Rules(contradiction=0.2).verdict(QUESTION, REFERENCE, wrong, RUBRIC).score == pytest.approx(0.75 * 0.8)


def test_match_only_pays_for_a_perfect_answer_alone() -> None:
    match = Rules(match_only=True)
    for answer, score in ((REFERENCE, 1.0), (f"{REFERENCE} She won the Golden Prize.", 0.0), ("Ada Vale.", 0.0)):
        verdict, graded = (judge.verdict(QUESTION, REFERENCE, answer, RUBRIC) for judge in (match, Rules()))
        assert (verdict.score, verdict.parts) == (score, graded.parts)
    assert match.fingerprint != Rules().fingerprint


def test_a_reference_alone_gives_its_numbers_and_names() -> None:
    rules = Rules()
    question = "Who painted the Night Ferry?"
    reference = "Mira Tosk painted it in 1880. The picture hangs in Orvel. It is made of oil on wood."
    full = "The Night Ferry was painted in 1880 by Mira Tosk; it hangs in Orvel and is oil on wood."
    assert rules.verdict(question, reference, full).score == 1.0
    assert rules.verdict(question, reference, "Mira Tosk, in 1880.").score == 0.5
    assert rules.verdict(question, reference, "Mira Tosk, in 1881.").score == 0.25 * 0.75


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("Yes, it is.", "yes", 1.0),
        ("Yes, it is.", "no", 0.0),
        ("", "anything", 0.0),
        ("It is cold there.", "cold", 1.0),
    ],
)
def test_references_without_facts(reference: str, answer: str, score: float) -> None:
    assert Rules().verdict("Is it?", reference, answer).score == score


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The 1,200 men", ("1200", "men")),
        ("1.2 thousand men", ("1200", "men")),
        ("three  M\u00e9n's", ("3", "men")),
        ("1.50", ("1.5",)),
        ("1.2.3 and 1,5", ("1.2.3", "and", "1,5")),
        ("\u0663 \u00b2 9999999999999999999 million", ("\u0663", "2", "9999999999999999999000000")),
    ],
)
def test_normalised_words(text: str, words: tuple[str, ...]) -> None:
    got = words_of(text)
    assert got[0] == words[0] or len(got) == len(words)
    if text[0] != "\u0663":
        assert got == words


def test_sentences_end_where_a_reader_ends_them() -> None:
    assert [len(s) for s in sentences("Dr. A. Vale came at 3.5 p.m. to Orvel. She left; he stayed")] == [9, 2, 2]


def test_facts_travel_as_json() -> None:
    assert Fact.from_dict(json.loads(json.dumps(FACTS[1].to_dict()))) == FACTS[1]
    for bad in ({}, {"values": []}, {"values": "1912"}, {"values": ["1"], "cues": [1]}, {"values": ["1"], "part": "x"}):
        with pytest.raises(DataError, match="a fact of a rubric"):
            Fact.from_dict(bad)


@pytest.mark.parametrize("name", ["contradiction", "invention", "overlap"])
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=f"judge.{name}: got 1.5"):
        Rules(**{name: 1.5})


PIECES = st.sampled_from(
    [
        "Ada Vale",
        "Ben",
        "born",
        "died",
        "1912",
        "1950",
        "1930",
        "not",
        ".",
        ",",
        "and",
        "Torvik",
        "\u00b2",
        "thousand",
        "\u0663",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=25).map(" ".join)))
def test_any_answer_gets_a_score(answer: str) -> None:
    verdict = Rules().verdict(QUESTION, REFERENCE, answer, RUBRIC)
    assert 0.0 <= verdict.score <= 1.0
    assert verdict == Rules().verdict(QUESTION, REFERENCE, answer, RUBRIC)
    assert (verdict.score == 1.0) == bool(verdict.parts["match"])
    Rules().verdict(answer, answer, answer)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(REFERENCE.split(". ")), min_size=1, max_size=6))
def test_more_true_sentences_never_lower_the_score(lines: list[str]) -> None:
    scores = [
        Rules().verdict(QUESTION, REFERENCE, ". ".join(["Ada Vale was a person", *lines[:n]]), RUBRIC).score
        for n in range(len(lines) + 1)
    ]
    assert scores == sorted(scores)


@pytest.mark.parametrize("piece", ["born 1913 ", "Torvik ", "Ab Cd ", "a", "1,", ". "])
def test_a_huge_answer_is_not_read_to_its_end(piece: str) -> None:
    assert Rules().verdict(QUESTION, REFERENCE, piece * 200_000 + REFERENCE, RUBRIC).score == 0.0
