"""Official WebShop product records made into small frozen ones, exactly as the original engine reads them.

The rules (skipped products, price tags, option spelling) decide observations and rewards, so they live
in one place that every store shares: the generated catalogue, the official files and the on-disk store.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.errors import DataError

DEFAULT_PRICE = 100.0
NO_ATTRIBUTES = ("DUMMY_ATTR",)
_NOT_A_NUMBER = re.compile(r"[^\d.]")


@dataclass(frozen=True, slots=True)
class Product:
    """One product. ``index`` is its place in the shop; ``price`` (dollars) is what the reward compares.

    ``pricing`` holds one or two dollar values (a range) or none; ``price_tag`` is what a page shows.
    ``instruction`` and ``instruction_attributes`` are what synthetic goals are made of ("" and () if none).
    """

    index: int
    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price_tag: str
    pricing: tuple[float, ...]
    price: float
    options: Mapping[str, tuple[str, ...]]
    category: str
    query: str
    product_category: str
    attributes: tuple[str, ...]
    instruction: str = ""
    instruction_attributes: tuple[str, ...] = ()


def keep(items: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The items the original keeps: no asin ``nan``, none longer than ten characters, no asin twice."""
    seen: set[str] = set()
    for item in items:
        asin = item.get("asin")
        if not isinstance(asin, str):
            raise DataError(
                f"a product without a text `asin` was found after {len(seen)} products; is this items file whole?"
            )
        if asin == "nan" or len(asin) > 10 or asin in seen:
            continue
        seen.add(asin)
        yield item


def parse_pricing(text: str | None) -> tuple[float, ...]:
    """Dollar values of an official ``pricing`` text: none, one, or the first two of several."""
    if not text:
        return ()
    try:
        values = [float(_NOT_A_NUMBER.sub("", part)) for part in text.split("$")[1:]]
    except ValueError:
        raise DataError(
            f"pricing {text!r} holds no dollar amount; expected text such as '$12.99' or '$5 - $9'"
        ) from None
    if not values:
        raise DataError(f"pricing {text!r} holds no `$`; expected text such as '$12.99' or '$5 - $9'")
    return tuple(values[:2])


def tag_of(pricing: Sequence[float]) -> str:
    """The price as a page shows it: ``$5.0`` or ``$5.0 to $9.0``; products without a price show $100.0."""
    if not pricing:
        return f"${DEFAULT_PRICE}"
    return " to ".join(f"${value}" for value in pricing)


def draw_price(pricing: Sequence[float], rng: random.Random) -> float:
    """The price that counts: the single one, $100 without any, else uniform in the range (one draw)."""
    if not pricing:
        return DEFAULT_PRICE
    return pricing[0] if len(pricing) == 1 else rng.uniform(pricing[0], pricing[1])


def parse_options(raw: Mapping[str, Any] | str | None) -> dict[str, tuple[str, ...]]:
    """Option names and values as shown: lower case, ``/`` spelt `` | ``; names without contents are left out."""
    if not isinstance(raw, Mapping):
        return {}
    return {
        name.lower(): tuple(content["value"].strip().replace("/", " | ").lower() for content in contents)
        for name, contents in raw.items()
        if contents is not None
    }


def parse(item: Mapping[str, Any], index: int, rng: random.Random, extra: Mapping[str, Any] | None = None) -> Product:
    """One official item as a ``Product``; ``extra`` is its entry of ``items_ins_v2`` (attributes, instruction).

    A key ``attributes`` inside the item itself (the generated catalogue) counts when ``extra`` has none.
    Takes one draw from ``rng`` exactly when the price is a range. Raises DataError on a missing field.
    """
    extra = extra if extra is not None else item
    try:
        bullets = item["small_description"]
        pricing = parse_pricing(item.get("pricing"))
        return Product(
            index=index,
            asin=item["asin"],
            title=item["name"],
            description=item["full_description"],
            bullets=tuple(bullets) if isinstance(bullets, list | tuple) else (bullets,),
            price_tag=tag_of(pricing),
            pricing=pricing,
            price=draw_price(pricing, rng),
            options=parse_options(item.get("customization_options")),
            category=item["category"],
            query=item["query"].lower().strip(),
            product_category=item["product_category"],
            attributes=tuple(extra["attributes"]) if "attributes" in extra else NO_ATTRIBUTES,
            instruction=extra.get("instruction") or "",
            instruction_attributes=tuple(extra.get("instruction_attributes") or ()),
        )
    except KeyError as error:
        raise DataError(
            f"product {item.get('asin')!r} has no field {error.args[0]!r}; expected the official WebShop item schema"
        ) from None


def contents(product: Product) -> str:
    """The text that is indexed: title, description, first bullet and options, lower case."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    first = product.bullets[0] if product.bullets else ""
    return " ".join((product.title, product.description, first, options)).lower()
