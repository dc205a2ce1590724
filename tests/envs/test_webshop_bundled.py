"""The bundled shop: the same everywhere, honest, and in need of reading."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from itertools import combinations, islice

import pytest
from rapidfuzz import fuzz

from agentrl.envs.webshop import WebShop
from agentrl.envs.webshop.catalogue import FAMILY, WIDE, generate, items
from agentrl.envs.webshop.compact import actions, observe, to_action, view_of, want_of
from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.shopper import SCRIPTED, Shopper
from agentrl.envs.webshop.words import NOUNS, OPTION_NAMES, OPTION_VALUES, TITLE_WORDS, grammatical
from agentrl.errors import EnvError
from agentrl.types import Message


@pytest.fixture(scope="module")
def env() -> WebShop:
    return WebShop(products=2000)


def play(env: WebShop, task, name: str, seed: int = 0) -> float:
    episode, rng, total = env.start(task), random.Random(seed), 0.0
    want = want_of(episode.goal_record)
    for _ in range(10):
        action = SCRIPTED[name](want, view_of(episode.session, episode.shop), rng)
        step = episode.step(Message("assistant", action))
        assert step.parsed
        total += step.reward
        if step.done:
            break
    return total


def success(env: WebShop, name: str) -> float:
    tasks = env.tasks("test")[:200]
    return sum(play(env, task, name, seed) == 1.0 for seed, task in enumerate(tasks)) / len(tasks)


def test_the_catalogue_is_the_same_on_every_machine():
    text = json.dumps(list(items(400, seed=3)), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "ea9dd1d209a62726"
    assert list(items(24, seed=3)) == list(islice(items(10**9, seed=3), 24))


def test_asins_are_distinct_and_official_in_form():
    asins = [item["asin"] for item in items(20_000)]
    assert len(set(asins)) == len(asins)
    assert all(len(asin) == 10 and asin.isalnum() and asin.isupper() for asin in asins)


def test_no_word_can_pass_for_another_in_the_exact_reward():
    words = sorted({*TITLE_WORDS, *OPTION_VALUES})
    for one, other in combinations(words, 2):
        assert one not in other, (one, other)
        assert other not in one, (one, other)
        assert fuzz.token_set_ratio(one, other) <= 85, (one, other)
    assert not set(TITLE_WORDS) & {*OPTION_VALUES, *OPTION_NAMES}


def test_no_text_promises_a_word_that_the_title_lacks():
    for item in islice(items(800), 800):
        text = " ".join([item["full_description"], *item["small_description"]]).lower()
        assert not [word for word in TITLE_WORDS if word in text and word not in item["attributes"]]


def test_titles_and_goals_follow_the_grammar():
    catalogue = generate(800)
    assert all(grammatical(item["name"].split()) for item in catalogue.items)
    assert all(grammatical(goal["attributes"]) for goals in catalogue.goals.values() for goal in goals)
    assert not grammatical(["red", "blue", NOUNS[0]])
    assert not grammatical(["red", "wool"])


def test_splits_share_no_product_and_no_family(env: WebShop):
    panels = {split: env.tasks(split) for split in ("train", "val", "test")}
    for one, other in combinations(panels.values(), 2):
        assert not {t.family for t in one} & {t.family for t in other}
        assert not {t.data["goal"]["asin"] for t in one} & {t.data["goal"]["asin"] for t in other}
    assert len(panels["test"]) >= 300


def test_every_goal_can_be_fulfilled_and_each_part_counts(env: WebShop):
    for task in [*env.tasks("test")[:150], *env.tasks("train")[:150]]:
        goal = Goal.from_dict(task.data["goal"])
        wanted = dict(goal.goal_options)
        assert buy(env, goal, goal.asin, wanted) == 1.0
        for name, value in wanted.items():
            product = env.shop.product(env.shop.index_of(goal.asin))
            other = next(v for v in product.options[name] if v != value)
            assert buy(env, goal, goal.asin, wanted | {name: other}) < 1.0
        if goal.price_upper < 1000:
            cheap = replace(goal, price_upper=float(5))
            assert buy(env, cheap, goal.asin, wanted) < 1.0


def test_products_that_lack_a_word_earn_less(env: WebShop):
    tasks = [task for task in env.tasks("test") if task.data["goal"]["difficulty"] != "easy"][:60]
    for task in tasks:
        goal = Goal.from_dict(task.data["goal"])
        first = int(task.family) * FAMILY
        for index in range(first, first + FAMILY):
            product = env.shop.product(index)
            reward = buy(env, goal, product.asin, dict(goal.goal_options))
            assert (reward == 1.0) == want_of(goal).fits(product.title.split(), product.price)


def buy(env: WebShop, goal: Goal, asin: str, options: dict[str, str]) -> float:
    session = env.session(goal)
    product = env.shop.product(env.shop.index_of(asin))
    session.step(f"search[{product.title}]")
    while asin.lower() not in session.clickables():
        session.step("click[next >]")
    session.step(f"click[{asin.lower()}]")
    for value in options.values():
        session.step(f"click[{value}]")
    return session.step("click[buy now]")[0]


def test_reading_decides(env: WebShop):
    assert success(env, "first result") <= 0.6
    assert success(env, "random pick") <= 0.6
    assert success(env, "oracle") >= 0.95


def test_the_wide_spread_is_harder():
    count = lambda shares: sum(g["difficulty"] == "hard" for g in generate(800, shares=shares).goals["train"])  # noqa: E731
    assert count(WIDE) > 1.4 * count((0.2, 0.45, 0.35))


def test_compact_pages_and_actions_agree_with_the_session(env: WebShop):
    rng = random.Random(0)
    for task in env.tasks("train")[:40]:
        episode = env.start(task)
        session = episode.session
        for _ in range(12):
            offered = actions(session, env.shop)
            if not offered:
                break
            assert all(session.valid(to_action(session, env.shop, action) or "") for action in offered)
            text = observe(session, env.shop)
            assert all(a.removeprefix("click ") in text for a in offered if "item" in a)
            episode.step(Message("assistant", rng.choice(offered)))
    start = env.start(env.tasks("train")[0]).session
    assert observe(start, env.shop) == "home"
    assert to_action(start, env.shop, "hello") is None
    assert not start.valid(to_action(start, env.shop, "click item1") or "")


def test_the_shopper_repeats_itself_and_noise_costs_success(env: WebShop):
    rates = []
    for noise in (0.0, 0.5, 1.0):
        runs = [[shop_with(Shopper(env, noise, 7), env, task) for task in env.tasks("val")[:60]] for _ in range(2)]
        assert runs[0] == runs[1]
        rates.append(sum(r == 1.0 for r in runs[0]) / 60)
    assert rates[0] > 0.9 > rates[0] - 0.2 > rates[1] > rates[2]
    with pytest.raises(EnvError, match="noise"):
        Shopper(env, 1.5, 0)


def shop_with(shopper: Shopper, env: WebShop, task) -> float:
    episode = env.start(task)
    for _ in range(10):
        step = episode.step(shopper(episode))
        if step.done:
            return step.reward
    return 0.0


def test_the_shopper_also_plays_the_faithful_text_view():
    env = WebShop(products=2000, view="text")
    rates = [shop_with(Shopper(env, 0.0, 1), env, task) == 1.0 for task in env.tasks("test")[:50]]
    assert sum(rates) >= 45
