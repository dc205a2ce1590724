"""What signs of life cost: their number in a webshop run times the time of one, as a share of the run's CPU time.

    python scripts/bench_watchdog.py [steps]

Both are measured in one process: a run with a counting ``beat``, then the time of the real one, the median of several
rounds. CPU time, so that other programs on the machine matter little.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import timeit
from pathlib import Path

from agentrl import config, loop, watchdog

ROUNDS, CALLS = 9, 200_000


def cost_s() -> float:
    """Seconds of one sign of life."""
    times = timeit.repeat(lambda: watchdog.beat("environment", "a step of task", "shop/1"), number=CALLS, repeat=ROUNDS)
    return statistics.median(times) / CALLS


def counted(steps: int, folder: Path) -> tuple[int, float]:
    """Signs of life of a run, and its CPU seconds. Modules hold ``beat`` by name, so it is counted where it writes."""
    count = 0

    def beat(*_: str) -> None:
        nonlocal count
        count += 1

    for module in list(sys.modules.values()):
        if getattr(module, "beat", None) is watchdog.beat and module is not watchdog:
            module.beat = beat  # type: ignore[attr-defined]
    words = ["method=vspo", "env=webshop", f"steps={steps}", "eval.before=false", "eval.tasks=16", "log=files"]
    cfg = config.compose("train", [*words, f"run_dir={folder}", "watchdog.quiet_s=0"])
    begin = time.process_time()
    loop.train(cfg)
    return count, time.process_time() - begin


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    one = cost_s()
    with tempfile.TemporaryDirectory() as folder:
        count, cpu = counted(steps, Path(folder) / "run")
    print(f"one sign of life: {one * 1e9:.0f} ns; in {steps} steps of webshop: {count}, in {cpu:.1f} s of CPU time")
    print(f"share of the run: {count * one / cpu:.5%}")


if __name__ == "__main__":
    main()
