"""Measure WebShop in one process: speed, memory over many episodes, and search in a catalogue of a million products.

    python scripts/bench_webshop.py                                    # bundled catalogue: speed
    python scripts/bench_webshop.py --data FOLDER --episodes 100000    # official files: speed and memory over episodes
    python scripts/bench_webshop.py --products 1000000 --folder OUT    # build (once) and search a generated catalogue

Prints one JSON object per measurement. No torch is imported. Run it alone on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

from agentrl.envs.webshop import disk  # noqa: E402  (the clock above includes the imports)
from agentrl.envs.webshop.bench import RandomShopper, bench, peak_mib, query_of, rss_mib  # noqa: E402
from agentrl.envs.webshop.catalogue import generate, items  # noqa: E402
from agentrl.envs.webshop.env import BUNDLED, WebShop  # noqa: E402
from agentrl.envs.webshop.panels import bundled_panels  # noqa: E402
from agentrl.envs.webshop.store import Shop  # noqa: E402
from agentrl.types import Message, Task  # noqa: E402

TARGETS = {"steps_per_s": 6_000, "resets_per_s": 20_000, "start_s": 2.0, "rss_mib": 150.0, "search_ms_median": 25.0}


def memory_over_episodes(env: WebShop, episodes: int) -> dict[str, Any]:
    """Resident memory (MiB) after each tenth of ``episodes`` random episodes of at most 15 steps."""
    tasks = env.tasks("train")
    shopper = RandomShopper(0)
    sizes: list[float] = []
    for number in range(episodes):
        episode = env.start(tasks[shopper.rng.randrange(len(tasks))])
        for _ in range(15):
            if episode.step(Message("assistant", shopper.action(episode))).done:
                break
        if (number + 1) % max(episodes // 10, 1) == 0:
            sizes.append(round(rss_mib(), 1))
    return {"episodes": episodes, "rss_mib_by_tenth": sizes, "growth_mib_second_half": round(sizes[-1] - sizes[4], 1)}


def goal_tasks(products: int) -> list[Task]:
    """Training tasks of a small generated catalogue: realistic queries for a big one."""
    return bundled_panels(generate(products=products).goals, {})["train"]


def watched(source: Iterator[dict[str, Any]], every: int = 100_000) -> Iterator[dict[str, Any]]:
    """The items, with a line of progress now and then."""
    for number, item in enumerate(source, 1):
        if number % every == 0:
            print(f"{number:,} products, {time.perf_counter() - STARTED:.0f} s", file=sys.stderr)
        yield item


def big_catalogue(products: int, folder: Path, searches: int) -> dict[str, Any]:
    """Build the folder unless it is there, open it, and time uncached searches of 3 to 8 words."""
    result: dict[str, Any] = {"products": products}
    if not folder.exists():
        start = time.perf_counter()
        disk.build(folder, watched(items(products)), name=f"generated-{products}")
        result |= {"build_s": round(time.perf_counter() - start, 1), "build_peak_mib": round(peak_mib(), 1)}
    start = time.perf_counter()
    shop = Shop.open(folder)
    result |= {"open_s": round(time.perf_counter() - start, 3)}
    result |= {"folder_mib": round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20)}
    rng = random.Random(0)
    tasks = goal_tasks(4000)
    times: list[float] = []
    for _ in range(searches):
        query = query_of(rng.choice(tasks), rng)
        start = time.perf_counter()
        hits = shop.search(query)
        times.append((time.perf_counter() - start) * 1e3)
        for hit in hits[:10]:
            shop.product(hit)
    cuts = statistics.quantiles(times, n=20)
    result |= {"searches": searches, "search_ms_median": round(statistics.median(times), 2)}
    return result | {"search_ms_p95": round(cuts[-1], 2), "rss_mib": round(rss_mib(), 1)}


def main() -> int:
    """Run the measurements asked for; exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=BUNDLED, help="bundled, or a folder with the official files")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for the speed measurement")
    parser.add_argument("--episodes", type=int, default=0, help="episodes for the memory measurement (0: none)")
    parser.add_argument("--products", type=int, default=0, help="size of the big generated catalogue (0: none)")
    parser.add_argument("--folder", type=Path, default=Path("outputs/webshop_big"), help="where to keep its index")
    parser.add_argument("--searches", type=int, default=500, help="searches in the big catalogue")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    if arguments.products:
        results.append(big_catalogue(arguments.products, arguments.folder, arguments.searches))
    else:
        import_s = time.perf_counter() - STARTED
        env = WebShop(data=arguments.data, view="text")
        speed = bench(env, arguments.seconds)
        results.append(speed | {"start_s": round(speed["start_s"] + import_s, 3), "data": arguments.data})
        if arguments.episodes:
            results.append(memory_over_episodes(env, arguments.episodes))
    for result in results:
        print(json.dumps(result))
    limits = {"rss_mib": 3072.0} if arguments.products else {}
    return int(any(not meets(name, got, limits) for result in results for name, got in result.items()))


def meets(name: str, got: Any, limits: dict[str, float]) -> bool:
    """Whether a measured value keeps its target (rates: at least; times and memory: at most)."""
    target = limits.get(name, TARGETS.get(name))
    if target is None:
        return True
    return bool(got >= target if name.endswith("_per_s") else got <= target)


if __name__ == "__main__":
    sys.exit(main())
