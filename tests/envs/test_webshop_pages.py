"""The page machine: pages, clickables, transitions, quirks; and properties over random plays."""

import pickle
import random

import pytest

from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.pages import Session, parse_action
from agentrl.envs.webshop.store import Shop


@pytest.fixture
def session(shop: Shop, goal: Goal) -> Session:
    return Session(shop, goal)


def play(session: Session, *actions: str) -> tuple[float, bool]:
    for action in actions:
        result = session.step(action)
    return result


def test_grammar() -> None:
    assert parse_action("search[Red Hat]") == ("search", "red hat")
    assert parse_action("search[shoes] now") == ("search", "shoes")
    assert parse_action("click[a[b]]") == ("click[a", "b]")
    assert parse_action("search[]") is None
    assert parse_action("hello") is None


def test_a_whole_purchase(session: Session) -> None:
    assert session.text() == "WebShop [SEP] Instruction: [SEP] i want a hat [SEP] Search"
    assert session.clickables() == ("search",)
    session.step("search[red wool hat]")
    assert session.text().startswith(
        "Instruction: [SEP] i want a hat [SEP] Back to Search [SEP] Page 1 (Total results: 3) [SEP] Next > [SEP]"
        " B000000001 [SEP] Red Wool Hat [SEP] $19.99 [SEP]"
    )
    session.step("click[b000000001]")
    assert session.text() == (
        "Instruction: [SEP] i want a hat [SEP] Back to Search [SEP] < Prev [SEP] size [SEP] small [SEP] large [SEP]"
        " color [SEP] dark red [SEP] navy | blue [SEP] Red Wool Hat [SEP] Price: $19.99 [SEP] Rating: N.A. [SEP]"
        " Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    reward, done = play(session, "click[large]", "click[dark red]", "click[buy now]")
    assert (reward, done) == (1.0, True)
    assert session.clickables() == ()
    assert len(session.text().split(" [SEP] ")) == 33
    assert ' options [SEP] {"color": "dark red", "size": "large"} [SEP] ' in session.text()


def test_sub_pages_and_empty_strings(session: Session) -> None:
    play(session, "search[hat]", "click[b000000001]", "click[features]")
    assert session.text().endswith("< Prev [SEP] soft wool [SEP] ")  # an empty bullet is an empty field
    play(session, "click[< prev]", "click[reviews]")
    assert session.text().endswith("Back to Search [SEP] < Prev")
    play(session, "search[table]", "click[b000000006]", "click[features]")
    assert session.text().endswith("< Prev [SEP] oak [SEP] ")  # white space with a line break shows nothing
    play(session, "click[< prev]", "click[description]")
    assert session.text().endswith("Back to Search [SEP] < Prev")
    play(session, "search[lamp]", "click[b000000004]", "click[description]")
    assert session.text().endswith("[SEP] <b>bright</b>")


def test_invalid_actions_change_nothing(session: Session) -> None:
    session.step("search[hat]")
    before = session.snapshot()
    for action in (
        "Search[x]",
        " search[x]",
        "click[search]",
        "click[buy now]",
        "search[]",
        "",
        "search[<a> x]",
        "x[y]",
    ):
        assert session.step(action) == (0.0, False)
        assert session.snapshot() == before


def test_equal_values_of_two_options_belong_to_the_last(session: Session) -> None:
    play(session, "search[wool]", "click[b000000005]")
    assert session.clickables()[-3:] == ("x", "y", "z")
    session.step("click[y]")
    assert session.options == {"b": "y"}


def test_special_searches(session: Session, shop: Shop) -> None:
    session.step("search[<c> fashion]")
    assert session.results == (0, 1, 2)
    session.step("search[<q> hats]")
    assert session.results == (0, 1)
    session.step("search[<r>]")
    assert sorted(session.results) == list(range(len(shop)))


def test_quirks_of_compat(shop: Shop, goal: Goal) -> None:
    faithful, clean = Session(shop, goal, page_size=2), Session(shop, goal, page_size=2, compat=False)
    for session in (faithful, clean):
        play(session, "search[wool]", "click[next >]")
        assert session.page_number == 2
    assert "next >" in faithful.clickables()
    assert "next >" not in clean.clickables()
    play(faithful, "click[next >]")
    assert faithful.text().endswith("Page 3 (Total results: 3) [SEP] < Prev [SEP] Next >")
    play(faithful, "search[lamp]")
    play(clean, "search[lamp]")
    assert (faithful.keywords, clean.keywords) == (("lamp",), ("wool",))
    confusing = "search[wool item_page]"
    for session, page in ((faithful, "results"), (Session(shop, goal, compat=False), "item")):
        session.step("click[back to search]")
        play(session, confusing, "click[b000000005]", "click[description]", "click[< prev]")
        assert session.page == page


def test_text_rich_marks_what_was_clicked(session: Session) -> None:
    play(session, "search[hat]", "click[b000000001]", "click[large]")
    assert session.text_rich().startswith("You have clicked large.\n")
    assert "  [clicked button] large [clicked button_]\n  " not in session.text()
    session.step("click[< prev]")
    assert "\n[clicked button] B000000001 [clicked button_]\n" in session.text_rich()


def walk(session: Session, rng: random.Random, steps: int) -> list[tuple[str, str]]:
    """A random play up to a purchase; every clickable but the search button must be accepted."""
    trace: list[tuple[str, str]] = []
    for _ in range(steps):
        if session.page == "done":
            break
        labels = [label for label in session.clickables() if label != "search"]
        action = f"click[{rng.choice(labels)}]" if labels else f"search[{rng.choice(['wool hat', 'table', 'zzz'])}]"
        assert session.valid(action)
        reward, done = session.step(action)
        assert 0.0 <= reward <= 1.0
        trace.append((action, f"{reward} {done} {session.text()}"))
    return trace


@pytest.mark.parametrize("compat", [True, False])
def test_random_plays_are_deterministic_and_can_be_continued_from_a_copy(shop: Shop, goal: Goal, compat: bool) -> None:
    for seed in range(40):
        first = Session(shop, goal, page_size=2, compat=compat)
        walk(first, random.Random(seed), 12)
        copy = Session(shop, goal, page_size=2, compat=compat)
        copy.restore(pickle.loads(pickle.dumps(first.snapshot())))
        assert walk(first, random.Random(-seed), 20) == walk(copy, random.Random(-seed), 20)
