"""The bundled shop: generated products and goals in the official WebShop schema, the same on every machine.

Products come in families: a plain one, a twin of another brand and a higher price, and near-duplicates in
which one word is always another (the family's axis). Some of them are advertised loudly: they repeat their own,
true words, so BM25 puts them before the plain product although it alone has all the words of the goal. The
first result is therefore rarely right; reading titles and prices is. Everything follows from hashes of
(seed, family): no order of calls, no global generator.

A goal names words of one product (its noun and the axis always), option values, and a price limit that shuts
out the twin. ``easy``: two words, at most one option; ``medium``: three words, one option, often a limit;
``hard``: four words, all options, always a limit.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.envs.webshop.words import BRANDS, COLOURS, DEPARTMENTS, MATERIALS, OPTIONS, PRICES, STYLES
from agentrl.types import Split

FAMILY = 8  # products of a family: the plain one, a twin, near-duplicates
DIFFICULTIES = ("easy", "medium", "hard")
STANDARD = (0.2, 0.45, 0.35)  # shares of easy, medium and hard goals
WIDE = (0.2, 0.15, 0.65)  # a spread with many hard goals, for comparing methods that choose among groups
GOALS_PER_FAMILY = 6
SPLITS: tuple[tuple[Split, float], ...] = (("train", 0.6), ("val", 0.75), ("test", 1.0))  # upper ends of the hash range
NO_LIMIT = 1_000_000
ROLES = (BRANDS, STYLES, MATERIALS, COLOURS)
PLAIN = (
    "ships from our own house within one day and comes in our usual paper box . you may send things again to us"
    " for free until next month , just tell us which one went wrong and our people will help . many buyers say"
    " they would buy here again"
)
LOUD, LOUD_TWIN = 0.22, 0.6  # shares of near-duplicates and twins that repeat their words


@dataclass(frozen=True)
class Catalogue:
    """``items``: products in the official schema (with ``attributes``, ``instruction``, ``instruction_attributes``);
    ``goals``: by split, in the official goal form plus ``difficulty`` and ``family``."""

    items: list[dict[str, Any]]
    goals: dict[Split, list[dict[str, Any]]]


def generate(products: int = 4000, seed: int = 0, shares: Sequence[float] = STANDARD) -> Catalogue:
    """The shop with its goals. `shares`: of easy, medium and hard goals. No family has goals in two splits."""
    goals: dict[Split, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    made = list(items(products, seed))
    for family in range(len(made) // FAMILY):
        rng = _rng(seed, family, "goals")
        members = made[family * FAMILY : (family + 1) * FAMILY]
        goals[split_of(family, seed)] += _goals(members, family, seed, shares, rng)
    for number, panel in enumerate(goals.values()):
        _rng(seed, number, "order").shuffle(panel)
    return Catalogue(made, goals)


def items(products: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The products one by one, in catalogue order; a shorter shop is a prefix of a longer one."""
    for start in range(0, products, FAMILY):
        yield from _family(start // FAMILY, seed)[: products - start]


def split_of(family: int, seed: int) -> Split:
    """The split of all goals of a family, by hash."""
    place = _rng(seed, family, "split").random()
    return next(split for split, end in SPLITS if place < end)


def _rng(seed: int, family: int, purpose: str) -> random.Random:
    digest = hashlib.sha256(f"{seed}/{family}/{purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def _family(family: int, seed: int) -> list[dict[str, Any]]:
    rng = _rng(seed, family, "products")
    department = rng.choice(list(DEPARTMENTS))
    noun = rng.choice(DEPARTMENTS[department][1])
    centre = tuple(rng.choice(words) for words in ROLES)
    options = OPTIONS[department]
    price = rng.choice(PRICES[:12])
    titles = {centre: 0}
    twin = (rng.choice([brand for brand in BRANDS if brand != centre[0]]), *centre[1:])
    titles[twin] = 1
    while len(titles) < FAMILY:
        titles.setdefault(_near(centre, axis_of(family, seed), rng), len(titles))
    made = []
    for words, place in titles.items():
        loud = place > 0 and rng.random() < (LOUD_TWIN if place == 1 else LOUD)
        asked = price + 5 * rng.randint(3, 6) if place == 1 else price if place == 0 else rng.choice(PRICES)
        made.append(_item(family * FAMILY + place, seed, department, (*words, noun), options, asked, loud))
    return made


def axis_of(family: int, seed: int) -> int:
    """Which word the near-duplicates of a family always change: 1 style, 2 material, 3 colour. Goals name it."""
    return _rng(seed, family, "axis").randint(1, 3)


def _near(centre: tuple[str, ...], axis: int, rng: random.Random) -> tuple[str, ...]:
    """The centre with another word on the axis, sometimes with a second word changed."""
    changed = {axis} | ({rng.randrange(4)} if rng.random() < 0.3 else set())
    others = [[word for word in words if word != centre[i]] for i, words in enumerate(ROLES)]
    return tuple(rng.choice(others[i]) if i in changed else word for i, word in enumerate(centre))


def _asin(number: int, seed: int) -> str:
    """Ten characters, distinct for distinct numbers below 36^6; their order says nothing about the product."""
    scrambled = (number * 1_327_217_885 + seed * 97_561 + 12_345) % 36**6
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "B0GN" + "".join(digits[scrambled // 36**i % 36] for i in range(6))


def _item(
    number: int,
    seed: int,
    department: str,
    words: tuple[str, ...],
    options: dict[str, list[str]],
    price: int,
    loud: bool,
) -> dict[str, Any]:
    title = " ".join(words)
    noun = words[-1]
    return {
        "asin": _asin(number, seed),
        "name": title,
        "full_description": f"{title} . {title}" if loud else PLAIN,
        "small_description": [title] if loud else [],
        "pricing": f"${price}.00",
        "images": [],
        "product_category": f"{DEPARTMENTS[department][0]} \u203a {noun}",
        "average_rating": "",
        "customization_options": {name: [{"value": value} for value in values] for name, values in options.items()},
        "category": department,
        "query": noun,
        "page": 1,
        "attributes": list(words),
        "instruction": f"Find me {title}",
        "instruction_attributes": list(words[1:]),
    }


def _goals(
    members: Sequence[dict[str, Any]], family: int, seed: int, shares: Sequence[float], rng: random.Random
) -> list[dict[str, Any]]:
    """Distinct goals of one family, most of them for its plain product."""
    made: dict[str, dict[str, Any]] = {}
    for _ in range(GOALS_PER_FAMILY):
        difficulty = rng.choices(DIFFICULTIES, shares)[0]
        item = members[0] if rng.random() < 0.8 else rng.choice(members[2:])
        goal = _goal(item, family, seed, difficulty, rng)
        made.setdefault(goal["instruction_text"], goal)
    return list(made.values())


def _goal(item: dict[str, Any], family: int, seed: int, difficulty: str, rng: random.Random) -> dict[str, Any]:
    _, *middle, noun = item["attributes"]
    level = DIFFICULTIES.index(difficulty)
    axis = axis_of(family, seed) - 1
    kept = {axis, *rng.sample([i for i in range(3) if i != axis], level)}
    attributes = [word for i, word in enumerate(middle) if i in kept] + [noun]
    names = list(item["customization_options"])
    count = (0 if rng.random() < 0.5 else 1, 1, len(names))[level]
    values = {
        name: rng.choice(item["customization_options"][name])["value"]
        for name in sorted(rng.sample(names, min(count, len(names))))
    }
    price = int(float(item["pricing"][1:]))
    limit = min(100, (price // 10 + 1) * 10) if rng.random() < (0.0, 0.6, 1.0)[level] else None
    wanted = ", and ".join(f"{name}: {value}" for name, value in values.items())
    text = f"Find me {' '.join(attributes)}" + (f" with {wanted}" if wanted else "")
    return {
        "asin": item["asin"],
        "category": item["category"],
        "query": item["query"],
        "name": item["name"],
        "product_category": item["product_category"],
        "instruction_text": text + (f", and price lower than {limit:.2f} dollars" if limit else ""),
        "attributes": attributes,
        "price_upper": float(limit) if limit else float(NO_LIMIT),
        "goal_options": values,
        "weight": 1.0,
        "difficulty": difficulty,
        "family": str(family),
    }
