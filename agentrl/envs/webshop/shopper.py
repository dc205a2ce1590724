"""A goal-directed shopper with a noise dial, and the scripted players that bound what a policy can reach.

``decide`` is a pure function from what the compact view shows to a compact action, so the same shopper
makes demonstrations in the environment and the fabricated shop turns on which the tiny base is pre-trained.
At every turn, with probability ``noise``, the shopper errs as a hasty person would: it drops words from the
query, opens a random item, pages on or goes back for no reason, picks a random option, buys too early.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from agentrl.envs.base import Episode
from agentrl.envs.webshop.compact import View, Want, to_action, view_of, want_of
from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.pages import Session
from agentrl.envs.webshop.store import Shop
from agentrl.errors import EnvError
from agentrl.types import Message

LAST_PAGE = 4  # a careful shopper looks this far before it takes the best it has seen
Player = Callable[[Want, View, random.Random], str]


class Shopping(Protocol):
    """The environment whose episodes a shopper plays."""

    @property
    def view_name(self) -> str: ...

    @property
    def goal_kind(self) -> str: ...


class Shopper:
    """Plays episodes of `env`: the compact action in the compact view, the faithful one in the text views.

    With generated goals it reads the titles; with official ones, whose attributes stand in no title, it
    searches the instruction's words and looks for the goal's own product name. Draws from its own generator, so equal
    (noise, seed) and equal order of calls give equal play.
    """

    def __init__(self, env: Shopping, noise: float, seed: int) -> None:
        if not 0.0 <= noise <= 1.0:
            raise EnvError(f"expert noise is {noise}; expected a number from 0 (careful) to 1")
        self._compact = env.view_name == "compact"
        self._titles = env.goal_kind == "bundled"
        self._noise = noise
        self._rng = random.Random(f"shopper/{seed}")

    def __call__(self, episode: Episode) -> Message:
        session: Session = getattr(episode, "session")  # noqa: B009
        shop: Shop = session.shop
        want = want_of(session.goal) if self._titles else _official_want(session.goal, session.page == "index")
        text = decide(want, view_of(session, shop), self._noise, self._rng)
        if self._compact:
            return Message("assistant", text)
        return Message("assistant", to_action(session, shop, text) or text)


def _official_want(goal: Goal, searching: bool) -> Want:
    """The instruction's words while searching; the wanted product's own name while reading titles."""
    asked = goal.instruction_text.split(", and price lower")[0].lower()
    words = asked.split() if searching else goal.name.lower().split()
    return replace(want_of(goal), words=tuple(dict.fromkeys(words)))


def decide(want: Want, view: View, noise: float, rng: random.Random) -> str:
    """The next compact action of a shopper who wants `want` and sees `view`; errs with probability `noise`."""
    err = rng.random() < noise
    if view.kind == "results":
        return _pick(want, view, err, rng)
    if view.kind == "item":
        return _finish(want, view, err, rng)
    return _query(want, err, rng)


def _query(want: Want, err: bool, rng: random.Random) -> str:
    words = list(want.words)
    if err and len(words) > 1:
        keep = rng.randint(1, len(words) - 1)
        words = [words[i] for i in sorted(rng.sample(range(len(words)), keep))]
    return " ".join(["search", *words])


def _pick(want: Want, view: View, err: bool, rng: random.Random) -> str:
    if err:
        draw = rng.random()
        if draw < 0.6 and view.rows:
            return f"click item{rng.randrange(len(view.rows)) + 1}"
        return "click next" if draw < 0.85 and view.more else "click back"
    unseen = [i for i, row in enumerate(view.rows) if not row.seen]
    complete = [i for i in unseen if want.fits(view.rows[i].words, view.rows[i].price)]
    if complete:
        return f"click item{complete[0] + 1}"
    if set(view.query) < set(want.words):
        return "click back"
    if view.more and view.page < LAST_PAGE:
        return "click next"
    if not unseen:
        return "click back"
    best = max(unseen, key=lambda i: (want.matched(view.rows[i].words), want.affordable(view.rows[i].price)))
    return f"click item{best + 1}"


def _finish(want: Want, view: View, err: bool, rng: random.Random) -> str:
    row = view.rows[0]
    offered = [value for values in view.options.values() for value in values]
    if err:
        draw = rng.random()
        if draw < 0.35 and offered:
            return f"click {rng.choice(offered)}"
        return "click buy" if draw < 0.85 else "click back"
    if not want.fits(row.words, row.price):
        return "click back"
    missing = [value for value in want.values if value not in view.chosen and value in offered]
    return f"click {missing[0]}" if missing else "click buy"


def first_result(want: Want, view: View, _rng: random.Random) -> str:
    """Scripted bound: search with all words, open the first result whatever it is, choose the options, buy."""
    return _without_reading(want, view, "click item1")


def random_pick(want: Want, view: View, rng: random.Random) -> str:
    """Scripted bound: like `first_result`, with a random item of the first page."""
    return _without_reading(want, view, f"click item{rng.randint(1, max(1, len(view.rows)))}")


def best_match(want: Want, view: View, _rng: random.Random) -> str:
    """Scripted bound: like `first_result`, with the first of the titles on page 1 with most wanted words."""
    scores = [want.matched(row.words) for row in view.rows]
    return _without_reading(want, view, f"click item{scores.index(max(scores)) + 1}" if scores else "click back")


def oracle(want: Want, view: View, _rng: random.Random) -> str:
    """Scripted bound: the shopper without noise, who reads every title and price and turns pages."""
    return decide(want, view, 0.0, random.Random(0))


def _without_reading(want: Want, view: View, pick: str) -> str:
    if view.kind == "results":
        return pick
    if view.kind == "item":
        offered = [value for values in view.options.values() for value in values]
        missing = [value for value in want.values if value not in view.chosen and value in offered]
        return f"click {missing[0]}" if missing else "click buy"
    return " ".join(["search", *want.words])


SCRIPTED: dict[str, Player] = {
    "random pick": random_pick,
    "first result": first_result,
    "best title on page 1": best_match,
    "oracle": oracle,
}
