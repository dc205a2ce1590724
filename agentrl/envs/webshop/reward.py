"""What a purchase is worth: the original's reward with all its parts.

    r = r_type * (attributes met + options met + price met) / (attributes + options + 1)

Texts are compared by ``token_set_ratio`` above 85 (after thefuzz's clean-up: ASCII letters and digits,
lower case), options after colour normalisation (the first listed colour word contained in a text replaces
all of it: ``dark blue`` becomes ``blue``).

``compat=True`` keeps two quirks of the original. Goal options given as a mapping are compared as (name, value)
pairs: a colour word replaces a pair only when it equals its name or value, and the pair's text form
(``('size', 'x')``) is matched otherwise. And a price limit of zero or less is an error there; here it
raises EnvError in both modes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz

from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.nouns import Nouns
from agentrl.envs.webshop.products import Product
from agentrl.errors import EnvError

MATCH = 85
_COLOUR_WORDS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel "
    "camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry "
    "cream crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey "
    "heather indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight "
    "mint mocha multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow "
    "red rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal "
    "tiger turquoise violet walnut wheat white wine yellow"
)
COLOURS = tuple(_COLOUR_WORDS.split())
_NOT_WORD = re.compile(r"\W")


@dataclass(frozen=True, slots=True)
class Score:
    """``reward`` in [0, 1] and its named parts (those of the original's verbose mode)."""

    reward: float
    parts: Mapping[str, float | bool]


@lru_cache(maxsize=16_384)
def _cleaned(text: str) -> str:
    return _NOT_WORD.sub(" ", text.encode("ascii", "ignore").decode()).lower().strip()


@lru_cache(maxsize=32_768)
def similar(a: str, b: str) -> bool:
    """Whether two texts share enough words (token set ratio, rounded, above 85)."""
    return round(fuzz.token_set_ratio(_cleaned(a), _cleaned(b))) > MATCH


@lru_cache(maxsize=16_384)
def normal_colour(text: str) -> str:
    """The first listed colour word contained in ``text``, else ``text``."""
    return next((colour for colour in COLOURS if colour in text), text)


@lru_cache(maxsize=16_384)
def _normal_pair(name: str, value: str) -> str:
    return next((colour for colour in COLOURS if colour in (name, value)), str((name, value)))


def _wanted_options(goal: Goal, *, compat: bool) -> list[str]:
    options = goal.goal_options
    if not isinstance(options, Mapping):
        return [normal_colour(value) for value in options]
    if compat:
        return [_normal_pair(name, value) for name, value in options.items()]
    return [normal_colour(value) for value in options.values()]


@lru_cache(maxsize=16_384)
def _categories(path: str) -> frozenset[str]:
    return frozenset(part.strip() for part in path.split("\u203a"))


def type_parts(goal: Goal, product: Product, nouns: Nouns) -> dict[str, float | bool]:
    """Is it the kind of product that was asked for? ``r_type`` in {0, .1, .5, 1} and what it follows from."""
    query_match = product.query == goal.query
    category_match = len(_categories(product.product_category) & _categories(goal.product_category)) >= 2
    wanted = nouns(goal.asin, goal.name)
    common = set(nouns(product.asin, product.title)) & set(wanted)
    title_score = len(common) / len(wanted) if wanted else 0.2
    r_type = 1.0 if query_match or category_match or title_score > 0.2 else 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0.0:
        r_type = 0.0
    return {
        "r_type": r_type,
        "query_match": query_match,
        "category_match": category_match,
        "title_score": title_score,
    }


def attributes_met(goal: Goal, product: Product) -> int:
    """How many goal attributes the product has: similar to one of its own, or named in its texts."""
    texts: tuple[str, ...] | None = None
    met = 0
    for wanted in goal.attributes:
        if any(similar(attribute, wanted) for attribute in product.attributes):
            met += 1
            continue
        if texts is None:
            texts = (product.title.lower(), " ".join(product.bullets).lower(), product.description.lower())
        met += any(wanted in text for text in texts)
    return met


def score(
    goal: Goal,
    product: Product,
    options: Mapping[str, str],
    nouns: Nouns,
    *,
    compat: bool = True,
    price: float | None = None,
) -> Score:
    """Score the purchase of ``product`` with the chosen ``options`` {name: value}.

    ``price`` (dollars) defaults to the product's. Raises EnvError for a goal without attributes and options
    to divide by, or with a price limit that is not positive.
    """
    if goal.price_upper <= 0:
        raise EnvError(
            f"goal for {goal.asin} has price_upper {goal.price_upper}; expected a positive number of dollars"
        )
    if not goal.attributes:
        raise EnvError(f"goal for {goal.asin} names no attributes; expected at least one")
    kind = type_parts(goal, product, nouns)
    wanted = _wanted_options(goal, compat=compat)
    chosen = [normal_colour(value) for value in options.values()]
    options_met = sum(any(similar(value, option) for value in chosen) for option in wanted)
    met = attributes_met(goal, product)
    price_met = (product.price if price is None else price) <= goal.price_upper
    total = len(goal.attributes) + len(wanted) + 1
    parts: dict[str, float | bool] = {
        "r_type": kind["r_type"],
        "r_att": met / len(goal.attributes),
        "w_att": len(goal.attributes) / total,
        "query_match": kind["query_match"],
        "category_match": kind["category_match"],
        "title_score": kind["title_score"],
    }
    if wanted:
        parts["r_option"] = options_met / len(wanted)
        parts["w_option"] = len(wanted) / total
    parts["r_price"] = price_met
    parts["w_price"] = 1 / total
    return Score(kind["r_type"] * ((met + options_met + price_met) / total), parts)
