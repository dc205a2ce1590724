"""One rollout worker beside two: are the samples the same, and what does the second worker save?

Both pools are up at the same time and take turns. Figures per pool, medians over the rounds:

wall_s:   seconds of one call (on a busy machine the other work counts, too)
worker_s: processor seconds of the busiest worker: what a call takes where each worker has a core of its own
all_s:    processor seconds of all workers together

``saved`` is worker_s of one / worker_s of two (2 = perfect), ``overhead`` all_s of two / all_s of one (1 = perfect).
Of the samples: ``equal`` is the share of completions with the same seed that are equal in their tokens; ``length`` and
``logprob`` compare completions of different seeds, as the difference of means (two workers less one) in standard
errors: beyond 3 the workers would sample differently.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import time
from typing import Any

import psutil

from agentrl import config
from agentrl.cluster.pool import PoolEngine
from agentrl.engine.base import Completion, Request, Sampling


def started(args: argparse.Namespace, workers: int) -> PoolEngine:
    """A pool of the bundled model, one thread for each worker."""
    words = [
        f"engine={args.engine}",
        f"cluster={args.cluster}",
        f"cluster.workers={workers}",
        f"cluster.part={args.part}",
        "device=cpu",
    ]
    words += [f"engine.max_batch={args.part}", "model.context_tokens=512"]
    words += ["cluster.cpus=0.5"] if args.cluster == "ray" else []
    cfg = config.compose("train", words)
    engine: PoolEngine = config.build(cfg.cluster).start(config.build(cfg.engine), config.build(cfg.model), "cpu")
    return engine


def workers_of(engine: PoolEngine) -> list[psutil.Process]:
    """The pool's processes, wherever they come from."""
    found = []
    for worker in engine._workers:
        actor: Any = getattr(worker, "_actor", None)
        pid = worker.pid if actor is None else __import__("ray").get(actor.pid.remote())  # type: ignore[attr-defined]
        found.append(psutil.Process(pid))
    return found


def processor_s(process: psutil.Process) -> float:
    """Of a worker and its children."""
    family = [process, *process.children(recursive=True)]
    return float(sum(sum(member.cpu_times()[:2]) for member in family))


def asked(args: argparse.Namespace, seed: int) -> list[Request]:
    """Prompts of 32 to 160 random tokens; the same ones whatever the seed of the draws."""
    rng = random.Random(0)
    prompts = [tuple(rng.randrange(20, 400) for _ in range(rng.randint(32, 160))) for _ in range(args.rows)]
    draws = random.Random(seed)
    return [Request(prompt, draws.getrandbits(62), args.new) for prompt in prompts]


def call(engine: PoolEngine, requests: list[Request], sampling: Sampling) -> tuple[dict[str, float], list[Completion]]:
    """One call, and what it took."""
    team = workers_of(engine)
    before, begin = [processor_s(worker) for worker in team], time.perf_counter()
    found = engine.generate(requests, sampling)
    wall = time.perf_counter() - begin
    spent = [processor_s(worker) - past for worker, past in zip(team, before, strict=True)]
    return {"wall_s": wall, "worker_s": max(spent), "all_s": sum(spent)}, found


def gap(one: list[float], two: list[float]) -> float:
    """Difference of means in standard errors."""
    error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(two) / len(two))
    return round((statistics.fmean(two) - statistics.fmean(one)) / error, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="vllm", choices=["vllm", "torch"])
    parser.add_argument("--cluster", default="ray", choices=["ray", "processes"])
    parser.add_argument("--rows", type=int, default=256, help="requests of a call")
    parser.add_argument("--part", type=int, default=32, help="requests that a worker takes at a time")
    parser.add_argument("--new", type=int, default=48, help="most sampled tokens of each")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    pools = {"one": started(args, 1)}
    try:
        pools["two"] = started(args, 2)
        sampling = Sampling(1.0, (2, 3, 5))
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in pools}
        lengths: dict[str, list[float]] = {name: [] for name in pools}
        logprobs: dict[str, list[float]] = {name: [] for name in pools}
        same = {name: call(pool, asked(args, -1), sampling)[1] for name, pool in pools.items()}  # warms up, too
        for turn in range(args.rounds):
            for place, name in enumerate(sorted(pools, reverse=bool(turn % 2))):
                took, found = call(pools[name], asked(args, 2 * turn + place), sampling)
                figures[name].append(took)
                lengths[name] += [len(answer.ids) for answer in found]
                logprobs[name] += [statistics.fmean(answer.logprobs) for answer in found]
    finally:
        for pool in reversed(pools.values()):
            pool.close()
    medians = {
        name: {key: round(statistics.median(took[key] for took in rounds), 3) for key in rounds[0]}
        for name, rounds in figures.items()
    }
    equal = [a.ids == b.ids for a, b in zip(same["one"], same["two"], strict=True)]
    ratio = [
        {
            "saved": one["worker_s"] / two["worker_s"],
            "overhead": two["all_s"] / one["all_s"],
            "wall": one["wall_s"] / two["wall_s"],
        }
        for one, two in zip(figures["one"], figures["two"], strict=True)
    ]
    result = {
        "arguments": vars(args),
        **medians,
        "ratios": {key: round(statistics.median(r[key] for r in ratio), 2) for key in ratio[0]},
        "samples": {
            "equal": round(statistics.fmean(equal), 4),
            "length": gap(lengths["one"], lengths["two"]),
            "logprob": gap(logprobs["one"], logprobs["two"]),
            "completions": len(lengths["one"]),
        },
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
