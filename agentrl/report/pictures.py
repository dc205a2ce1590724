"""The pictures of a report: learning curves with bands over seeds, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from agentrl.log.curves import WINDOW, smooth
from agentrl.log.inline import Band, End, bands
from agentrl.report.arms import Arm
from agentrl.report.reading import METRICS
from agentrl.report.records import Compared
from agentrl.report.statistics import AT
from agentrl.stats import over_seeds_and_tasks

DEMONSTRATED = ("sft",)  # whose batches say nothing of the policy


def learning(arms: Sequence[Arm], found: Compared, numbers: Mapping[str, int], metric: str) -> str:
    """Training plays of one environment over the optimiser steps, and at the right the table's means; empty without."""
    lines = {numbers[arm.label]: band for arm in arms if (band := _band(arm, metric))}
    if not lines:
        return ""
    ends = {
        numbers[one.label]: End(
            one.mean.mean, *((one.mean.low, one.mean.high) if one.mean.half else (one.mean.mean,) * 2)
        )
        for one in found.arms
    }
    ylabel = f"{metric} (running mean of {WINDOW} batches)"
    return bands(lines, "optimiser steps", ylabel, f"curves {found.env}", ends)


def profiles(found: Compared, numbers: Mapping[str, int], metric: str) -> str:
    """Share of tasks that reach at least x over an arm's runs."""
    lines: dict[int, Band] = {}
    for label, (share, low, high) in found.profiles.items():
        lines[numbers[label]] = (AT.tolist(), share.tolist(), low.tolist(), high.tolist())
    return bands(
        lines, f"{metric} of a task, mean over runs: at least", "share of tasks", f"profile {found.env}", steps=True
    )


def _band(arm: Arm, metric: str) -> Band | None:
    """Mean over the runs of an arm with Student's interval, at the steps that all of them have."""
    if arm.runs[0].method in DEMONSTRATED:
        return None
    name = f"rollout/{METRICS[metric]}"
    found = []
    for run in arm.runs:
        points = {
            line["step"]: float(line[name]) for line in run.left.metrics if isinstance(line.get(name), int | float)
        }
        found.append(dict(zip(points, smooth(list(points.values())), strict=True)))
    steps = sorted(set.intersection(*(set(points) for points in found)))
    if not steps:
        return None
    at = [over_seeds_and_tasks([{"": points[step]} for points in found]) for step in steps]
    halves = [one.half or 0.0 for one in at]
    middle = [one.mean for one in at]
    if not all(math.isfinite(value) for value in middle):
        return None
    low = [m - h for m, h in zip(middle, halves, strict=True)]
    high = [m + h for m, h in zip(middle, halves, strict=True)]
    return [float(step) for step in steps], middle, low, high
