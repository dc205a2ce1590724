"""The frame of every picture: a figure without a window, its axes without a box."""

from __future__ import annotations

from typing import Any


def frame(width: float, height: float) -> tuple[Any, Any]:
    """A matplotlib figure of so many inches and its axes; ``figure.savefig`` writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes
