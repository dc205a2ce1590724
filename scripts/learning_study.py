"""Run the learning studies of the README: several arms x seeds through the real command line, a table and a picture.

    python scripts/learning_study.py demo    # VSPO against continued SFT and reward-filtered SFT
    python scripts/learning_study.py wide    # VSPO against GRPO on goals of widely spread difficulty, equal rollouts
    python scripts/learning_study.py worlds --seeds 3    # GRPO on each of the other bundled worlds

Each run uses one thread; ``--workers`` run at once. Finished runs (summary.json says done) are not run again, so a
study that was interrupted goes on where it stopped. The arms differ in nothing but the overrides listed here. Compute
is compared by processor seconds, which a busy machine distorts less than wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

DEMOS = ["method=sft", "tasks_per_step=128"]
STUDIES: dict[str, dict[str, list[str]]] = {
    "demo": {
        "VSPO": ["method=vspo"],
        "continued SFT": [*DEMOS, "tasks_per_step=64", "steps=200"],
        "SFT on successes": [*DEMOS, "rollout.only_success=true", "steps=320"],
    },
    "wide": {
        "VSPO": ["method=vspo", "env.difficulty=wide"],
        "GRPO": ["method=grpo", "reward=prs", "env.difficulty=wide"],
    },
    "worlds": {
        name: ["method=grpo", f"env={name}"]
        for name in ("intercode_sql", "robotouille", "search_qa", "long_qa", "tool_planning")
    },
}
T975 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 9: 2.262}  # Student's t by degrees of freedom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/studies"))
    options = parser.parse_args()
    arms = STUDIES[options.study]
    jobs = [
        (arm, seed, options.out / options.study / arm.replace(" ", "_") / str(seed))
        for seed in range(options.seeds)
        for arm in arms
    ]
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda job: run(arms[job[0]], job[1], job[2]), jobs))
    found = {arm: [folder for name, _, folder in jobs if name == arm] for arm in arms}
    folder = options.out / options.study
    text = table(found)
    (folder / "table.md").write_text(text)
    print(text)
    picture(found, folder / "curves.png")


def run(overrides: list[str], seed: int, folder: Path) -> None:
    """One training run, unless it is done already."""
    if (folder / "summary.json").is_file() and summary(folder)["status"] == "done":
        return
    command = [
        str(Path(sys.executable).with_name("agentrl")),
        "train",
        "log=files",
        *overrides,
        f"seed={seed}",
        f"run_dir={folder}",
    ]
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left behind
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    print(f"{folder}: {summary(folder)['eval']['after']['sampled']['success']:.3f}", flush=True)


def summary(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return result


def interval(values: list[float]) -> str:
    """Mean and 95 % interval over seeds (Student's t)."""
    if len(values) - 1 not in T975:
        return f"{statistics.fmean(values):.3f}"
    half = T975[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):.3f} ± {half:.3f}"


def table(found: dict[str, list[Path]]) -> str:
    """One row an arm. ``on the way``: mean training success over all batches, a measure of learning speed."""
    head = "| arm | sampled before | sampled after, mean ± 95 % over seeds | each seed | greedy after |"
    lines = [f"{head} on the way | groups without advantage | episodes | CPU-seconds |", "|---" * 9 + "|"]
    for arm, folders in found.items():
        runs = [summary(folder) for folder in folders]
        after = [success(run, "after", "sampled") for run in runs]
        cells = [
            arm,
            f"{statistics.fmean(success(run, 'before', 'sampled') for run in runs):.3f}",
            f"**{interval(after)}**",
            " ".join(f"{value:.3f}" for value in after),
            interval([success(run, "after", "greedy") for run in runs]),
            interval([mean_metric(folder, "rollout/success") for folder in folders]) if learns(arm) else "-",
            interval([mean_metric(folder, "rollout/zero_advantage") for folder in folders]) if learns(arm) else "-",
            f"{statistics.fmean(run['episodes'] for run in runs):,.0f}",
            f"{statistics.fmean(run['time_s']['cpu'] for run in runs):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def learns(arm: str) -> bool:
    """Does the arm train on its own plays? Demonstrations succeed as the demonstrator does, not as the policy."""
    return "SFT" not in arm


def success(run: dict[str, Any], moment: str, decoding: str) -> float:
    return float(run["eval"][moment][decoding]["success"])


def metric(folder: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of one metric of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def mean_metric(folder: Path, name: str) -> float:
    return statistics.fmean(value for _, value in metric(folder, name))


def picture(found: dict[str, list[Path]], path: Path) -> None:
    """Training success of every seed (thin) and their mean (thick), and held-out success after training (marks)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    last = max(metric(folders[0], "rollout/success")[-1][0] for arm, folders in found.items() if learns(arm))
    for number, (arm, folders) in enumerate(found.items()):
        color = f"C{number}"
        after = [success(summary(folder), "after", "sampled") for folder in folders]
        if learns(arm):
            curves = [metric(folder, "rollout/success") for folder in folders]
            steps = [step for step, _ in curves[0]]
            for curve in curves:
                axes.plot(steps, [value for _, value in curve], color=color, alpha=0.2, linewidth=0.8)
            mean = [statistics.fmean(curve[i][1] for curve in curves) for i in range(len(steps))]
            axes.plot(steps, mean, color=color, linewidth=2, label=f"{arm}: training batches")
        place = [last * (1.03 + 0.03 * number)] * len(after)
        axes.plot(place, after, "o", color=color, label=f"{arm}: held-out, after training")
    for number, folders in enumerate(found.values()):
        before = statistics.fmean(success(summary(folder), "before", "sampled") for folder in folders)
        label = "held-out, before training" if number == 0 else None
        axes.plot([0], [before], "*", color=f"C{number}", label=label)
    axes.set(xlabel="optimiser steps", ylabel="success, sampled at T = 1", ylim=(0, 1))
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
