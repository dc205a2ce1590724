"""One read-only shop that serves every episode: products, prices, the search index and the noun table.

``Shop.load`` reads the official files, ``Shop.from_products`` takes official-schema dicts (the generated
catalogue), ``Shop.open`` memory-maps a folder that ``disk.build`` wrote for millions of products. All three
answer the same questions; nothing in a shop changes after it is built, except bounded caches.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agentrl.envs.webshop import disk, search
from agentrl.envs.webshop.analyzer import analyze
from agentrl.envs.webshop.nouns import Nouns, RuleNouns
from agentrl.envs.webshop.official import read_official
from agentrl.envs.webshop.products import Product, contents, keep, parse
from agentrl.watchdog import patience

READING_S = 3600.0  # in which a corpus of real size must be read or indexed

__all__ = ["Product", "Shop"]

CACHED_SEARCHES = 8_192


class Products(Protocol):
    """A sequence of products that can be asked for a category or query."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Product: ...

    def __iter__(self) -> Iterator[Product]: ...

    def where(self, field: str, value: str) -> tuple[int, ...]: ...


class ProductList(list[Product]):
    """Products in memory."""

    def where(self, field: str, value: str) -> tuple[int, ...]:
        """Indices of the products whose ``field`` ('category' or 'query') is ``value``."""
        return tuple(product.index for product in self if getattr(product, field) == value)


class Shop:
    """Products 0..n-1 and the questions a session asks about them.

    ``name`` says what is sold (for fingerprints); ``nouns`` the noun table of the reward; ``human``
    {asin: human instruction records}; ``rng`` the generator after the price draws (goals go on drawing from it).
    """

    def __init__(
        self,
        name: str,
        products: Products,
        index: search.Index,
        numbers: Mapping[str, int],
        *,
        nouns: Nouns | None = None,
        human: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.products = products
        self.index = index
        self.nouns: Nouns = nouns or RuleNouns()
        self.human = human or {}
        self._draws = (rng or random.Random(0)).getstate()
        self._numbers = numbers
        self._cached = lru_cache(maxsize=CACHED_SEARCHES)(self._search)

    @classmethod
    def from_products(
        cls,
        items: Iterable[Mapping[str, Any]],
        *,
        name: str = "products",
        seed: int = 0,
        extras: Mapping[str, Mapping[str, Any]] | None = None,
        nouns: Nouns | None = None,
        human: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> Shop:
        """A shop in memory from official-schema dicts; ``seed`` draws the range prices, in product order.

        ``extras``: entries of ``items_ins_v2`` by asin; without it, the items' own ``attributes`` count.
        """
        rng = random.Random(seed)
        products = ProductList(
            parse(item, index, rng, None if extras is None else extras.get(item["asin"], {}))
            for index, item in enumerate(keep(items))
        )
        asins = [product.asin for product in products]
        index = search.build((analyze(contents(product)) for product in products), asins)
        numbers = {asin: i for i, asin in enumerate(asins)}
        return cls(name, products, index, numbers, nouns=nouns, human=human, rng=rng)

    @classmethod
    @patience("environment", "reading the products", READING_S)
    def load(cls, folder: Path, *, seed: int = 0, nouns: Nouns | None = None) -> Shop:
        """The official files of ``folder`` in memory (for up to some 100,000 products). Raises DataError."""
        official = read_official(folder)
        return cls.from_products(
            official.items,
            name=official.name,
            seed=seed,
            extras=official.extras,
            nouns=nouns,
            human=official.human,
        )

    @classmethod
    @patience("environment", "opening the products", READING_S)
    def open(cls, folder: Path, *, nouns: Nouns | None = None) -> Shop:
        """A folder written by ``disk.build``, memory-mapped. Raises DataError when it is damaged or too old."""
        parts = disk.open_folder(folder)
        return cls(
            parts.name, parts.products, parts.index, parts.numbers, nouns=nouns, human=parts.human, rng=parts.rng
        )

    def __len__(self) -> int:
        return len(self.products)

    def rng(self) -> random.Random:
        """A generator that stands where the price draws ended: every caller gets the same goals."""
        rng = random.Random()
        rng.setstate(self._draws)
        return rng

    def product(self, index: int) -> Product:
        """The product at ``index``. Raises IndexError outside 0..n-1."""
        return self.products[index]

    def index_of(self, asin: str) -> int:
        """The index of an asin (upper case). Raises KeyError when the shop does not sell it."""
        return self._numbers[asin]

    def with_human_goals(self) -> list[Product]:
        """The products that human shoppers wrote instructions for, in product order."""
        return [self.product(i) for i in sorted(self._numbers[asin] for asin in self.human if asin in self._numbers)]

    def search(self, words: str, k: int = 50) -> tuple[int, ...]:
        """Indices of the ``k`` best products for the words, best first (cached)."""
        hits: list[int] = np.frombuffer(self._cached(words, k), dtype=np.int32).tolist()
        return tuple(hits)

    def searched(self) -> int:
        """How many searches were computed, not answered from the cache."""
        return self._cached.cache_info().misses

    def _search(self, words: str, k: int) -> bytes:
        return np.array([doc for doc, _ in self.index.search(words, k)], dtype=np.int32).tobytes()

    def with_category(self, category: str) -> tuple[int, ...]:
        """All products of a category, in product order."""
        return self.products.where("category", category)

    def with_query(self, query: str) -> tuple[int, ...]:
        """All products of a query (the phrase that found them when the data were collected), in product order."""
        return self.products.where("query", query)
