"""Ways of weights from the learner to its workers, side by side: seconds of a push until every worker has them.

host:      through this machine's memory, in a file
shared:    one copy on the learner's device that workers open by a handle (CUDA IPC on a GPU)
broadcast: sent to all at once (NCCL between GPUs, gloo between CPUs)

Each way has workers of its own; the ways take turns, and medians over the rounds are printed with their ratio to the
way through the host. ``wall_s`` counts everything that the machine does at the time; ``all_s`` are processor seconds of
the run and its workers together. Random weights in the shape of Qwen3-0.6B unless told otherwise; on a CPU take a small
shape. GPUs: ``shared`` puts its workers on the learner's, ``broadcast`` on the next ones, ``host`` wherever ``shared``
does.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time

import psutil
import torch
from bench_gpu import VOCABULARY, nudge, random_model

from agentrl.cluster.base import EngineSettings
from agentrl.cluster.pool import PoolEngine
from agentrl.cluster.processes import Processes
from agentrl.device import resolve_device
from agentrl.engine.torch_engine import Torch
from agentrl.engine.vllm_engine import VLLM
from agentrl.model import Policy
from agentrl.sync import pushed


def ways(asked: list[str], workers: int) -> dict[str, list[str]]:
    """Each way that this machine allows, with the devices of its workers (none: cores)."""
    gpus = torch.cuda.device_count()
    if not gpus:
        return {way: [] for way in asked}
    same = ["cuda:0"] * workers
    places = {"host": same, "shared": same, "broadcast": [f"cuda:{1 + number}" for number in range(workers)]}
    return {way: places[way] for way in asked if way != "broadcast" or gpus > workers}


def processor_s(engine: PoolEngine) -> float:
    """Of this process and the workers."""
    team = [psutil.Process(), *(psutil.Process(worker.pid) for worker in engine._workers)]  # type: ignore[attr-defined]
    return float(sum(sum(one.cpu_times()[:2]) for one in team))


def push(policy: Policy, engine: PoolEngine, version: int) -> tuple[float, float]:
    """(wall, processor) seconds."""
    before, begin = processor_s(engine), time.perf_counter()
    engine.load(pushed(policy, engine), version)
    return time.perf_counter() - begin, processor_s(engine) - before


def settings(args: argparse.Namespace) -> EngineSettings:
    if args.engine == "torch":
        return Torch("float32" if args.device == "cpu" else "bfloat16", 8)
    return VLLM("auto", 8, 256, 32, 0.2, True, True, False, args.lora)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=["host", "shared", "broadcast"])
    parser.add_argument("--engine", default="torch", choices=["torch", "vllm"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--rank", type=int, default=0, help="of adapters; 0 = all weights are trained")
    parser.add_argument("--lora", default="auto", help="engine.lora of vLLM")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    args.device = resolve_device(args.device).type
    with tempfile.TemporaryDirectory() as folder:
        source = random_model(folder, args, 64, 256, args.rank)
        policy = source.build(args.device)
        pools: dict[str, PoolEngine] = {}
        took: dict[str, list[tuple[float, float]]] = {}
        try:
            for way, places in ways(args.ways, args.workers).items():
                cluster = Processes(args.workers, 8, 300.0, 120.0, 0, 1, places, way)
                pools[way] = cluster.start(settings(args), source, args.device)
                push(policy, pools[way], 1)  # a group is formed by the first one
                took[way] = []
            for version in range(2, args.rounds + 2):
                nudge(policy)
                for way in random.Random(version).sample(list(pools), len(pools)):
                    took[way].append(push(policy, pools[way], version))
                sums = {way: str(pool.checksum() or pool.logprobs([tuple(range(16))])) for way, pool in pools.items()}
                if len(set(sums.values())) > 1:
                    raise SystemExit(f"the ways brought different weights at version {version}: {sums}")
        finally:
            for pool in reversed(pools.values()):
                pool.close()
    walls = {way: statistics.median(wall for wall, _ in times) for way, times in took.items()}
    cores = {way: statistics.median(core for _, core in times) for way, times in took.items()}
    base = next(iter(pools))
    found = {
        way: {
            "wall_s": round(walls[way], 4),
            f"wall_to_{base}": round(walls[way] / walls[base], 2),
            "all_s": round(cores[way], 3),
            f"all_to_{base}": round(cores[way] / max(cores[base], 1e-9), 2),
        }
        for way in pools
    }
    size = sum(weight.numel() for weight in policy.parameters())
    print(json.dumps({"arguments": vars(args), "trained": size, "ways": found}, indent=1))


if __name__ == "__main__":
    main()
