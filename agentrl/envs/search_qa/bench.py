"""How fast search QA is: start-up, new and repeated queries, episodes, memory; and a corpus of 100,000 passages.

Each of the measurements takes a share of the time asked for; building the large corpus comes on top.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.encyclopedia import generate, questions
from agentrl.retrieval import Document, Store

if TYPE_CHECKING:
    from agentrl.envs.search_qa.env import SearchQA

PASSAGES = 100_000  # of the large corpus


def bench(env: SearchQA, seconds: float = 6.0) -> dict[str, Any]:
    """Measure for about ``seconds``. All rates are per second of one process; times in seconds, memory in MiB."""
    start = time.perf_counter()
    tasks = env.tasks("train")
    env.store.search(["start"], env.top_k)
    ready = time.perf_counter() - start
    share = seconds / 4
    result = {
        "view": env.view_name,
        "start_s": round(ready, 3),
        "rss_mib": round(rss_mib()),
        "resets_per_s": _rate(lambda n: env.start(tasks[n % len(tasks)]).goal, share),
        "steps_per_s": _steps(env, share),
    }
    return {**result, **_large(share, env.top_k), "torch_imported": "torch" in sys.modules}


def rss_mib() -> float:
    """Resident memory of this process in MiB; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if statm.is_file() else 0.0


def _steps(env: SearchQA, seconds: float) -> int:
    """Steps of a half-hasty expert per second, its own thinking and the start of episodes included."""
    expert, tasks, rng = env.expert(0.5, 0), env.tasks("train"), random.Random(0)
    episode = [env.start(rng.choice(tasks))]

    def step(_: int) -> None:
        if episode[0].step(expert(episode[0])).done:
            episode[0] = env.start(rng.choice(tasks))

    return _rate(step, seconds)


def _large(seconds: float, k: int) -> dict[str, Any]:
    """New queries (questions, one at a time; in batches) and repeated ones on the large corpus."""
    world = generate(1, PASSAGES)
    documents = [Document.of(passage.id, passage.title, passage.text) for passage in world.passages]
    asked = [question.text for question in questions(world, per_region=6)]
    random.Random(0).shuffle(asked)
    before, start = rss_mib(), time.perf_counter()
    store = Store.build(documents)
    built = time.perf_counter() - start
    fresh = itertools.count()
    return {
        "passages": len(documents),
        "index_s": round(built, 2),
        "index_mib": round(rss_mib() - before),
        "queries_per_s": _rate(lambda _: store.search([_new(asked, next(fresh))], k), seconds),
        "cached_queries_per_s": _rate(lambda n: store.search([asked[n % 100]], k), seconds / 2),
    }


def _new(asked: Sequence[str], number: int) -> str:
    """A query that was not asked before: the questions, then the questions with a number behind."""
    again, place = divmod(number, len(asked))
    return f"{asked[place]} {again}" if again else asked[place]


def _rate(act: Callable[[int], Any], seconds: float) -> int:
    """How often per second ``act`` runs; it is given the number of the run."""
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(10):
            act(count)
            count += 1
    return round(count / spent)
