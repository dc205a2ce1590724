"""What a shopper is asked to find: synthetic and human goals, in the original's order and with its draws.

The original draws range prices and price limits from the unseeded global generator and seeds only the
shuffle. Here one explicit seed feeds the same calls in the same order (prices in product order, then one
limit per product or human instruction), then seed 233 shuffles: seed 0 equals the original run after
``random.seed(0)``.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.envs.webshop.products import Product
from agentrl.errors import DataError

SHUFFLE_SEED = 233
LIMITS = tuple(10.0 * step for step in range(1, 100))
NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """One instruction and what fulfils it.

    ``goal_options`` is a mapping {option name: value} for synthetic goals and a tuple of values for human
    ones (the original's reward treats them differently). ``price_upper`` in dollars; ``weight`` is the
    original's sampling weight; ``difficulty`` is filled by generated catalogues only.
    """

    asin: str
    category: str
    query: str
    name: str
    product_category: str
    instruction_text: str
    attributes: tuple[str, ...]
    price_upper: float
    goal_options: Mapping[str, str] | tuple[str, ...]
    weight: float = 1.0
    difficulty: str = ""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Goal:
        """A goal from its JSON form (official keys). Raises DataError on a missing field."""
        try:
            options = record["goal_options"]
            return cls(
                asin=record["asin"],
                category=record["category"],
                query=record["query"],
                name=record["name"],
                product_category=record["product_category"],
                instruction_text=record["instruction_text"],
                attributes=tuple(record["attributes"]),
                price_upper=record["price_upper"],
                goal_options=options if isinstance(options, Mapping) else tuple(options),
                weight=record.get("weight", 1.0),
                difficulty=record.get("difficulty", ""),
            )
        except KeyError as error:
            raise DataError(f"goal of product {record.get('asin')!r} has no field {error.args[0]!r}") from None

    def to_dict(self) -> dict[str, Any]:
        """JSON form with the official keys (``difficulty`` only where it is set)."""
        options = self.goal_options
        record: dict[str, Any] = {
            "asin": self.asin,
            "category": self.category,
            "query": self.query,
            "name": self.name,
            "product_category": self.product_category,
            "instruction_text": self.instruction_text,
            "attributes": list(self.attributes),
            "price_upper": self.price_upper,
            "goal_options": dict(options) if isinstance(options, Mapping) else list(options),
            "weight": self.weight,
        }
        return record | ({"difficulty": self.difficulty} if self.difficulty else {})


def draw_limit(price: float, rng: random.Random) -> tuple[float, str]:
    """Price limit and its text: the larger of two draws among the next four multiples of ten above the price."""
    above = [limit for limit in LIMITS if limit > price][:4]
    if len(above) < 2:
        return NO_LIMIT, ""
    upper = max(rng.sample(above, 2))
    return upper, f", and price lower than {upper:.2f} dollars"


def _goal(product: Product, text: str, attributes: Sequence[str], upper: float, options: Any) -> Goal:
    return Goal(
        asin=product.asin,
        category=product.category,
        query=product.query,
        name=product.title,
        product_category=product.product_category,
        instruction_text=text,
        attributes=tuple(attributes),
        price_upper=upper,
        goal_options=options,
    )


def synthetic_goals(products: Iterable[Product], rng: random.Random) -> list[Goal]:
    """One goal for every combination of option values of every product with an instruction, shuffled."""
    goals: list[Goal] = []
    for product in products:
        if not product.instruction:
            continue
        upper, price_text = draw_limit(product.price, rng)
        names = sorted(product.options)
        for values in itertools.product(*(product.options[name] for name in names)):
            options = dict(zip(names, values, strict=True))
            wanted = ", and ".join(f"{name}: {value}" for name, value in options.items())
            text = f"{product.instruction}{' with ' + wanted if wanted else ''}{price_text}"
            goals.append(_goal(product, text, product.instruction_attributes, upper, options))
    counts = Counter(attribute for goal in goals for attribute in goal.attributes)
    weighted = [
        replace(goal, weight=sum(1.0 / counts[a] for a in goal.attributes) / len(goal.attributes)) for goal in goals
    ]
    return shuffled(weighted)


def human_goals(
    products: Iterable[Product], instructions: Mapping[str, Sequence[Mapping[str, Any]]], rng: random.Random
) -> list[Goal]:
    """One goal per human instruction that names attributes, shuffled.

    ``products`` in shop order (those without instructions may be left out); ``instructions``: {asin: records}.
    """
    goals: list[Goal] = []
    for product in products:
        for record in instructions.get(product.asin, ()):
            attributes = record["instruction_attributes"]
            if not attributes:
                continue
            upper, price_text = draw_limit(product.price, rng)
            text = record["instruction"].strip(".") + price_text
            goals.append(_goal(product, text, attributes, upper, tuple(record["instruction_options"])))
    return shuffled(goals)


def shuffled(goals: list[Goal]) -> list[Goal]:
    """The goals in the original's final order (seed 233)."""
    random.Random(SHUFFLE_SEED).shuffle(goals)
    return goals
