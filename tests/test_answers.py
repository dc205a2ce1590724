"""Exact match, F1 and length-aware BLEU: values worked by hand, and what must hold of every text."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.answers import bleu, contained, exact, f1, normalize

WORDS = st.lists(st.sampled_from(["amber", "basalt", "cedar", "dune", "ember"]), min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles!", "beatles"),
        ("A.N. Other", "other"),
        ("an a the", ""),
        ("Theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("caf\u00e9 \u2013 bar", "caf\u00e9 \u2013 bar"),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("Paris", "Paris", 1.0),
        ("Paris France", "Paris", 0.5),
        ("it is in Paris", "Paris", 0.25),
        ("New York", "New York City", 0.6065),
        ("New York City", "New York", 0.5774),
        ("Rome", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("", "the", 1.0),
    ],
)
def test_length_aware_bleu_by_hand(answer: str, gold: str, value: float) -> None:
    assert bleu(answer, [gold]) == pytest.approx(value, abs=1e-4)


def test_of_two_words_in_the_wrong_order_the_pair_counts_half() -> None:
    assert bleu("york new", ["new york"]) == pytest.approx((1.0 * 0.5) ** 0.5)  # p1 = 2/2, p2 = 0.5/1, no brevity


def test_the_best_gold_counts() -> None:
    assert bleu("Rome", ["Paris", "rome"]) == 1.0
    assert bleu("Rome", []) == 0.0


def test_other_measures_by_hand() -> None:
    assert exact("the Paris.", ["Rome", "paris"]) == 1.0
    assert contained("in Paris, France", ["paris"]) == 1.0
    assert contained("in Paris", ["paris france"]) == 0.0
    assert f1("paris france", ["paris", "paris texas usa"]) == pytest.approx(2 / 3)
    assert f1("y x x", ["x y"]) == pytest.approx(0.8)


@settings(max_examples=300, deadline=None)
@given(WORDS, WORDS)
def test_bleu_is_bounded_and_one_for_an_exact_match_of_any_length(answer: list[str], gold: list[str]) -> None:
    value = bleu(" ".join(answer), [" ".join(gold)])
    assert 0.0 <= value <= 1.0
    assert bleu(" ".join(gold), [" ".join(gold)]) == pytest.approx(1.0)
    assert (value == 0.0) == (not set(answer) & set(gold))


@pytest.mark.parametrize(("candidates", "words"), list(product(range(2, 9), range(1, 5))))
def test_naming_many_candidates_of_equal_length_pays_no_more_than_guessing_one(candidates: int, words: int) -> None:
    names = [" ".join(f"n{name}w{word}" for word in range(words)) for name in range(candidates)]
    stuffed = bleu(" or ".join(names), names[:1])
    assert bleu(" ".join(names), names[:1]) <= 1 / candidates + 1e-12  # what a guess among them earns on average
    assert stuffed < 1 / candidates
