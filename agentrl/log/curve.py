"""The learning curve of a run as a picture, from its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.errors import DataError
from agentrl.log.figures import frame
from agentrl.log.files import read_lines
from agentrl.stats import wilson

Line = Mapping[str, Any]


def curve(run_dir: Path, title: str) -> Path:
    """Draw ``curve.png``: training success with its 95 % band, training reward, and the panels' success.

    Raises DataError when metrics.jsonl holds no training step.
    """
    lines = read_lines(run_dir / "metrics.jsonl")
    train = [line for line in lines if "rollout/success" in line]
    if not train:
        raise DataError(f"{run_dir / 'metrics.jsonl'}: no training step to draw; expected lines with rollout/success")
    from matplotlib.ticker import MaxNLocator

    figure, axes = frame(7.5, 4.5)
    _draw_training(axes, train)
    for color, decoding, marker in (("C1", "sampled", "o"), ("C2", "greedy", "s")):
        _draw_panels(axes, lines, decoding, color, marker)
    low, high = axes.get_ylim()
    axes.set(xlabel="optimiser steps", ylabel="success, reward", title=title, ylim=(min(-0.02, low), max(1.02, high)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    path = run_dir / "curve.png"
    figure.savefig(path, dpi=120)
    return path


def _draw_training(axes: Any, train: Sequence[Line]) -> None:
    steps = [line["step"] for line in train]
    success = [line["rollout/success"] for line in train]
    bands = [_interval(line["rollout/success"], line["rollout/episodes"] - line["rollout/failed"]) for line in train]
    axes.fill_between(steps, [low for low, _ in bands], [high for _, high in bands], color="C0", alpha=0.2, linewidth=0)
    axes.plot(steps, success, color="C0", label="training success (95 % band)")
    axes.plot(steps, [line["rollout/reward"] for line in train], color="C7", linewidth=1, label="training reward")


def _draw_panels(axes: Any, lines: Sequence[Line], decoding: str, color: str, marker: str) -> None:
    """Success on held-out panels before, during and after training, with 95 % intervals."""
    points = [
        (line["step"], line[f"{panel}/{decoding}_success"], line[f"{panel}/{decoding}_n"])
        for line in lines
        for panel in ("before", "val", "after")
        if f"{panel}/{decoding}_success" in line
    ]
    if points:
        bars = [_bars(share, *_interval(share, n)) for _, share, n in points]
        axes.errorbar(
            [step for step, _, _ in points],
            [share for _, share, _ in points],
            yerr=list(zip(*bars, strict=True)),
            fmt=marker,
            color=color,
            capsize=3,
            label=f"held-out success, {decoding} (95 %)",
        )


def _interval(share: float, count: float) -> tuple[float, float]:
    return wilson(round(share * count), round(count))


def _bars(share: float, low: float, high: float) -> tuple[float, float]:
    """Lengths of the two halves of an error bar; rounding may leave the share just outside of its interval."""
    return max(share - low, 0.0), max(high - share, 0.0)
