"""Analyzer and BM25 against values worked by hand."""

import math
import random

import numpy as np
import pytest

from agentrl.envs.webshop import analyzer, search
from agentrl.envs.webshop.analyzer import analyze, words_of
from agentrl.envs.webshop.search import build, quantised_length


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("buy me ten pounds of low calorie coconut water", "bui me ten pound low calori coconut water"),
        ("The women's HATS, for us", "women hat us"),
        ("frame/description:solid fir", "frame description:solid fir"),
        ("3.5mm x 1,000 u.s.a don't 'em", "3.5mm x 1,000 u.s.a don't em"),
        ("snake_case __init__ -- !", "snake_cas __init__"),
        ("★new♡ ½ cup ①", "★ new ♡ cup"),
        ("絹 シルク きぬ", "絹 シルク き ぬ"),
        ("technology possibly", "technolog possibl"),
        ("is it for the", ""),
    ],
)
def test_terms(text: str, terms: str) -> None:
    assert analyze(text) == terms.split()


def test_ascii_shortcut_equals_the_full_pattern() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("ab19_:.,;' -!Z") for _ in range(rng.randrange(1, 24)))
        assert words_of(text) == analyzer._token_pattern().findall(text)


def test_long_words_are_cut_at_255() -> None:
    assert [len(word) for word in words_of("x" * 600)] == [255, 255, 90]


def test_quantised_length() -> None:
    assert [quantised_length(n) for n in (0, 1, 39, 40, 41, 107, 200)] == [0, 1, 39, 40, 40, 104, 200]


def test_scores_by_hand() -> None:
    index = build([["red", "hat"], ["red", "red", "scarf"], ["lamp"]], ["b", "a", "c"])
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    average = 6 / 3

    def score(tf: int, length: int) -> float:
        return idf - idf / (1 + tf / (0.9 * (0.6 + 0.4 * length / average)))

    hits = index.search("red", 10)
    assert [doc for doc, _ in hits] == [1, 0]
    assert [value for _, value in hits] == pytest.approx([score(2, 3), score(1, 2)], rel=1e-6)
    assert index.search("unknown words", 10) == []


def test_ties_go_to_the_smaller_id() -> None:
    index = build([["hat"], ["hat"], ["hat"], ["lamp"]], ["c", "a", "b", "d"])
    assert [doc for doc, _ in index.search("hat", 2)] == [1, 2]


def test_best_k_of_many_equal_full_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    documents = [[f"w{i}" for i in rng.integers(0, 40, size=rng.integers(1, 30))] for _ in range(60_000)]
    index = build(documents, [f"{i:06}" for i in range(len(documents))])
    whole = index.search("w1 w2 w3", len(documents))
    assert index.search("w1 w2 w3", 50) == whole[:50]
    monkeypatch.setattr(search, "_MANY", 10**9)  # one sum instead of one for each term
    assert index.search("w1 w2 w3", len(documents)) == whole
    assert whole == sorted(whole, key=lambda hit: (-hit[1], hit[0]))
