"""Fabricated text on which the tiny base model is pre-trained: reading tasks, and turns in shops that do not exist.

In these shops the roles of words are random too ("red kettle wool arvello stool"): a title or a wish that the
bundled shop could hold is never drawn (`words.grammatical`), so no product and no goal of any panel can occur in
them. The copy and look-up lines draw single words at random from all words; by chance two or three may stand
together that an easy goal also names. What the model can learn is to copy, look up, compare and match words,
and the manners of hasty shoppers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tiny_tokenizer import KITCHEN, SQL, TOOLS

from agentrl.envs.webshop.compact import PAGE_SIZE, Row, View, Want
from agentrl.envs.webshop.shopper import decide
from agentrl.envs.webshop.words import OPTION_NAMES, OPTION_VALUES, PRICES, TITLE_WORDS, grammatical

OTHER_WORDS = sorted({*SQL, *KITCHEN, *TOOLS} - {*TITLE_WORDS, *OPTION_NAMES, *OPTION_VALUES})
ANY_WORDS = sorted({*OTHER_WORDS, *TITLE_WORDS, *OPTION_NAMES, *OPTION_VALUES})


@dataclass(frozen=True, slots=True)
class Sample:
    """One training text: what is shown, and the answer that follows ``<act>``."""

    prompt: str
    answer: str

    def text(self) -> str:
        return f"{self.prompt}\n<act>{self.answer}<end>"


@dataclass(frozen=True, slots=True)
class Mix:
    """What to draw: share of shop turns, rows per results page, and the noise grades of the shoppers."""

    shop: float
    rows: int
    noises: tuple[float, ...]


def draw(mix: Mix, rng: random.Random) -> Sample:
    """One sample of the mix."""
    if rng.random() < mix.shop:
        want, view = situation(rng, mix.rows)
        return Sample(f"{want.text()}\n{view.text()}", decide(want, view, rng.choice(mix.noises), rng))
    return rng.choice((_copy, _lookup, _compare, _which, _read))(rng)


def situation(rng: random.Random, rows: int = PAGE_SIZE) -> tuple[Want, View]:
    """A random goal and a random page of a random shop, up to `rows` products long."""
    title = _title(rng)
    size = min(rng.choice((2, 3, 3, 4, 4, 5)), len(title))
    words = tuple(title[i] for i in sorted(rng.sample(range(len(title)), size)))
    options = _options(rng)
    values = tuple(rng.choice(v) for v in options.values() if rng.random() < 0.75)
    limit = rng.randrange(20, 101, 10) if rng.random() < 0.35 else None
    want = Want(words, values, limit)
    if grammatical(words):
        return situation(rng, rows)
    kind = rng.choices(("home", "results", "item"), (0.15, 0.5, 0.35))[0]
    if kind == "results":
        return want, _results(want, title, rows, rng)
    if kind == "item":
        return want, _item(want, title, options, rng)
    return want, View("home")


def _title(rng: random.Random) -> list[str]:
    """Four to six words, never a title that the bundled shop could hold."""
    while True:
        title = rng.sample(TITLE_WORDS, rng.choice((4, 5, 5, 5, 6)))
        if not grammatical(title):
            return title


def _like(title: list[str], want: Want, missing: int, rng: random.Random) -> tuple[str, ...]:
    """A title near `title` that lacks `missing` of the wanted words, and perhaps differs elsewhere."""
    while True:
        drop = set(rng.sample(want.words, min(missing, len(want.words))))
        drop |= {word for word in title if word not in want.words and rng.random() < 0.5}
        fresh = rng.sample([word for word in TITLE_WORDS if word not in title], len(drop))
        made = [fresh.pop() if word in drop else word for word in title]
        if rng.random() < 0.1:
            rng.shuffle(made)
        if not grammatical(made):
            return tuple(made)


def _results(want: Want, title: list[str], limit: int, rng: random.Random) -> View:
    count = limit if rng.random() < 0.85 else rng.randint(1, limit)
    missing = [rng.choices((1, 2, 3, 9), (0.6, 0.2, 0.1, 0.1))[0] for _ in range(count)]
    if rng.random() < 0.7:
        missing[rng.randrange(count)] = 0
    if rng.random() < 0.15:
        missing[rng.randrange(count)] = 0
    rows = tuple(Row(_like(title, want, m, rng), rng.choice(PRICES), rng.random() < 0.12) for m in missing)
    keep = len(want.words) if rng.random() < 0.65 else rng.randint(1, len(want.words))
    query = tuple(want.words[i] for i in sorted(rng.sample(range(len(want.words)), keep)))
    return View("results", rng.choice((1, 1, 1, 2, 2, 3, 4)), query, rows, rng.random() < 0.9)


def _options(rng: random.Random) -> dict[str, list[str]]:
    names = rng.sample(OPTION_NAMES if rng.random() < 0.5 else OTHER_WORDS, rng.choice((0, 1, 2, 2)))
    pool = OPTION_VALUES if rng.random() < 0.5 else OTHER_WORDS
    values = rng.sample([word for word in pool if word not in names], 3 * len(names))
    return {name: values[3 * i : 3 * i + 3] for i, name in enumerate(names)}


def _item(want: Want, title: list[str], options: dict[str, list[str]], rng: random.Random) -> View:
    fits = rng.random() < 0.75
    words = _like(title, want, 0 if fits else rng.choice((1, 1, 2, 9)), rng)
    price = rng.choice([p for p in PRICES if want.affordable(p)] if fits else PRICES)
    chosen = []
    for values in options.values():
        asked = [value for value in values if value in want.values]
        if rng.random() < 0.5:
            chosen.append(asked[0] if asked and rng.random() < 0.85 else rng.choice(values))
    return View("item", rows=(Row(words, price),), options=options, chosen=tuple(chosen))


def _copy(rng: random.Random) -> Sample:
    words = rng.sample(ANY_WORDS, rng.randint(1, 6))
    return Sample("copy " + " ".join(words), "copy " + " ".join(words))


def _lookup(rng: random.Random) -> Sample:
    words = rng.sample(ANY_WORDS, 2 * rng.randint(2, 6))
    key = rng.randrange(0, len(words), 2)
    pairs = " | ".join(f"{words[i]} is {words[i + 1]}" for i in range(0, len(words), 2))
    return Sample(f"get {words[key]}\npair {pairs}", f"is {words[key + 1]}")


def _compare(rng: random.Random) -> Sample:
    a, b = rng.sample(range(101), 2)
    order = rng.choice(("less", "same"))
    if order == "same":
        b = a if rng.random() < 0.5 else b
        return Sample(f"same {a} {b}", "yes" if a == b else "no")
    return Sample(f"less {a} {b}", f"less {min(a, b)}")


def _page(rng: random.Random, least: int = 1) -> View:
    """A results page of a fabricated shop with at least so many products."""
    while True:
        _, view = situation(rng)
        if view.kind == "results" and len(view.rows) >= least:
            return view


def _which(rng: random.Random) -> Sample:
    """Which item has this word? A page of a fabricated shop, read for one word."""
    view = _page(rng, least=2)
    row = rng.randrange(len(view.rows))
    word = rng.choice(view.rows[row].words)
    first = next(i for i, r in enumerate(view.rows, 1) if word in r.words)
    return Sample(f"find {word}\n{view.text()}", f"get item{first}")


def _read(rng: random.Random) -> Sample:
    """Read the words (or the price) at one label back."""
    view = _page(rng)
    row = rng.randrange(len(view.rows))
    if rng.random() < 0.3:
        return Sample(f"price item{row + 1}\n{view.text()}", f"price {view.rows[row].price:g}")
    return Sample(f"line item{row + 1}\n{view.text()}", "line " + " ".join(view.rows[row].words))
