"""How fast the shop is: resets, mixed steps and new searches per second, start-up time and memory.

The mixed steps come from a random shopper: it searches for a random part of an instruction (nearly every query
is new, see ``cold_share``), opens products, turns pages, reads sub-pages, picks options and buys. Its own
choices and the texts of all observations are inside the measured time.
"""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrl.envs.webshop.env import WebShop, WebShopEpisode
from agentrl.types import Message, Task


def rss_mib() -> float:
    """Resident memory of this process in MiB (its peak where the system does not tell the current value)."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return peak_mib()


def peak_mib() -> float:
    """The most resident memory this process ever had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def query_of(task: Task, rng: random.Random) -> str:
    """A random half of an instruction's words, at least two."""
    words = task.data["goal"]["instruction_text"].lower().split()
    size = max(2, len(words) // 2)
    return " ".join(rng.sample(words, min(size, len(words))))


class RandomShopper:
    """Plays faithful actions on an episode's session, with the shares of page turns and clicks of a hasty person."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def action(self, episode: WebShopEpisode) -> str:
        """A valid action for the current page."""
        session, draw = episode.session, self.rng.random()
        if session.page == "index":
            return f"search[{query_of(episode.task, self.rng)}]"
        labels = session.clickables()
        if session.page == "results":
            first = len(labels) - len(session.results)
            if draw < 0.75 and session.results:
                return f"click[{labels[self.rng.randrange(first, len(labels))]}]"
            return f"click[{labels[self.rng.randrange(first)]}]"
        if session.page == "item" and draw < 0.3:
            return "click[buy now]"
        return f"click[{self.rng.choice(labels)}]"


def bench(env: WebShop, seconds: float = 6.0) -> dict[str, Any]:
    """Measure for about ``seconds``. All rates are per second of one process; times in seconds, memory in MiB."""
    start = time.perf_counter()
    fresh = dataclasses.replace(env, view="text" if env.view_name == "compact" else env.view_name)
    tasks = fresh.tasks("train")
    start_s = time.perf_counter() - start
    share = seconds / 3
    resets = _resets(fresh, tasks, share)
    steps = _steps(fresh, tasks, share)
    searches = _searches(fresh, tasks, share)
    return {
        "resets_per_s": round(resets),
        "steps_per_s": round(steps["rate"]),
        "searches_per_s": round(searches),
        "cold_share": round(steps["cold_share"], 3),
        "search_share": round(steps["search_share"], 3),
        "start_s": round(start_s, 3),
        "rss_mib": round(rss_mib(), 1),
        "products": len(fresh.shop),
        "torch_imported": "torch" in sys.modules,
    }


def _resets(env: WebShop, tasks: Sequence[Task], seconds: float) -> float:
    """Fresh episodes with their goal and first observation, per second."""
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(50):
            episode = env.start(tasks[count % len(tasks)])
            _ = episode.goal, episode.observation
            count += 1
    return count / spent


def _steps(env: WebShop, tasks: Sequence[Task], seconds: float) -> dict[str, float]:
    """Mixed steps per second; which share of steps are searches, and which share of these were not cached."""
    shopper = RandomShopper(0)
    before = env.shop.searched()
    count = searches = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        episode = env.start(tasks[shopper.rng.randrange(len(tasks))])
        for _ in range(15):
            action = shopper.action(episode)
            searches += action.startswith("search")
            count += 1
            if episode.step(Message("assistant", action)).done:
                break
    cold = env.shop.searched() - before
    return {"rate": count / spent, "search_share": searches / count, "cold_share": cold / max(searches, 1)}


def _searches(env: WebShop, tasks: Sequence[Task], seconds: float) -> float:
    """New (never cached) searches per second, analysis included."""
    rng = random.Random(1)
    queries = [query_of(rng.choice(tasks), rng) for _ in range(2000)]
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(10):
            env.shop.index.search(queries[count % len(queries)], 50)
            count += 1
    return count / spent
