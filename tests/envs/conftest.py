"""A shop of six products that fits on a page of paper, and the folder of official files where there is one."""

from pathlib import Path
from typing import Any

import pytest

from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.store import Shop

WEBSHOP = Path(__file__).parents[2].parent / "shared" / "data" / "webshop"


def item(asin: str, name: str, **more: Any) -> dict[str, Any]:
    """An official-schema product; ``options`` as {name: [values]}."""
    options = more.pop("options", {})
    return {
        "asin": asin,
        "name": name,
        "full_description": "",
        "small_description": [],
        "pricing": "$10.00",
        "images": [],
        "product_category": "Home \u203a Things",
        "average_rating": "",
        "customization_options": {key: [{"value": value} for value in values] for key, values in options.items()},
        "category": "garden",
        "query": "things",
        "page": 1,
        "attributes": [],
    } | more


ITEMS = [
    item(
        "B000000001",
        "Red Wool Hat",
        full_description="A warm hat.",
        small_description=["soft wool", ""],
        pricing="$19.99",
        options={"Size": ["Small", "Large"], "Color": ["Dark Red", "navy/blue"]},
        attributes=["hand made", "machine wash"],
        category="fashion",
        query="hats ",
        product_category="Clothing \u203a Hats \u203a Wool",
        instruction="Find me a warm hat",
        instruction_attributes=["hand made"],
    ),
    item("B000000002", "Blue Wool Hat", category="fashion", query="hats", pricing="$5.00 - $9.00", attributes=["warm"]),
    item("B000000003", "Green Cotton Scarf", category="fashion", query="scarves", pricing="", attributes=["soft"]),
    item("B000000004", "Steel Lamp & Shade", full_description="<b>bright</b>", small_description="one bullet"),
    item("B000000005", "Wool wool wool", options={"a": ["x", "y"], "b": ["y", "z"]}),
    item("B000000006", "Wooden Table", small_description=["oak", " \n", " "]),
    item("B000000006", "A product twice"),
    item("nan", "No product"),
    item("B00000000TOOLONG", "No product either"),
]


@pytest.fixture
def items() -> list[dict[str, Any]]:
    return ITEMS


@pytest.fixture(scope="session")
def shop() -> Shop:
    return Shop.from_products(ITEMS, name="six")


@pytest.fixture
def goal() -> Goal:
    return Goal(
        asin="B000000001",
        category="fashion",
        query="hats",
        name="Red Wool Hat",
        product_category="Clothing \u203a Hats \u203a Wool",
        instruction_text="i want a hat",
        attributes=("hand made", "warm"),
        price_upper=20.0,
        goal_options={"size": "large", "color": "dark red"},
    )


@pytest.fixture(scope="session")
def official() -> Path:
    """The folder of official files; the test is skipped without it."""
    if not WEBSHOP.is_dir():
        pytest.skip(f"shared data not found: {WEBSHOP.name}/ beside the repository")
    return WEBSHOP
