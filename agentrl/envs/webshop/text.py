"""The visible strings of every page, and the two texts that the original makes of them.

A field is (string as it stands in the page, kind). The original strips HTML with a parser that drops empty
elements and elements of white space with a line break, and keeps other white space as one space; the same
rule is applied here to the strings themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from agentrl.envs.webshop.products import Product

Kind = Literal["", "button", "option", "link"]
Field = tuple[str, Kind]

SEPARATOR = " [SEP] "
_SPACES = str.maketrans("", "", " \n\t\f\r")
_SCRIPT_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})
_DONE_HEAD = (
    "Thank you for shopping with us!",
    "Your code:",
    "None",
    "(Paste it in your MTurk interface.)",
    "Purchased",
)
_DONE_BOUGHT = ("attrs", "None", "category", "None", "query", "None", "product category", "None")
_DONE_TARGET = ("Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category")
_DONE_GOAL = ("query", "Goal", "None", "Reward", "Your score (min 0.0, max 1.0)")


def visible(raw: str) -> str | None:
    """The string a page shows for the content of an element, None when the element shows nothing."""
    if (raw and not raw.isspace()) or raw.translate(_SPACES):
        return raw
    return " " if raw and "\n" not in raw else None


def _fields(strings: Iterable[str], kind: Kind = "") -> list[Field]:
    return [(shown, kind) for raw in strings if (shown := visible(raw)) is not None]


@lru_cache(maxsize=65_536)
def _card(asin: str, title: str, price_tag: str) -> tuple[Field, ...]:
    return ((asin, "link"), *_fields((title, price_tag)))


def results_fields(number: int, total: int, products: Sequence[Product], *, more: bool) -> list[Field]:
    """Results page: page number, buttons, then asin, title and price tag of each product."""
    fields: list[Field] = [(f"Page {number} (Total results: {total})", "")]
    if number > 1:
        fields.append(("< Prev", "button"))
    if more:
        fields.append(("Next >", "button"))
    for product in products:
        fields += _card(product.asin, product.title, product.price_tag)
    return fields


def item_fields(product: Product, *, show_attributes: bool) -> list[Field]:
    """Item page: options with their values, title, price, rating and the buttons."""
    fields: list[Field] = [("< Prev", "button")]
    for name, values in product.options.items():
        fields += _fields((name,))
        fields += _fields(values, "option")
    fields += _fields((product.title, f"Price: {product.price_tag}", "Rating: N.A."))
    names = ("Description", "Features", "Reviews", *(("Attributes",) if show_attributes else ()), "Buy Now")
    fields += _fields(names, "button")
    return fields


def sub_fields(product: Product, page: str) -> list[Field]:
    """Description, features, reviews (always empty) or attributes of a product."""
    fields: list[Field] = [("< Prev", "button")]
    if page == "description":
        fields += _fields((product.description,))
    elif page == "features":
        fields += _fields(f" {bullet}" for bullet in product.bullets)
    elif page == "attributes":
        fields += _fields(f" {attribute}" for attribute in product.attributes)
        fields += _fields((product.category, product.query, product.product_category))
    return fields


def done_fields(asin: str, options: Mapping[str, str], reward: float) -> list[Field]:
    """The page after the purchase: what was bought and the score."""
    chosen = json.dumps(options, sort_keys=True).translate(_SCRIPT_SAFE)
    strings = (*_DONE_HEAD, "asin", asin, "options", chosen, *_DONE_BOUGHT, *_DONE_TARGET, *_DONE_GOAL)
    return _fields((*strings, str(reward), "Reward Details", "None"))


def plain(fields: Iterable[Field]) -> str:
    """Mode ``text``: the stripped strings joined by `` [SEP] ``."""
    return SEPARATOR.join([raw.strip() for raw, _ in fields])


def rich(fields: Iterable[Field], address: str, seen: Sequence[str]) -> str:
    """Mode ``text_rich``: buttons in brackets; options found quoted in ``address`` and opened links are marked."""
    text = ""
    for raw, kind in fields:
        if kind == "button":
            line = f"[button] {raw} [button_]"
        elif kind == "option" and f'"{raw}"' in address:
            text = f"You have clicked {raw}.\n{text}"
            line = f"  [clicked button] {raw} [clicked button_]"
        elif kind == "option":
            line = f"  [button] {raw} [button_]"
        elif kind == "link":
            line = f"\n[clicked button] {raw} [clicked button_]" if raw in seen else f"\n[button] {raw} [button_]"
        else:
            line = raw
        text += line + "\n"
    return text
