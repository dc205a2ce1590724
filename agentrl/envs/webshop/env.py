"""WebShop: find a product by search and clicks, choose its options, buy it. Reward in [0, 1] on the purchase.

A re-implementation of princeton-nlp/WebShop (Yao et al. 2022, arXiv 2207.01206) without web server, Java or
tagger, over a bundled generated catalogue or the official files. One real task and turn in the text view::

    WebShop [SEP] Instruction: [SEP] Find me women's pumps with high heel, short sleeve, and price lower than
        120.00 dollars [SEP] Search
    > search[high heel pumps]
    Instruction: [SEP] ... [SEP] Back to Search [SEP] Page 1 (Total results: 50) [SEP] Next > [SEP] B07PM8MJKZ [SEP] ...

Invalid actions change nothing and cost a turn. There is no step limit inside: the rollout sets one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.envs.base import Expert, FieldsTravel, Step
from agentrl.envs.webshop.disk import MARK
from agentrl.envs.webshop.goals import Goal, human_goals, synthetic_goals
from agentrl.envs.webshop.nouns import load_nouns
from agentrl.envs.webshop.pages import Session, State
from agentrl.envs.webshop.panels import bundled_panels, goal_of, official_panels
from agentrl.envs.webshop.store import Shop
from agentrl.envs.webshop.views import VIEWS, View
from agentrl.errors import ConfigError, DataError
from agentrl.types import Message, Messages, Split, Task

BUNDLED = "bundled"
DIFFICULTIES = ("standard", "wide")
GOALS = ("auto", "bundled", "synthetic", "human")


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """A copy of an episode from which ``WebShop.restore`` makes an equal one."""

    task: Task
    session: State


class WebShopEpisode:
    """One shopper with one task. ``session`` is the page machine, ``shop`` what is sold, ``goal_record`` the goal."""

    __slots__ = ("_view", "goal_record", "session", "task")

    def __init__(self, task: Task, goal: Goal, session: Session, view: View) -> None:
        self.task = task
        self.goal_record = goal
        self.session = session
        self._view = view

    @property
    def shop(self) -> Shop:
        return self.session.shop

    @property
    def goal(self) -> Messages:
        """The rules of the text views, or the compact goal line."""
        return self._view.goal(self.goal_record)

    @property
    def observation(self) -> Messages:
        """The current page."""
        return (Message("user", self._view.observe(self.session)),)

    def step(self, action: Message) -> Step:
        """Play one reply.

        ``info``: ``valid`` (it did something), ``page`` (the kind of page shown now), and after a purchase
        ``reward_parts`` (the original's verbose parts).
        """
        meant = self._view.action(self.session, action.content)
        valid = meant is not None and self.session.valid(meant)
        reward, done = self.session.step(meant) if meant is not None and valid else (0.0, False)
        info: dict[str, Any] = {"valid": valid, "page": self.session.page}
        if done and self.session.outcome is not None:
            info["reward_parts"] = {name: float(part) for name, part in self.session.outcome.parts.items()}
        return Step(self.observation, reward, done, parsed=meant is not None, info=info)

    def actions(self) -> Sequence[str]:
        """Valid actions: every useful click, and on the search page a search for the instruction."""
        return self._view.actions(self.session)

    def snapshot(self) -> EpisodeState:
        return EpisodeState(self.task, self.session.snapshot())

    def close(self) -> None:
        """Nothing to free: sessions own no resources."""


@dataclass(frozen=True)
class WebShop(FieldsTravel):
    """The environment; its fields are the keys of ``conf/env/webshop.yaml``. Building it loads nothing.

    data           ``bundled`` (generated catalogue), or a folder: official files, or one made by import_webshop
    goals          ``auto`` (bundled: the catalogue's; official: synthetic), ``bundled``, ``synthetic``, ``human``
    view           ``auto`` (bundled: compact; official: text), ``text``, ``text_rich``, ``compact``
    max_turns      actions per episode, for the rollout (no limit inside)
    compat         the original's quirks (listed in ``pages`` and ``reward``)
    seed           of catalogue, range prices and price limits; part of the data, not of a run: panels depend on it
    products       size of the bundled catalogue
    difficulty     of its goals: ``standard``, or ``wide`` (many hard, rarely solved ones beside easy ones)
    nouns          ``rules``, or the path of a noun table (see ``nouns``)
    page_size      products per results page; 0: as the view has it (text 10, compact 4)
    show_attributes  offer the page of a product's attributes
    val, test      panel sizes (tasks), at most
    """

    data: str = BUNDLED
    goals: str = "auto"
    view: str = "auto"
    max_turns: int = 10
    compat: bool = True
    seed: int = 0
    products: int = 4000
    difficulty: str = "standard"
    nouns: str = "rules"
    page_size: int = 0
    show_attributes: bool = False
    val: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        if self.goals not in GOALS:
            raise ConfigError(f"env.goals is {self.goals!r}; expected one of {', '.join(GOALS)}")
        if self.view not in ("auto", *VIEWS):
            raise ConfigError(f"env.view is {self.view!r}; expected one of auto, {', '.join(VIEWS)}")
        if self.difficulty not in DIFFICULTIES:
            raise ConfigError(f"env.difficulty is {self.difficulty!r}; expected one of {', '.join(DIFFICULTIES)}")
        for name, least in (("products", 1), ("max_turns", 1), ("page_size", 0), ("val", 0), ("test", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"env.{name} is {getattr(self, name)}; expected at least {least}")
        bundled = self.data == BUNDLED
        if bundled and self.goals == "human":
            raise ConfigError("env.goals is 'human' but env.data is 'bundled', which has none; give env.data=FOLDER")
        if not bundled and self.goals == "bundled":
            raise ConfigError(f"env.goals is 'bundled' but env.data is {self.data!r}; use synthetic or human goals")

    @property
    def success_return(self) -> float:
        """Full reward: the papers' success."""
        return 1.0

    @property
    def goal_kind(self) -> str:
        """``bundled``, ``synthetic`` or ``human`` (``auto`` resolved)."""
        return self.goals if self.goals != "auto" else BUNDLED if self.data == BUNDLED else "synthetic"

    @property
    def view_name(self) -> str:
        """``text``, ``text_rich`` or ``compact`` (``auto`` resolved)."""
        return self.view if self.view != "auto" else "compact" if self.data == BUNDLED else "text"

    @property
    def _view(self) -> View:
        return VIEWS[self.view_name]

    @cached_property
    def _catalogue(self) -> Any:
        from agentrl.envs.webshop.catalogue import STANDARD, WIDE, generate

        return generate(self.products, self.seed, WIDE if self.difficulty == "wide" else STANDARD)

    @cached_property
    def shop(self) -> Shop:
        """The products, loaded at first use. Raises DataError when the data cannot be read."""
        nouns = load_nouns(self.nouns)
        if self.data == BUNDLED:
            return Shop.from_products(
                self._catalogue.items, name=f"bundled-{self.products}-{self.seed}", seed=self.seed, nouns=nouns
            )
        folder = Path(self.data)
        if (folder / MARK).is_file():
            return Shop.open(folder, nouns=nouns)
        return Shop.load(folder, seed=self.seed, nouns=nouns)

    @cached_property
    def goal_list(self) -> list[Goal]:
        """Official goals in the original's final order (empty for the bundled goals, which come in splits)."""
        if self.goal_kind == "synthetic":
            return synthetic_goals(self.shop.products, self.shop.rng())
        if self.goal_kind == "human":
            return human_goals(self.shop.with_human_goals(), self.shop.human, self.shop.rng())
        return []

    @cached_property
    def _panels(self) -> dict[Split, list[Task]]:
        sizes = {"val": self.val, "test": self.test}
        if self.goal_kind == BUNDLED:
            return bundled_panels(self._catalogue.goals, sizes)
        return official_panels(self.goal_list, self.goal_kind, sizes)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What results depend on; loads the shop."""
        return {
            "env": "webshop",
            "variant": "agentrl",
            "data": self.shop.name,
            "products": len(self.shop),
            "difficulty": self.difficulty,
            "goals": self.goal_kind,
            "view": self.view_name,
            "compat": self.compat,
            "seed": self.seed,
            "nouns": self.shop.nouns.name,
            "page_size": self.page_size or self._view.page_size,
            "show_attributes": self.show_attributes,
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split, always in the same order. Raises DataError when the data give it none."""
        tasks = self._panels[split]
        if not tasks:
            raise DataError(
                f"webshop data {self.data!r} with {self.goal_kind} goals leave no {split} tasks;"
                " use goals=synthetic or more data"
            )
        return tasks

    def session(self, goal: Goal) -> Session:
        """A fresh session for a goal."""
        return Session(
            self.shop,
            goal,
            page_size=self.page_size or self._view.page_size,
            compat=self.compat,
            show_attributes=self.show_attributes,
        )

    def start(self, task: Task) -> WebShopEpisode:
        goal = goal_of(task)
        return WebShopEpisode(task, goal, self.session(goal), self._view)

    def restore(self, state: EpisodeState) -> WebShopEpisode:
        episode = self.start(state.task)
        episode.session.restore(state.session)
        return episode

    def expert(self, noise: float, seed: int) -> Expert:
        """A goal-directed shopper that errs with probability ``noise``."""
        from agentrl.envs.webshop.shopper import Shopper

        expert: Expert = Shopper(self, noise, seed)
        return expert

    def replay(self, golden: Path) -> dict[str, Any]:
        """Compare with a recorded file of the original (see ``replay``). Raises DataError on a damaged file."""
        from agentrl.envs.webshop.replay import replay

        return replay(self, golden)

    def bench(self, seconds: float) -> dict[str, Any]:
        """Speed and memory (see ``bench``), measured for about ``seconds``."""
        from agentrl.envs.webshop.bench import bench

        return bench(self, seconds)

    def close(self) -> None:
        """Nothing to free."""
