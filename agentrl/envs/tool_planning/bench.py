"""How fast the planning world is: resets, steps of a random caller, programs of the code tool, start-up and memory."""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

from agentrl.envs.tool_planning.env import ToolPlanning
from agentrl.envs.tool_planning.sandbox import Sandbox, isolation


def bench(env: ToolPlanning, seconds: float = 6.0) -> dict[str, Any]:
    """Measure for about ``seconds``. Rates per second of one process; times in seconds, memory in MiB."""
    start = time.perf_counter()
    fresh = dataclasses.replace(env)
    tasks = fresh.tasks("train")
    start_s = time.perf_counter() - start
    rng, share = random.Random(0), seconds / 3
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < share:
        episode = fresh.start(tasks[count % len(tasks)])
        _ = episode.goal, episode.observation
        count += 1
    resets = count / spent
    steps = _steps(fresh, rng, share)
    programs = _programs(Sandbox(env.code_cpu_s, env.code_memory_mib, env.code_output_chars), share)
    fresh.close()
    return {
        "resets_per_s": round(resets),
        "steps_per_s": round(steps[0]),
        "steps_per_cpu_s": round(steps[1]),
        "code_calls_per_s": round(programs),
        "start_s": round(start_s, 3),
        "rss_mib": round(_rss_mib(), 1),
        "tasks": len(tasks),
        "network_namespace": bool(isolation()),
        "torch_imported": "torch" in sys.modules,
    }


def _steps(env: ToolPlanning, rng: random.Random, seconds: float) -> tuple[float, float]:
    """Steps of a planner that errs at half of its turns, its own choices left out: per second, and per CPU second."""
    tasks, expert = env.tasks("train"), env.expert(0.5, 0)
    count, spent, busy = 0, 0.0, 0.0
    while spent < seconds:
        episode = env.start(rng.choice(tasks))
        for _ in range(env.max_turns):
            action = expert(episode)
            start, start_cpu = time.perf_counter(), time.process_time()
            step = episode.step(action)
            spent += time.perf_counter() - start
            busy += time.process_time() - start_cpu
            count += 1
            if step.done:
                break
    return count / spent, count / max(busy, 1e-9)


def _programs(sandbox: Sandbox, seconds: float) -> float:
    """Short programs that were never run before."""
    sandbox.run("print(0)")
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        count += 1
        sandbox.run(f"import math\nprint(math.sqrt({count}) + {count})")
    sandbox.close()
    return count / spent


def _rss_mib() -> float:
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
