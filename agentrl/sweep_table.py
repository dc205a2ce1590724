"""What the runs of a sweep came to: one row for each arm, with means and intervals over its seeds and tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.log.files import read_json, read_lines
from agentrl.stats import Interval, over_seeds_and_tasks

DASH = "-"  # where nothing was measured
HEAD = ("runs", "success, sampled", "greedy", "episodes", "CPU-s")


def measured(runs: Iterable[tuple[str, Path, bool]]) -> dict[str, dict[str, Any]]:
    """Of ``(arm, folder, done)``, for each arm in the given order: ``runs``, ``done``, success on the held-out panel of
    the finished runs (``sampled``, ``greedy``: :class:`Interval`), ``episodes`` and ``cpu_s`` (means)."""
    every = list(runs)
    rows = {}
    for arm in dict.fromkeys(arm for arm, _, _ in every):
        mine = [(folder, done) for name, folder, done in every if name == arm]
        left = [folder for folder, done in mine if done]
        summaries = [read_json(path / "summary.json") for path in left]
        plays = [read_lines(path / "evaluations.jsonl") for path in left]
        rows[arm] = {
            "runs": len(mine),
            "done": len(left),
            **{how: over_seeds_and_tasks([_success(run, how) for run in plays]) for how in ("sampled", "greedy")},
            "episodes": _mean([s.get("episodes") for s in summaries]),
            "cpu_s": _mean([s["time_s"].get("cpu") for s in summaries]),
        }
    return rows


def show(rows: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Print the rows as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE)
    table.add_column("")
    for name in HEAD:
        table.add_column(name, justify="right")
    for arm, row in rows.items():
        table.add_row(
            arm,
            f"{row['done']}/{row['runs']}",
            _interval(row["sampled"]),
            _interval(row["greedy"]),
            *(DASH if row[name] is None else f"{row[name]:,.0f}" for name in ("episodes", "cpu_s")),
        )
    Console(soft_wrap=True, width=None if Console().is_terminal else 160).print(table)


def as_json(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The rows as JSON keeps them."""
    return {
        arm: {name: _plain(value) if isinstance(value, Interval) else value for name, value in row.items()}
        for arm, row in rows.items()
    }


def _plain(value: Interval) -> dict[str, float | None]:
    return {"mean": None if math.isnan(value.mean) else value.mean, "half": value.half}


def _interval(value: Interval) -> str:
    if math.isnan(value.mean):
        return DASH
    return f"{value.mean:.3f}" + (f" ± {value.half:.3f}" if value.half is not None else "")


def _success(plays: Sequence[Mapping[str, Any]], decoding: str) -> dict[str, float]:
    """Success by task, of the plays after training (or of ``agentrl eval``)."""
    found: dict[str, dict[int, float]] = {}
    for play in plays:
        if play["moment"] in ("after", "eval") and play["decoding"] == decoding and play["success"] is not None:
            found.setdefault(play["task"], {})[play["member"]] = float(play["success"])
    return {task: sum(values.values()) / len(values) for task, values in found.items()}


def _mean(values: Sequence[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
