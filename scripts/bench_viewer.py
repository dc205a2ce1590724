"""How long the page of ``agentrl view`` takes to be written, to open and to filter, in headless Chromium.

    PYTHONPATH=. python scripts/bench_viewer.py [--plays 10000] [--turns 6] [--words 60] [--repeats 5]

The plays are made up: pages of shop words that members of a group share in part, as in a real run. ``open``: from the
start of the navigation until list and first play are drawn (median, and the longest, of fresh browsers' tabs);
``search ready``: until all texts are unpacked; filters: from the change until list, strip and play are drawn anew.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agentrl.viewer.view import view

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
GROUP = 8
FILTERS = {
    "text, in many plays": {"text": "nylon"},
    "text, in few": {"text": "mug39 slim39"},
    "text, in none": {"text": "there is no such text"},
    "steps": {"from": "20", "to": "40"},
    "reward": {"low": "0.5", "high": "0.75"},
    "task and success": {"task": "train/1", "success": "yes"},
    "all at once": {"text": "mug", "from": "5", "low": "0.2", "success": "no", "stop": "done"},
    "sorted": {"sort": "best first"},
}
MARKED = """(name) => new Promise((done) => {
  const look = () => {
    const [mark] = performance.getEntriesByName(name);
    if (mark) done(mark.startTime);
    else setTimeout(look, 5);
  };
  look();
})"""  # the page itself says when: the driver's own polling needs eval, which the page's policy forbids
FILTER = """(filter) => {
  const usual = Object.fromEntries(FILTERS.map((key) => [key, USUAL[key]]));
  page.search.last = { query: "", hits: null };
  const begin = performance.now();
  page.set({ ...usual, ...filter });
  page.follow();
  document.body.offsetHeight;
  return [performance.now() - begin, page.found.length];
}"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--plays", type=int, default=10_000)
    words.add_argument("--turns", type=int, default=6)
    words.add_argument("--words", type=int, default=60, help="words of an observation")
    words.add_argument("--repeats", type=int, default=5)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make(run, given.plays, given.turns, given.words)
        begin = time.process_time()
        page = Path(view(SimpleNamespace(run=str(run), out="", open=False))["page"])
        row("run's file, MiB", (run / "trajectories.jsonl").stat().st_size / 2**20)
        row("page, MiB", page.stat().st_size / 2**20)
        row("writing it, processor s", time.process_time() - begin)
        measure(page, given.repeats)


def measure(page: Path, repeats: int) -> None:
    """Open the page so often, filter it so often; print medians and the longest."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        opened, ready, filters = [], [], {name: [] for name in FILTERS}
        counts = {}
        for _ in range(repeats):
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            tab.goto(page.as_uri())
            opened.append(tab.evaluate(MARKED, "drawn"))
            ready.append(tab.evaluate(MARKED, "searchable"))
            for name, filter in FILTERS.items():
                took, counts[name] = tab.evaluate(FILTER, filter)
                filters[name].append(took)
            tab.close()
        browser.close()
    row("open, ms", *spread(opened))
    row("search ready, ms", *spread(ready))
    for name, values in filters.items():
        row(f"{name} ({counts[name]} plays), ms", *spread(values))


def spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), max(values)


def row(name: str, *values: float) -> None:
    print(f"{name:<45}" + "".join(f"{value:>12.1f}" for value in values), flush=True)


def make(folder: Path, plays: int, turns: int, words: int) -> None:
    """A run's folder with made-up plays; equal arguments, equal files."""
    draw = random.Random(0)
    known = [f"{a}{b}" for a in ("nylon", "walnut", "red", "mug", "lamp", "slim") for b in ("", *range(40))]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("choices: {method: grpo, env: webshop}\nmodel: {path: 'bundled:tiny'}\n")
    with (folder / "trajectories.jsonl").open("w") as file:
        for number in range(plays):
            if number % GROUP == 0:
                pages = [" ".join(draw.choices(known, k=words)) for _ in range(2 * turns)]
            file.write(json.dumps(a_play(draw, number, pages, turns, words)) + "\n")


def a_play(draw: random.Random, number: int, pages: list[str], turns: int, words: int) -> dict[str, Any]:
    """One play; its pages are of those that its group may see."""
    reward, group = draw.random(), number // GROUP
    played = [
        {
            "prompt_ids": [draw.randrange(1200) for _ in range(words)],
            "action_ids": [draw.randrange(1200) for _ in range(7)] + [2],
            "logprobs": [-draw.expovariate(2) for _ in range(8)],
            "advantages": [reward - 0.5] * 8,
            "action": f"search {draw.choice(pages)[:24]} {number % 97}",
            "observation": [{"role": "user", "content": draw.choice(pages)}],
            "reward": 0.0, "parsed": True, "finish": "stop", "version": 0, "info": {"page": "results"},
        }
        for _ in range(turns)
    ]  # fmt: skip
    return {
        "step": group // 16 + 1, "group": group % 16, "copy": 0, "weight": 1.0, "task": f"bundled/train/{group}",
        "family": f"family {group % 400}", "member": number % GROUP, "stop": draw.choice(["done", "max_turns"]),
        "success": reward > 0.8, "env_return": reward, "reward": reward, "reward_parts": {"return": reward},
        "error": None, "first_observation": [{"role": "user", "content": pages[0]}], "turns": played,
    }  # fmt: skip


if __name__ == "__main__":
    main()
