"""The learning curve of a run as a picture, from its metrics.jsonl."""

from __future__ import annotations

from pathlib import Path

from agentrl.errors import DataError
from agentrl.log.files import read_lines
from agentrl.stats import wilson


def curve(run_dir: Path) -> Path:
    """Draw ``curve.png``: training success with its 95 % band, training reward, and the panels' success.

    Raises DataError when metrics.jsonl holds no training step.
    """
    lines = read_lines(run_dir / "metrics.jsonl")
    train = [line for line in lines if "rollout/success" in line]
    if not train:
        raise DataError(f"{run_dir / 'metrics.jsonl'}: no training step to draw; expected lines with rollout/success")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [line["step"] for line in train]
    bands = [_band(line["rollout/success"], line["rollout/episodes"] - line["rollout/failed"]) for line in train]
    axes.plot(steps, [line["rollout/success"] for line in train], color="C0", label="training success (95 % band)")
    axes.fill_between(steps, [low for low, _ in bands], [high for _, high in bands], color="C0", alpha=0.2, linewidth=0)
    axes.plot(steps, [line["rollout/reward"] for line in train], color="C7", linewidth=1, label="training reward")
    for color, decoding, marker in (("C1", "sampled", "o"), ("C2", "greedy", "s")):
        points = [
            (line["step"], line[name])
            for line in lines
            for panel in ("before", "val", "after")
            if (name := f"{panel}/{decoding}_success") in line
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker, color=color, label=f"held-out success, {decoding}")
    axes.set(xlabel="optimiser steps", ylim=(min(0.0, *axes.get_ylim()), 1.02), title=run_dir.name)
    axes.legend(loc="best", fontsize="small")
    axes.grid(alpha=0.3)
    path = run_dir / "curve.png"
    figure.savefig(path, dpi=120)
    return path


def _band(share: float, count: float) -> tuple[float, float]:
    return wilson(round(share * count), round(count))
