"""The reward against numbers worked by hand."""

import random
from dataclasses import replace

import pytest

from agentrl.envs.webshop.goals import Goal, draw_limit
from agentrl.envs.webshop.nouns import RuleNouns, TableNouns, load_nouns
from agentrl.envs.webshop.reward import COLOURS, normal_colour, score, similar
from agentrl.envs.webshop.store import Shop
from agentrl.errors import DataError, EnvError

NOUNS = RuleNouns()


def test_full_and_partial_reward(shop: Shop, goal: Goal) -> None:
    hat = shop.product(0)
    best = score(goal, hat, {"size": "large", "color": "dark red"}, NOUNS)
    assert best.reward == 1.0
    assert best.parts["w_att"] == pytest.approx(2 / 5)
    bare = score(goal, hat, {}, NOUNS)
    assert bare.reward == pytest.approx(3 / 5)  # two attributes ("warm" is in the description), the price
    assert bare.parts["r_option"] == 0.0
    assert score(goal, hat, {}, NOUNS, price=20.01).reward == pytest.approx(2 / 5)


def test_kind_of_product(shop: Shop, goal: Goal) -> None:
    scarf = shop.product(2)
    other = score(goal, scarf, {}, NOUNS)
    assert other.parts["title_score"] == 0.0
    assert other.reward == 0.0
    blue = score(goal, shop.product(1), {}, NOUNS)
    assert blue.parts["r_type"] == 1.0  # same query
    assert blue.parts["title_score"] == pytest.approx(2 / 3)
    named = TableNouns("t", {"B000000001": tuple("abcdefghijkl"), "B000000002": ("a",)})
    assert score(goal, shop.product(1), {}, named).parts["r_type"] == 0.1  # 1 of 12 nouns overrides the query


def test_colours() -> None:
    assert len(COLOURS) == 102
    assert list(COLOURS) == sorted(COLOURS)
    assert normal_colour("dark blue") == "blue"
    assert normal_colour("bordered") == "red"
    assert normal_colour("plain") == "plain"


def test_pairs_are_a_quirk(shop: Shop, goal: Goal) -> None:
    """`bordered` holds the colour `red`; inside a (name, value) pair only a whole name or value is a colour."""
    wanted = replace(goal, goal_options={"pattern": "bordered"})
    chosen = {"pattern": "red"}
    assert score(wanted, shop.product(0), chosen, NOUNS, compat=False).parts["r_option"] == 1.0
    assert score(wanted, shop.product(0), chosen, NOUNS, compat=True).parts["r_option"] == 0.0
    as_list = replace(goal, goal_options=("bordered",))
    assert score(as_list, shop.product(0), chosen, NOUNS, compat=True).parts["r_option"] == 1.0


def test_similarity_is_strictly_above_85_after_rounding() -> None:
    assert similar("Machine-Wash", "machine wash")
    assert not similar("", "")
    assert not similar("wool", "cotton")


def test_goals_that_cannot_be_scored(shop: Shop, goal: Goal) -> None:
    with pytest.raises(EnvError, match="price_upper"):
        score(replace(goal, price_upper=0), shop.product(0), {}, NOUNS)
    with pytest.raises(EnvError, match="attributes"):
        score(replace(goal, attributes=()), shop.product(0), {}, NOUNS)


def test_price_limits_need_two_steps_above() -> None:
    assert draw_limit(985.0, random.Random(0)) == (1_000_000, "")
    upper, text = draw_limit(19.99, random.Random(0))
    assert 30 <= upper <= 50
    assert text == f", and price lower than {upper:.2f} dollars"


def test_noun_table_errors(tmp_path) -> None:
    with pytest.raises(DataError, match="noun table"):
        load_nouns(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(DataError, match="noun table"):
        load_nouns(str(tmp_path / "bad.json"))
