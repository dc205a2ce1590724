"""The words of the bundled shop: what its products are made of, each word with one role.

Kept apart from the catalogue because two others need them: the compact view's tokenizer (every word
is one token) and the pre-training text of the tiny model, which may use the words but never a
combination that the shop could sell (`grammatical`).

No word contains another one, no two share a stem or are close in spelling, so that the exact WebShop
reward (substrings, fuzzy matching, colour normalisation) decides as a person would.
"""

from __future__ import annotations

from collections.abc import Sequence

BRANDS = [
    "arvello",
    "bexley",
    "corvane",
    "dunmore",
    "elvara",
    "fennick",
    "galvero",
    "hartwin",
    "ivolen",
    "jorvik",
    "kestara",
    "lumeno",
    "marvick",
    "norwell",
    "oskeda",
    "pellaro",
    "quintal",
    "rivonne",
    "solmir",
    "tavrick",
    "umbriz",
    "velmora",
    "wexford",
    "zantria",
]
STYLES = [
    "slim",
    "rustic",
    "classic",
    "modern",
    "vintage",
    "folding",
    "quilted",
    "striped",
    "padded",
    "portable",
    "sturdy",
    "compact",
    "ribbed",
    "seamless",
    "curved",
    "hooded",
]
MATERIALS = [
    "wool",
    "cotton",
    "leather",
    "linen",
    "bamboo",
    "steel",
    "copper",
    "ceramic",
    "rubber",
    "silk",
    "velvet",
    "walnut",
    "marble",
    "canvas",
    "denim",
    "nylon",
]
COLOURS = [
    "red",
    "blue",
    "green",
    "black",
    "white",
    "yellow",
    "purple",
    "orange",
    "pink",
    "brown",
    "gray",
    "navy",
    "teal",
    "ivory",
    "crimson",
    "beige",
]

DEPARTMENTS: dict[str, tuple[str, list[str]]] = {
    "clothing": (
        "Clothing",
        [
            "hat",
            "scarf",
            "jacket",
            "glove",
            "sock",
            "belt",
            "wallet",
            "backpack",
            "sandal",
            "slipper",
            "apron",
            "helmet",
        ],
    ),
    "home": (
        "Home",
        [
            "pillow",
            "blanket",
            "curtain",
            "lamp",
            "mirror",
            "rug",
            "vase",
            "basket",
            "stool",
            "bench",
            "shelf",
            "desk",
            "clock",
            "candle",
        ],
    ),
    "kitchen": (
        "Kitchen",
        ["mug", "bowl", "plate", "kettle", "teapot", "skillet", "spoon", "tray", "towel", "bottle", "jug", "ladle"],
    ),
    "outdoor": (
        "Outdoor",
        ["lantern", "tent", "cushion", "hammock", "umbrella", "notebook", "pencil", "speaker", "charger", "tripod"],
    ),
}
NOUNS = [noun for _, nouns in DEPARTMENTS.values() for noun in nouns]

OPTIONS: dict[str, dict[str, list[str]]] = {
    "clothing": {"size": ["small", "medium", "large"], "fit": ["snug", "loose", "relaxed"]},
    "home": {"size": ["small", "medium", "large"], "finish": ["matte", "glossy", "brushed"]},
    "kitchen": {"capacity": ["half", "single", "double"], "handle": ["short", "long", "looped"]},
    "outdoor": {"length": ["short", "long", "extended"], "pack": ["solo", "pair", "trio"]},
}
OPTION_NAMES = sorted({name for options in OPTIONS.values() for name in options})
OPTION_VALUES = sorted({v for options in OPTIONS.values() for values in options.values() for v in values})

PRICES = tuple(range(10, 100, 5))
ROLES = {"brand": BRANDS, "style": STYLES, "material": MATERIALS, "colour": COLOURS, "noun": NOUNS}
ROLE_OF = {word: role for role, words in ROLES.items() for word in words}
TITLE_WORDS = sorted(ROLE_OF)


def grammatical(words: Sequence[str]) -> bool:
    """Could the bundled shop sell or be asked for this: one noun, and at most one word of each other role?"""
    roles = [ROLE_OF.get(word) for word in words]
    return None not in roles and roles.count("noun") == 1 and len(set(roles)) == len(roles)
