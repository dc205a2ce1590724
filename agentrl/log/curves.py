"""Learning curves of several runs of several arms as one picture."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentrl.log.files import read_lines

WINDOW = 5  # batches in the running mean of a curve


def curves(arms: Mapping[str, Sequence[Path]], metric: str, path: Path, title: str) -> bool:
    """Draw ``metric`` over the steps of training: each seed thin, the mean of an arm's seeds thick.

    Arms that log no such metric are left out; False, and no picture, when that leaves none.
    """
    drawn = {name: [points for run in runs if (points := _points(run, metric))] for name, runs in arms.items()}
    drawn = {name: found for name, found in drawn.items() if found}
    if not drawn:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, found) in enumerate(drawn.items()):
        color = f"C{number % 10}"
        style = "-" if number < 10 else "--"
        for points in found:
            axes.plot(list(points), _smooth(list(points.values())), color=color, alpha=0.25, linewidth=0.8)
        steps = sorted(set.intersection(*(set(points) for points in found)))
        mean = _smooth([statistics.fmean(points[step] for points in found) for step in steps])
        axes.plot(steps, mean, style, color=color, linewidth=2, label=name)
    axes.set(xlabel="optimiser steps", ylabel=f"{metric} (running mean of {WINDOW} batches)")
    axes.set_title(textwrap.fill(title, 70), fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
    return True


def _points(run: Path, metric: str) -> dict[int, float]:
    lines = read_lines(run / "metrics.jsonl")
    return {line["step"]: float(line[metric]) for line in lines if isinstance(line.get(metric), int | float)}


def _smooth(values: Sequence[float]) -> list[float]:
    return [statistics.fmean(values[max(0, i - WINDOW + 1) : i + 1]) for i in range(len(values))]
