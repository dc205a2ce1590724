"""The shop as a page machine: what a shopper sees, may click, and what each action does.

No HTML: the visible strings of every page follow from the record of the session, so a step costs
microseconds. ``Session`` plays one goal; ``State`` is its frozen, picklable copy.

``compat=True`` is the original, quirks included; ``compat=False`` mends these:

* ``search[...]`` is accepted on every page, also where there is no search bar (off: index page only);
* ``next >`` is offered and followed past the last page, where pages are empty (off: only while more results exist);
* the page kind behind ``< prev`` is guessed from the address, so keywords such as ``item_page`` confuse it
  (off: the page itself decides);
* goal options given as a mapping are matched as (name, value) pairs (see ``reward``; off: values only).

The original's treatment of a NumPy integer as "draw a random goal" has no counterpart: a task names its goal.
``search[<r>]`` draws its 50 products again at every change of page, from a generator seeded by goal and count.
``search[<a> ...]``, which raises in the original, is an invalid action here: nothing happens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.reward import Score, score
from agentrl.envs.webshop.store import Product, Shop
from agentrl.envs.webshop.text import Field, done_fields, item_fields, plain, results_fields, rich, sub_fields

Page = Literal["index", "results", "item", "description", "features", "reviews", "attributes", "done"]
SUB_PAGES: tuple[Page, ...] = ("description", "features", "reviews", "attributes")
HITS = 50


def parse_action(action: str) -> tuple[str, str] | None:
    """(name, lower-cased argument) of ``name[argument]``, matched greedily from the start; None without a match.

    As the original's ``(.+)\\[(.+)\\]`` would, in time linear in a text that no longer is an action.
    """
    line = action.partition("\n")[0]
    end = line.rfind("]")
    begin = line.rfind("[", 1, max(end - 1, 1))
    return (line[:begin], line[begin + 1 : end].lower()) if begin > 0 else None


@dataclass(frozen=True, slots=True)
class State:
    """Everything that changes during a session; equal states continue equally."""

    page: Page = "index"
    keywords: tuple[str, ...] = ()
    page_number: int = 1
    results: tuple[int, ...] = ()
    total_results: int = 0
    product: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    seen: tuple[str, ...] = ()
    searches: int = 0
    outcome: Score | None = None


class Session:
    """One shopper with one goal.

    ``page`` kind of page; ``keywords`` of the last search; ``page_number`` from 1; ``results`` product indices
    of the current results page; ``total_results`` (at most 50 for a word search); ``product`` index of the open
    product or None; ``options`` {option name: chosen value}; ``seen`` asins opened so far, in order of first opening;
    ``outcome`` the score of the purchase, None before. ``page_size``: products per results page (10 in the original).
    """

    __slots__ = (
        "compat",
        "goal",
        "keywords",
        "options",
        "outcome",
        "page",
        "page_number",
        "page_size",
        "product",
        "results",
        "searches",
        "seen",
        "shop",
        "show_attributes",
        "total_results",
    )

    def __init__(
        self, shop: Shop, goal: Goal, *, page_size: int = 10, compat: bool = True, show_attributes: bool = False
    ) -> None:
        self.shop = shop
        self.goal = goal
        self.page_size = page_size
        self.compat = compat
        self.show_attributes = show_attributes
        self.restore(State())

    def snapshot(self) -> State:
        """The state as a frozen record (the goal and the shop are not part of it)."""
        return State(
            page=self.page,
            keywords=self.keywords,
            page_number=self.page_number,
            results=self.results,
            total_results=self.total_results,
            product=self.product,
            options=tuple(self.options.items()),
            seen=self.seen,
            searches=self.searches,
            outcome=self.outcome,
        )

    def restore(self, state: State) -> None:
        """Continue from ``state``."""
        self.page: Page = state.page
        self.keywords = state.keywords
        self.page_number = state.page_number
        self.results = state.results
        self.total_results = state.total_results
        self.product = state.product
        self.options: dict[str, str] = dict(state.options)
        self.seen = state.seen
        self.searches = state.searches
        self.outcome = state.outcome

    @property
    def has_search_bar(self) -> bool:
        """Whether the page shows the search box."""
        return self.page == "index"

    def opened(self) -> Product:
        """The open product. Raises ValueError on pages without one."""
        if self.product is None:
            raise ValueError(f"no product is open on page {self.page!r}")
        return self.shop.product(self.product)

    # -- actions ---------------------------------------------------------------------------------------------

    def clickables(self) -> tuple[str, ...]:
        """What can be clicked, in page order. ``search`` (the button of the index page) does nothing."""
        if self.page == "index":
            return ("search",)
        if self.page == "done":
            return ()
        if self.page == "results":
            buttons = ["back to search"]
            if self.page_number > 1:
                buttons.append("< prev")
            if self.compat or self.page_number * self.page_size < self.total_results:
                buttons.append("next >")
            return tuple(dict.fromkeys(buttons + [self.shop.product(i).asin.lower() for i in self.results]))
        if self.page != "item":
            return ("back to search", "< prev")
        buttons = ["back to search", "< prev", "description", "features", "reviews"]
        buttons += ["attributes", "buy now"] if self.show_attributes else ["buy now"]
        return tuple(dict.fromkeys(buttons + [v for values in self.opened().options.values() for v in values]))

    def valid(self, action: str) -> bool:
        """Whether ``step(action)`` would do something."""
        parsed = parse_action(action)
        if parsed is None:
            return False
        name, argument = parsed
        if name == "search":
            special = argument.split(" ")
            return (self.compat or self.has_search_bar) and special[0] != "<a>" and special != ["<c>"]
        return name == "click" and argument != "search" and argument in self.clickables()

    def step(self, action: str) -> tuple[float, bool]:
        """Play ``search[words]`` or ``click[label]``; anything else changes nothing. Returns (reward, done)."""
        if not self.valid(action):
            return 0.0, False
        parsed = parse_action(action)
        assert parsed is not None
        name, argument = parsed
        if name == "search":
            self._show_results(tuple(argument.split(" ")), 1)
            return 0.0, False
        return self._click(argument)

    def _click(self, label: str) -> tuple[float, bool]:
        if label == "buy now":
            return self._buy(), True
        if label == "back to search":
            self.restore(State(searches=self.searches))
        elif label in ("next >", "< prev"):
            self._turn(1 if label == "next >" else -1)
        elif label in SUB_PAGES:
            self.page = label
        elif self.page == "results":
            self._open(label.upper())
        else:
            self._choose(label)
        return 0.0, False

    def _turn(self, by: int) -> None:
        kind = self._address_kind() if self.compat else self.page
        if kind == "results":
            self._show_results(self.keywords, self.page_number + by)
        elif kind == "item":
            self._show_results(self.keywords, self.page_number)
        else:
            self.page = "item"

    def _address_kind(self) -> Page:
        """The kind of page that the original reads off its address: the first known name found anywhere in it."""
        words = "+".join(self.keywords)
        name = {"results": "search_results", "item": "item_page"}.get(self.page, "item_sub_page")
        chosen = json.dumps(self.options) if self.page == "item" else str(self.options)
        address = f"{name}/{words}/{'' if self.page == 'results' else chosen}"
        if "search_results" in address:
            return "results"
        return "item" if "item_page" in address else "description"

    def _show_results(self, keywords: tuple[str, ...], number: int) -> None:
        hits = self._find(keywords)
        self.page = "results"
        self.keywords = keywords
        self.page_number = number
        self.total_results = len(hits)
        self.results = hits[(number - 1) * self.page_size : number * self.page_size]
        self.product = None
        self.options = {}

    def _find(self, keywords: tuple[str, ...]) -> tuple[int, ...]:
        """Product indices that answer the keywords, best first (``<r>``, ``<c>``, ``<q>``: special searches)."""
        first = keywords[0]
        self.searches += 1
        if first == "<r>":
            rng = random.Random(f"{self.goal.instruction_text} {self.searches}")
            return tuple(rng.sample(range(len(self.shop)), min(HITS, len(self.shop))))
        if first == "<c>":
            return self.shop.with_category(keywords[1].strip())
        if first == "<q>":
            return self.shop.with_query(" ".join(keywords[1:]).strip())
        return self.shop.search(" ".join(keywords), HITS)

    def _open(self, asin: str) -> None:
        self.product = self.shop.index_of(asin)
        self.seen = self.seen if asin in self.seen else (*self.seen, asin)
        self.page = "item"

    def _choose(self, value: str) -> None:
        """Pick an option value. Under two option names, the last name takes it (as in the original)."""
        for name, values in self.opened().options.items():
            if value in values:
                chosen = name
        self.options[chosen] = value

    def _buy(self) -> float:
        self.outcome = score(self.goal, self.opened(), self.options, self.shop.nouns, compat=self.compat)
        self.page = "done"
        return self.outcome.reward

    # -- what the shopper sees ---------------------------------------------------------------------------------

    def text(self) -> str:
        """The page as the original's ``text`` observation: visible strings joined by `` [SEP] ``."""
        return plain(self._fields())

    def text_rich(self) -> str:
        """The page as the original's ``text_rich`` observation: buttons marked, one string per line."""
        return rich(self._fields(), self._address(), self.seen)

    def _address(self) -> str:
        """The part of the original's address that decides which options look clicked."""
        return "+".join(self.keywords) + "/" + json.dumps(self.options) if self.page == "item" else ""

    def _fields(self) -> list[Field]:
        instruction = self.goal.instruction_text
        if self.page == "index":
            return [("WebShop", ""), ("Instruction:", ""), (instruction, ""), ("Search", "button")]
        if self.page == "done":
            reward = self.outcome.reward if self.outcome else 0.0
            return done_fields(self.opened().asin, self.options, reward)
        head: list[Field] = [("Instruction:", ""), (instruction, ""), ("Back to Search", "button")]
        if self.page == "results":
            more = "next >" in self.clickables()
            products = [self.shop.product(i) for i in self.results]
            return head + results_fields(self.page_number, self.total_results, products, more=more)
        if self.page == "item":
            return head + item_fields(self.opened(), show_attributes=self.show_attributes)
        return head + sub_fields(self.opened(), self.page)


def describe(session: Session) -> Mapping[str, Any]:
    """The state as plain JSON-able values (for logs and golden comparisons)."""
    return {
        "page": session.page,
        "asin": None if session.product is None else session.opened().asin,
        "options": dict(session.options),
        "clickables": list(session.clickables()),
        "has_search_bar": session.has_search_bar,
    }
