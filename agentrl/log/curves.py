"""Learning curves of several runs of several arms as one picture."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.log.figures import frame
from agentrl.log.files import read_json, read_lines

WINDOW = 5  # batches in the running mean of a curve
HELD_OUT = {"rollout/success": "success", "rollout/return": "return"}  # what an evaluation says of the same thing


def curves(arms: Mapping[str, Sequence[Path]], metric: str, path: Path, title: str) -> bool:
    """Draw ``metric`` over the steps of training: each seed thin, the mean of an arm's seeds thick; at the right edge,
    a dot for each seed's held-out plays after training.

    Arms without such a metric have no line, nor have those that learn from demonstrations, whose batches say nothing of
    the policy. False, and no picture, when no line is left.
    """
    drawn = {name: [points for run in runs if (points := _points(run, metric))] for name, runs in arms.items()}
    lines = {name: found for name, found in drawn.items() if found}
    if not lines:
        return False
    figure, axes = frame(9.5, 4.8)
    end = max(step for found in lines.values() for points in found for step in points)
    marked = False
    for number, (name, runs) in enumerate(arms.items()):
        color, style = f"C{number % 10}", "-" if number < 10 else "--"
        for points in lines.get(name, []):
            axes.plot(list(points), smooth(list(points.values())), style, color=color, alpha=0.25, linewidth=0.8)
        if name in lines:
            steps = sorted(set.intersection(*(set(points) for points in lines[name])))
            mean = smooth([statistics.fmean(points[step] for points in lines[name]) for step in steps])
            axes.plot(steps, mean, style, color=color, linewidth=2)
        after = [value for run in runs if (value := _held_out(run, metric)) is not None]
        marked = marked or bool(after)
        axes.plot([end * (1.03 + 0.02 * number)] * len(after), after, "o", color=color, markersize=4)
        if name in lines or after:
            axes.plot([], [], style if name in lines else "o", color=color, label=name)
    dots = "; dots: held-out plays after training" if marked else ""
    axes.set(xlabel=f"optimiser steps{dots}", ylabel=f"{metric} (running mean of {WINDOW} batches)")
    axes.set_title(textwrap.fill(title, 70), fontsize="medium")
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
    return True


def _points(run: Path, metric: str) -> dict[int, float]:
    if _summary(run).get("method") == "sft":
        return {}
    lines = read_lines(run / "metrics.jsonl")
    return {line["step"]: float(line[metric]) for line in lines if isinstance(line.get(metric), int | float)}


def _held_out(run: Path, metric: str) -> float | None:
    after = _summary(run).get("eval", {}).get("after")
    return None if after is None or metric not in HELD_OUT else float(after["sampled"][HELD_OUT[metric]])


def _summary(run: Path) -> dict[str, Any]:
    path = run / "summary.json"
    return read_json(path) if path.is_file() else {}


def smooth(values: Sequence[float]) -> list[float]:
    return [statistics.fmean(values[max(0, i - WINDOW + 1) : i + 1]) for i in range(len(values))]
