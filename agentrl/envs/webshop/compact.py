"""The compact view of the shop: pages of 10-60 tokens that a tiny model can read.

The faithful text view needs a language model; this one shows the same session as short plain words, each
word one token of the bundled tokenizer, and each choice a single token (``item3``). Titles come before their
labels, so that a causal model can gather at a label what it has read of the title. The goal line and the pages::

    want slim red wool hat with small snug under 40
    home
    results 1 for red wool hat | bexley slim red wool hat 35 item1 | ... | velmora slim blue wool hat 20 item4 seen more
    item bexley slim red wool hat 35 | size small medium large | fit snug loose relaxed | chosen small
    done

Actions: ``search <words>`` (on the home page), ``click item1`` .. ``click item4``, ``click next``, ``click prev``,
``click back`` (from an item to the results, from the results to the home page), ``click <option value>``,
``click buy``.
Goal and page together are all a player needs: nothing earlier changes what can still be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentrl.envs.webshop.goals import NO_LIMIT, Goal
from agentrl.envs.webshop.pages import Session
from agentrl.envs.webshop.store import Shop

PAGE_SIZE = 4


@dataclass(frozen=True, slots=True)
class Want:
    """What a goal asks for: words of the title, option values, and the highest price (None: any)."""

    words: tuple[str, ...]
    values: tuple[str, ...] = ()
    limit: float | None = None

    def matched(self, title: Sequence[str]) -> int:
        """How many of the wanted words the title has."""
        return sum(word in title for word in self.words)

    def affordable(self, price: float) -> bool:
        return self.limit is None or price <= self.limit

    def fits(self, title: Sequence[str], price: float) -> bool:
        """All words in the title, and the price within the limit."""
        return self.matched(title) == len(self.words) and self.affordable(price)

    def text(self) -> str:
        """The goal line."""
        parts = ["want", *self.words]
        if self.values:
            parts += ["with", *self.values]
        if self.limit is not None:
            parts += ["under", f"{self.limit:g}"]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Row:
    """One product as listed: the words of its title, its price, and whether it was opened before."""

    words: tuple[str, ...]
    price: float
    seen: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What one compact page shows. `rows`: the listed products, or the single open one on an item page."""

    kind: str
    page: int = 1
    query: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    more: bool = False
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()

    def text(self) -> str:
        """The observation line."""
        if self.kind == "results":
            parts = ["results", str(self.page), "for", *self.query]
            for label, row in enumerate(self.rows, 1):
                parts += ["|", *row.words, f"{row.price:g}", f"item{label}", *(["seen"] if row.seen else [])]
            return " ".join([*parts, *([] if self.rows else ["| none"]), "more" if self.more else "end"])
        if self.kind == "item":
            row = self.rows[0]
            parts = ["item", *row.words, f"{row.price:g}"]
            for name, values in self.options.items():
                parts += ["|", name, *values]
            return " ".join([*parts, "| chosen", *self.chosen])
        return self.kind


def want_of(goal: Goal) -> Want:
    """The goal as the compact view words it."""
    options = goal.goal_options
    values = tuple(options.values()) if isinstance(options, Mapping) else tuple(options)
    return Want(tuple(goal.attributes), values, goal.price_upper if goal.price_upper < NO_LIMIT else None)


def goal_text(goal: Goal) -> str:
    """The goal line: `want_of(goal).text()`."""
    return want_of(goal).text()


def view_of(session: Session, shop: Shop) -> View:
    """What the compact page of a session shows. Sub-pages (no compact action opens them) count as the item page."""
    if session.page == "results":
        products = [shop.product(index) for index in session.results]
        return View(
            "results",
            session.page_number,
            session.keywords,
            tuple(Row(tuple(p.title.lower().split()), p.price, p.asin in session.seen) for p in products),
            _has_more(session),
        )
    if session.product is not None and session.page != "done":
        product = shop.product(session.product)
        row = Row(tuple(product.title.lower().split()), product.price)
        return View("item", rows=(row,), options=product.options, chosen=tuple(session.options.values()))
    return View("done" if session.page == "done" else "home")


def observe(session: Session, shop: Shop) -> str:
    """The observation line of a session."""
    return view_of(session, shop).text()


def to_action(session: Session, shop: Shop, text: str) -> str | None:
    """The faithful action that a compact one means here; None when the text is not in the grammar.

    A well-formed click on something the page does not offer comes back as a click that the session ignores.
    """
    verb, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    if verb not in ("search", "click") or not rest:
        return None
    if verb == "search":
        return f"search[{rest}]" if session.page == "index" else "click[search]"
    return f"click[{_target(session, shop, rest)}]"


def actions(session: Session, _shop: Shop) -> list[str]:
    """All compact clicks the page offers, or a search for the goal's words on the home page."""
    if session.page == "index":
        return [" ".join(["search", *want_of(session.goal).words])]
    if session.page == "results":
        pages = [*(["click next"] if _has_more(session) else []), *(["click prev"] if session.page_number > 1 else [])]
        return [*(f"click item{i + 1}" for i in range(len(session.results))), *pages, "click back"]
    if session.page == "done":
        return []
    values = [value for values in session.opened().options.values() for value in values]
    return [*(f"click {value}" for value in values), "click back", "click buy"]


def _has_more(session: Session) -> bool:
    return session.page_number * session.page_size < session.total_results


def _target(session: Session, shop: Shop, label: str) -> str:
    """The faithful button behind a compact label; ``search``, which does nothing, when the page does not offer it."""
    if session.page == "results":
        buttons = {"back": "back to search"}
        buttons |= {"next": "next >"} if _has_more(session) else {}
        buttons |= {"prev": "< prev"} if session.page_number > 1 else {}
        buttons |= {f"item{i}": shop.product(index).asin.lower() for i, index in enumerate(session.results, 1)}
        return buttons.get(label, "search")
    if session.page in ("index", "done"):
        return "search"
    values = {value: value for values in session.opened().options.values() for value in values}
    return (values | {"back": "< prev", "buy": "buy now"}).get(label, "search")
