"""What an arm cost: episodes, tokens and engine calls of its exploration, processor time; the mean over its runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentrl.report.arms import Arm
from agentrl.report.reading import Run


@dataclass(frozen=True)
class Cost:
    """Means over the runs of an arm; None where no run says it.

    episodes  played to learn from, what was explored included
    tokens    sampled in them
    calls     of the engine, those of evaluations included
    cpu_s, wall_s  seconds of a run; gpu_s: of the GPUs it held, used or not
    warm_s    seconds of the warm start, which several arms may share
    """

    label: str
    env: str
    episodes: float | None
    tokens: float | None
    calls: float | None
    cpu_s: float | None
    gpu_s: float | None
    wall_s: float | None
    warm_s: float | None


def cost(arm: Arm) -> Cost:
    """The cost of an arm."""

    def mean(of: Callable[[Run], float | None]) -> float | None:
        found = [value for run in arm.runs if (value := of(run)) is not None]
        return statistics.fmean(found) if found else None

    return Cost(
        arm.label,
        arm.env,
        *(mean(of) for of in (_episodes, _tokens, _calls, _seconds("cpu"), _gpu, _seconds("all"), _warm)),
    )


def costs(arms: Sequence[Arm]) -> list[Cost]:
    """The costs of the arms, in their order."""
    return [cost(arm) for arm in arms]


def _episodes(run: Run) -> float | None:
    found = run.left.summary.get("episodes")
    return None if found is None else float(found)


def _tokens(run: Run) -> float | None:
    found = [line["rollout/tokens"] for line in run.left.metrics if isinstance(line.get("rollout/tokens"), int | float)]
    return float(sum(found)) if found else None


def _calls(run: Run) -> float | None:
    path = run.folder / "calls.jsonl"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return float(sum(1 for _ in file))


def _seconds(name: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        found = run.left.summary.get("time_s", {}).get(name)
        return None if found is None else float(found)

    return read


def _gpu(run: Run) -> float | None:
    """Seconds times GPUs that the machine shows; None on a CPU."""
    if not str(run.facts.get("model", {}).get("place", "")).startswith("cuda"):
        return None
    gpus = len(run.facts.get("provenance", {}).get("machine", {}).get("gpus", [])) or 1
    wall = _seconds("all")(run)
    return None if wall is None else wall * gpus


def _warm(run: Run) -> float | None:
    found = run.facts.get("warmstart", {}).get("seconds")
    return None if found is None else float(found)
