"""Run the learning studies of the README: several arms x seeds through the real command line, then one table and one picture.

    python scripts/learning_study.py demo    # VSPO against continued SFT, reward-filtered SFT (equal compute)
    python scripts/learning_study.py wide    # VSPO against GRPO on goals of widely spread difficulty (equal rollouts)

Each run uses one thread; ``--workers`` run at once. Finished runs (summary.json says done) are not run again, so a study that was
interrupted goes on where it stopped. The arms differ in nothing but the overrides listed here. Compute is compared by
processor seconds, which a busy machine distorts less than wall time.
"""

from __future__ import annotations

import argparse
import json
import os
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
    found = {arm: [summary(folder) for name, _, folder in jobs if name == arm] for arm in arms}
    folder = options.out / options.study
    text = table(found)
    (folder / "table.md").write_text(text)
    print(text)
    picture({arm: [job[2] for job in jobs if job[0] == arm] for arm in arms}, folder / "curves.png")


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


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| arm | sampled before | sampled after (mean ± 95 % over seeds) | each seed | greedy after | episodes | CPU-seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, runs in found.items():
        before = [r["eval"]["before"]["sampled"]["success"] for r in runs]
        after = [r["eval"]["after"]["sampled"]["success"] for r in runs]
        greedy = [r["eval"]["after"]["greedy"]["success"] for r in runs]
        lines.append(
            f"| {arm} | {statistics.fmean(before):.3f} | **{interval(after)}** | {' '.join(f'{v:.3f}' for v in after)} | {interval(greedy)} "
            f"| {statistics.fmean(r['episodes'] for r in runs):,.0f} | {statistics.fmean(r['time_s']['cpu'] for r in runs):.0f} |"
        )
    return "\n".join(lines) + "\n"


def picture(folders: dict[str, list[Path]], path: Path) -> None:
    """Training success of every seed (thin) and their mean (thick), with the held-out success after training (marks)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for number, (arm, runs) in enumerate(folders.items()):
        curves = [
            [
                (m["step"], m["rollout/success"])
                for m in map(json.loads, (f / "metrics.jsonl").open())
                if "rollout/success" in m
            ]
            for f in runs
        ]
        after = [summary(folder)["eval"]["after"]["sampled"]["success"] for folder in runs]
        last = max(step for step, _ in curves[0])
        if not arm.startswith(
            ("continued", "SFT")
        ):  # demonstrations succeed as the demonstrator does, not as the policy
            for curve in curves:
                axes.plot(
                    [s / last for s, _ in curve], [v for _, v in curve], color=f"C{number}", alpha=0.2, linewidth=0.8
                )
            mean = [(s / last, statistics.fmean(c[i][1] for c in curves)) for i, (s, _) in enumerate(curves[0])]
            axes.plot([s for s, _ in mean], [v for _, v in mean], color=f"C{number}", linewidth=2)
        axes.plot(
            [1.02 + 0.02 * number] * len(after), after, "o", color=f"C{number}", label=f"{arm}: held-out after training"
        )
    before = [summary(folder)["eval"]["before"]["sampled"]["success"] for runs in folders.values() for folder in runs]
    axes.plot([0], [statistics.fmean(before)], "k*", label="held-out before training")
    axes.set(xlabel="share of the run", ylabel="success, sampled at T = 1", ylim=(0, 1))
    axes.legend(fontsize="small", loc="upper left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
