"""The SQL reward: hand-worked numbers, a brute-force Kendall, and the quirks one by one."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.envs.intercode_sql.reward import CLEAN, FAITHFUL, Compat, score, score_texts, tau_b

LETTERS = st.lists(st.sampled_from("abc"), max_size=7)


def rows(text):
    return [(letter,) for letter in text]


@pytest.mark.parametrize(
    ("answer", "gold", "reward"),
    [
        ("abc", "cba", -1.0),
        ("bac", "bca", -1.0),
        ("bac", "bac", 1.0),
        ("cab", "abc", -0.33),
        ("aab", "aba", -0.5),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a", "a", 1.0),
        ("a", "ab", 0.5),  # one common row: tau is undefined, the IoU is not rounded
        ("aax", "aay", 0.5),  # equal common rows: undefined as well
        ("abx", "aby", 0.5),
    ],
)
def test_worked_examples(answer: str, gold: str, reward: float) -> None:
    assert score(rows(answer), rows(gold)).reward == reward


def test_no_result_set_earns_nothing_and_a_gold_without_one_counts_as_empty() -> None:
    assert score(None, rows("a")).reward == 0.0
    assert score([], None).reward == 1.0
    assert score([], None, corrupt_gold=True).reward == 1.0
    assert score([], None, corrupt_gold=True, compat=CLEAN).reward == 0.0


def test_rounding_is_numpys() -> None:
    """tau * IoU = 0.175 rounds to 0.18 (17.5 to even), where Python's round gives 0.17."""
    gold = [f"r{i}" for i in range(5)]
    answer = [*gold[:1], *gold[1:5], "x"]
    both = score_texts(answer, gold)
    assert both.reward == round(both.iou * 100) / 100 == 0.83
    assert score_texts(answer, gold, Compat(numpy_round=False)).reward == pytest.approx(5 / 6)
    assert round(0.175 * 100) / 100 == 0.18 != round(0.175, 2)


def test_clean_setting_ranks_by_place() -> None:
    """Rows that stand in the gold's own order earn 1, whatever their texts are."""
    assert score(rows("bac"), rows("bac"), compat=CLEAN).reward == 1.0
    assert score(rows("bacd"), rows("bacx"), compat=CLEAN).reward == pytest.approx(0.6)
    assert score(rows("abc"), rows("cba"), compat=CLEAN).reward == -1.0
    assert score(rows("aab"), rows("aab"), compat=CLEAN).reward == 1.0


def brute(xs, ys):
    pairs = list(itertools.combinations(range(len(xs)), 2))
    signs = [((xs[i] > xs[j]) - (xs[i] < xs[j]), (ys[i] > ys[j]) - (ys[i] < ys[j])) for i, j in pairs]
    left, right = (sum(bool(sign[k]) for sign in signs) for k in (0, 1))
    if not left or not right:
        return None
    return sum(a * b for a, b in signs) / math.sqrt(left) / math.sqrt(right)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_tau_equals_the_definition(pairs) -> None:
    xs, ys = [a for a, _ in pairs], [b for _, b in pairs]
    expected, got = brute(xs, ys), tau_b(xs, ys)
    assert (got is None) == (expected is None)
    if got is not None:
        assert got == pytest.approx(expected, abs=1e-12)


@given(LETTERS, LETTERS, st.sampled_from([FAITHFUL, CLEAN]))
def test_bounds_and_equality(answer, gold, compat) -> None:
    got = score_texts(answer, gold, compat)
    assert -1.0 <= got.reward <= 1.0
    assert 0.0 <= got.iou <= 1.0
    assert score_texts(gold, gold, compat).reward == 1.0
    if sorted(answer) != sorted(gold):
        assert got.reward < 1.0
