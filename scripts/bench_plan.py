"""How well `agentrl plan` predicts: short local runs of `env=webshop` against what it says of them.

For each seed a profile is taken from a run with one rollout worker, and of one with half the tasks the learner's
seconds; it predicts runs with two workers, and with numbers of tasks and plays that the profile never saw. Printed are
seconds per step (rollout, learner, push and the rest), predicted, measured and their ratio. The policy hardly moves
(learner.lr=1e-6), since the plan assumes that episodes stay as they are.

`--clock wall` measures as any run does; it wants a machine with a core for each worker and nothing else to do.
`--clock cpu` (default) counts processor time along the longest chain instead: this process's own, and while it waits
for workers that of the one which worked most. It says how long a step would take on idle cores, and leaves out what
costs no processor time, as the latency of pipes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from agentrl import config, loop, measure, run
from agentrl.engine import recorded
from agentrl.log.files import read_lines
from agentrl.plan.profile import Placement
from agentrl.plan.reading import Reading, read
from agentrl.plan.report import profiled
from agentrl.plan.search import Planner, Split
from agentrl.run import Run
from agentrl.summary import summary

PHASES = ("rollout", "refill", "learner", "sync", "log")
CASES = (  # workers, tasks per step, plays per task: the profile's two, then what is predicted
    (1, 16, 8),
    (1, 8, 8),
    (2, 16, 8),
    (2, 8, 8),
    (1, 16, 4),
    (2, 32, 8),
)
PROFILE = 2


class LongestChain:
    """Stands for the module ``time``: processor seconds, and ``waited`` ones of the busiest worker."""

    waited = 0.0

    def perf_counter(self) -> float:
        return time.process_time() + self.waited

    def process_time(self) -> float:
        return time.process_time()


class Watched:
    """An engine whose workers' processor time is counted while it is asked."""

    def __init__(self, engine: Any, clock: LongestChain) -> None:
        self._engine, self._clock = engine, clock
        self._workers = [child.pid for child in psutil.Process().children(recursive=True)]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._counted(found) if name in ("generate", "load", "checksum", "logprobs") else found

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            before = [worked(pid) for pid in self._workers]
            found = function(*args)
            self._clock.waited += max(worked(pid) - old for pid, old in zip(self._workers, before, strict=True))
            return found

        return call


def worked(pid: int) -> float:
    """Processor seconds of a process so far, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def count_processor_time() -> None:
    """From now on runs are measured along the longest chain of processor time."""
    clock = LongestChain()
    original = recorded.Recorded
    modules: Sequence[ModuleType] = (measure, recorded)
    for module in modules:
        module.time = clock  # type: ignore[attr-defined]
    run.Recorded = lambda engine, *rest: original(Watched(engine, clock), *rest)  # type: ignore


def prepared(folder: Path, seed: int, batches: int, workers: int, tasks: int, plays: int) -> Run:
    """A run that has not played yet; its files will be in ``folder``."""
    words = f"""
        method=grpo env=webshop device=cpu log=files seed={seed} learner.lr=1e-6 eval.tasks=2
        cluster=processes cluster.workers={workers} tasks_per_step={tasks} rollout.group_size={plays} run_dir={folder}
    """
    cfg = config.compose("train", words.split())
    cfg.steps = batches * config.build(cfg.learner).updates
    config.check(cfg)
    return run.training_run(cfg)


def side_by_side(runs: Sequence[Run], batches: int) -> None:
    """A batch of each run in turn, so that whatever else the machine does slows all of them alike."""
    try:
        for one in runs:
            loop.push(one, moved=None)
        for _ in range(batches):
            for one in runs:
                loop.one_batch(one)
        for one in runs:
            one.log.close(summary(one, "done"))
    finally:
        for one in runs:
            one.close()


def measured(folder: Path) -> tuple[float, float]:
    """Median seconds of a step and of its rollout; the first step is left out."""
    lines = [line for line in read_lines(folder / "metrics.jsonl") if "time/rollout" in line][1:]
    steps = [sum(line.get(f"time/{phase}", 0.0) for phase in PHASES) for line in lines]
    return statistics.median(steps), statistics.median(line["time/rollout"] for line in lines)


def predicted(reading: Reading, workers: int, tasks: int, plays: int) -> tuple[float, float]:
    """Seconds of a step and of its rollout, as `agentrl plan` has them."""
    words = [f"tasks_per_step={tasks}", f"episodes.group_size={plays}", "loop.batches=16", "env.step_s.cv=0"]
    cfg = config.compose("plan", words)
    profile, _, _ = profiled(cfg, reading, [word.partition("=")[0] for word in words])
    step = Planner(profile, seed=0).step(Split(Placement.separate, workers, 1))
    return step.seconds, step.rollout_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first so many of them")
    args = parser.parse_args()
    cases = CASES[: args.cases]
    if args.clock == "cpu":
        count_processor_time()
    ratios: dict[tuple[int, ...], list[float]] = {case: [] for case in cases}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as place:
            folders = [Path(place) / str(number) for number in range(len(cases))]
            pairs = zip(folders, cases, strict=True)
            side_by_side([prepared(folder, seed, args.batches, *case) for folder, case in pairs], args.batches)
            reading = read(folders[0], folders[1:PROFILE])
            for folder, case in zip(folders, cases, strict=True):
                (step, rollout), (real, real_rollout) = predicted(reading, *case), measured(folder)
                ratios[case].append(step / real)
                line = {
                    "seed": seed,
                    **dict(zip(("workers", "tasks_per_step", "group_size"), case, strict=True)),
                    "predicted_s": round(step, 3),
                    "measured_s": round(real, 3),
                    "ratio": round(step / real, 3),
                    "rollout_ratio": round(rollout / real_rollout, 3),
                    "rest_ratio": round((step - rollout) / (real - real_rollout), 3),
                }
                print(json.dumps(line), flush=True)
    medians = {f"{w} workers, {t} x {p}": round(statistics.median(ratios[w, t, p]), 3) for w, t, p in cases}
    worst = max(abs(ratio - 1) for case in cases[PROFILE:] for ratio in ratios[case])
    print(json.dumps({"clock": args.clock, "median_ratio": medians, "worst_error": round(worst, 3)}))


if __name__ == "__main__":
    main()
