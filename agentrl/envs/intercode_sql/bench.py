"""How fast the environment is: resets, query and submit steps (known and new statements), start-up time and memory.

A *step pair* is what the original's figure counts: the gold query, then submit. ``known`` pairs repeat the tasks' gold
queries, which are parsed and run once and then remembered; ``new`` pairs make every statement a new text (by a
comment at its end), so that each is parsed, translated and executed. Rates per second of CPU time are for machines that
do other work beside; of a server they show the client's share alone.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.types import Message, Task

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.env import InterCodeSql

ORIGINAL = {"steps_per_s": 2148, "resets_per_s": 8153}  # InterCode on MariaDB 10.11, one core of a 2-core machine
BURST = 20  # tasks between two looks at the clock


def rss_mib() -> float:
    """Resident memory of this process in MiB (its peak where the system does not tell the current value)."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def bench(env: InterCodeSql, seconds: float) -> dict[str, Any]:
    """Measure for about ``seconds``. Rates are per second of one process and count query and submit as two steps."""
    start = time.perf_counter()
    tasks = [task for split in ("train", "val", "test") for task in env.tasks(split)]
    for task in tasks:
        env.gold(env.start(task).question)
    start_s = time.perf_counter() - start
    share = seconds / 3
    resets, cpu_resets = _rate(tasks, share, lambda task, _: _reset(env, task))
    known, cpu_known = _rate(tasks, share, lambda task, _: _pair(env, task, ""))
    new, cpu_new = _rate(tasks, share, lambda task, number: _pair(env, task, f" -- {number}"))
    return {
        "steps_per_s": round(2 * known),
        "new_steps_per_s": round(2 * new),
        "resets_per_s": round(resets),
        "steps_per_cpu_s": round(2 * cpu_known),
        "new_steps_per_cpu_s": round(2 * cpu_new),
        "resets_per_cpu_s": round(cpu_resets),
        "steps_ratio": round(2 * known / ORIGINAL["steps_per_s"], 1),
        "new_steps_ratio": round(2 * new / ORIGINAL["steps_per_s"], 1),
        "resets_ratio": round(resets / ORIGINAL["resets_per_s"], 1),
        "start_s": round(start_s, 3),
        "rss_mib": round(rss_mib(), 1),
        "tasks": len(tasks),
        "backend": env.backend_of.name,
        "torch_imported": "torch" in sys.modules,
    }


def _rate(tasks: Sequence[Task], seconds: float, play: Callable[[Task, int], None]) -> tuple[float, float]:
    """Plays per second, and per second of this process's CPU time."""
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(BURST):
            play(tasks[count % len(tasks)], count)
            count += 1
    return count / spent, count / max(time.process_time() - cpu, 1e-9)


def _reset(env: InterCodeSql, task: Task) -> None:
    episode = env.start(task)
    _ = episode.goal, episode.observation
    episode.close()


def _pair(env: InterCodeSql, task: Task, ending: str) -> None:
    """The gold query and submit; ``ending`` is a comment that makes the text a new one."""
    episode = env.start(task)
    gold = episode.question.ask.action if episode.compact and episode.question.ask else episode.question.gold + ending
    episode.step(Message("assistant", episode.say(gold)))
    episode.step(Message("assistant", episode.say("submit")))
    episode.close()
