"""Pictures inside of a page: SVG without ids that clash, in the page's own colours and letters.

matplotlib draws with stand-in colours; what leaves here names CSS variables (``--ink``, ``--faint``, ``--s0`` ...), so
that the page decides how a picture looks by day, by night and on paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.log.figures import frame

SERIES = 8  # colours of a page; more series come back to them with broken lines
CROWD = 6  # curves in one picture above which their bands would hide each other, and are left out
INK, FAINT = "#fe0001", "#fe0002"
Band = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]  # x, middle, low, high


@dataclass(frozen=True)
class End:
    """A value with its interval, drawn to the right of the curves."""

    middle: float
    low: float
    high: float


def bands(
    lines: Mapping[int, Band],
    xlabel: str,
    ylabel: str,
    name: str,
    ends: Mapping[int, End] | None = None,
    steps: bool = False,
) -> str:
    """Curves with bands as an ``<svg>``; ``lines`` and ``ends`` by the number of the series. ``steps``: draw stairs.

    ``name`` is unique on the page. More than ``CROWD`` curves come without bands. Values beyond 0..1 widen the axis.
    """
    from matplotlib import rc_context

    with rc_context(_rules(name)):
        figure, axes = frame(5.2, 3.1)
        for number, (x, middle, low, high) in lines.items():
            color, dash = colour(number), "-" if number < SERIES else "--"
            how = {"drawstyle": "steps-pre"} if steps else {}
            fill = {"step": "pre"} if steps else {}
            if len(lines) <= CROWD:
                axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0, **fill)
            axes.plot(x, middle, dash, color=color, linewidth=1.6, **how)
        last = max(x[-1] for x, *_ in lines.values())
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= last * 1.001])
        _ends(axes, ends or {}, last)
        middles = [value for _, middle, _, _ in lines.values() for value in middle]
        middles += [end.middle for end in (ends or {}).values()]
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(min(-0.02, *middles), max(1.02, *middles)))
        return _svg(figure, axes)


def colour(number: int) -> str:
    """The stand-in for the page's colour of a series."""
    return f"#fd00{number % SERIES:02x}"


def _ends(axes: Any, ends: Mapping[int, End], last: float) -> None:
    for place, (number, end) in enumerate(ends.items()):
        x = last * (1.04 + 0.03 * place)
        axes.plot([x, x], [end.low, end.high], color=colour(number), linewidth=1.2)
        axes.plot([x], [end.middle], "o", color=colour(number), markersize=3.5)


def _rules(name: str) -> Any:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a dollar in a run's words is a dollar
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": FAINT,
    }


def _svg(figure: Any, axes: Any) -> str:
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for number in range(SERIES):
        text = text.replace(colour(number), f"var(--s{number})")
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
