"""A profile from the files of a finished run: what they give, as values of conf/plan.yaml, and where each is from."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agentrl import config
from agentrl.engine.recorded import CALLS
from agentrl.errors import DataError
from agentrl.log.files import read_json, read_lines
from agentrl.plan.profile import Numbers, Recording

Line = Mapping[str, Any]
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes of a weight
OUTLIER = 3.0  # median deviations beyond which a measurement is left out of a fit
ALIKE = 1.5  # times the tokens of the smallest batch: below, batches are of about one size
LEAST = 1e-9  # of a speed, where a fit finds none


@dataclass
class Reading:
    """``values``: key of conf/plan.yaml -> value; ``told``: the same key or a part of it -> the file it is from."""

    recording: Recording
    values: dict[str, Any] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def take(self, source: str, **values: Any) -> None:
        """Keep values; ``__`` in a name stands for a dot."""
        for name, value in values.items():
            key = name.replace("__", ".")
            self.values[key] = round(value, 9) if isinstance(value, float) else value
            self.told[key] = source


def read(folder: Path, also: Sequence[Path] = ()) -> Reading:
    """The profile of the run in ``folder``; of runs with batches of other sizes (``also``) the learner's seconds alone.
    Raises ConfigError when there is none, DataError when one lacks a file."""
    cfg = config.load(folder / "config.yaml")
    metrics = _metrics(folder)
    others = [line for other in also for line in _metrics(other)]
    lines = read_lines(folder / "trajectories.jsonl")
    if not any(line["turns"] for line in lines):
        raise DataError(
            f"run={folder}: trajectories.jsonl holds no turn; the profile needs them: run with log.files.trajectories=1"
        )
    group_size = int(cfg.rollout.get("group_size", 1))
    found = Reading(Recording(_groups(lines), group_size))
    _shape(found, cfg)
    _learner(found, metrics, others, read_json(folder / "summary.json"), cfg)
    calls = read_lines(folder / CALLS)
    if calls:
        _calls(found, calls, metrics, cfg)
    else:
        _without_calls(found, metrics)
    return found


def _metrics(folder: Path) -> Sequence[Line]:
    """Of the training steps but the first, which also warms things up. Raises DataError."""
    found = [line for line in read_lines(folder / "metrics.jsonl") if "time/rollout" in line and "time/learner" in line]
    if not found or not (folder / "summary.json").is_file():
        raise DataError(
            f"run={folder}: metrics.jsonl has {len(found)} training steps and summary.json is "
            f"{'there' if (folder / 'summary.json').is_file() else 'missing'}; expected a finished run of agentrl train"
        )
    return found[1:] or found


def _by_group(lines: Sequence[Line]) -> list[list[Line]]:
    """The plays of each group that has turns, copies and failed plays left out."""
    groups: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in lines:
        if line["turns"] and not line.get("copy") and line["stop"] not in ("env_error", "forked"):
            groups[(line["step"], line["group"])].append(line)
    return list(groups.values())


def _groups(lines: Sequence[Line]) -> list[list[Numbers]]:
    """[group][play][turn, 2]: tokens to read, sampled tokens. A prompt that several plays of a group share at a turn
    is read once, so each of them has its part of it; the first is given in full."""
    found = []
    for group in _by_group(lines):
        shared: dict[tuple[int, tuple[int, ...]], int] = defaultdict(int)
        for play in group:
            for index, turn in enumerate(play["turns"]):
                shared[index, tuple(turn["prompt_ids"])] += 1
        plays = []
        for play in group:
            pairs = [
                (len(turn["prompt_ids"]) / (shared[i, tuple(turn["prompt_ids"])] if i else 1), len(turn["action_ids"]))
                for i, turn in enumerate(play["turns"])
            ]
            plays.append(np.array(pairs, dtype=np.float64))
        found.append(plays)
    return found


def _shape(found: Reading, cfg: Any) -> None:
    """Tasks, groups, and the episodes' spreads (for a what-if that changes one of them)."""
    learner = cfg.learner
    updates = int(learner.get("minibatches", 1)) * int(learner.get("epochs", 1))
    found.take("config.yaml", tasks_per_step=int(cfg.tasks_per_step), episodes__group_size=found.recording.group_size)
    found.take("config.yaml", steps=max(1, int(cfg.steps) // updates))
    plays = [play for group in found.recording.groups for play in group]
    turns = [float(len(play)) for play in plays]
    tokens = [float(value) for play in plays for value in play[:, 1]]
    found.take(
        "trajectories.jsonl",
        **_spread("episodes__turns", turns),
        **_spread("episodes__tokens", tokens),
        episodes__first_prompt=statistics.fmean(play[0, 0] for play in plays),
        episodes__prompt=statistics.fmean([value for play in plays for value in play[1:, 0]] or [0.0]),
    )


def _spread(key: str, values: Sequence[float]) -> dict[str, float]:
    mean = statistics.fmean(values)
    return {f"{key}__mean": mean, f"{key}__cv": statistics.pstdev(values) / mean, f"{key}__most": max(values)}


def _learner(found: Reading, metrics: Sequence[Line], others: Sequence[Line], summary: Line, cfg: Any) -> None:
    both = [*metrics, *others]
    tokens = np.array([line["rollout/tokens"] for line in both])
    seconds = np.array([line["time/learner"] for line in both])
    fixed, per_token = fit(np.stack([np.ones(len(tokens)), tokens], 1), seconds)
    found.take("metrics.jsonl", learner__fixed_s=fixed, learner__per_token_s=per_token, learner__gpus=1)
    if tokens.max() < ALIKE * tokens.min():
        found.missing.append(
            "learner.fixed_s: all batches are of about one size, which tells little of it; a run with fewer "
            "tasks_per_step tells more (also=[RUN])"
        )
    push = statistics.median(line.get("time/sync", 0.0) for line in metrics)
    weights = summary["facts"]["model"]["parameters"] * SIZES.get(str(cfg.model.get("dtype")), 4) / 1e9
    found.take("metrics.jsonl", push__fixed_s=push, push__per_gb_s=0.0)
    found.take("summary.json", push__gb=weights)
    other = statistics.median(line.get("time/refill", 0.0) + line.get("time/log", 0.0) for line in metrics)
    found.take("metrics.jsonl", loop__other_s=other)
    found.missing.append("push.per_gb_s: one size of weights was pushed, so a push costs the same whatever push.gb")
    found.take("config.yaml", loop__switch_s=0.0)  # engine and learner of one process stay in memory
    found.missing.append("learner.efficiency: the learner ran on one device")


def _calls(found: Reading, calls: Sequence[Line], metrics: Sequence[Line], cfg: Any) -> None:
    """The engine's speed from its calls, the environment's from what lies between them."""
    engines, part = int(cfg.cluster.get("workers", 1)), int(cfg.cluster.get("part", 0))
    side = np.array([min(engines, call["parts"]) for call in calls])  # parts computed at once
    table = np.array([[call[name] for name in ("parts", "read", "iterations", "tokens")] for call in calls])
    seconds = np.array([call["seconds"] for call in calls])
    call_s, read_s, iteration_s, token_s = fit(table / side[:, None], seconds)
    most = max(-(-call["rows"] // call["parts"]) for call in calls)
    rows = sorted({1.0, float(max(2, most // 4)), float(max(4, most))})
    found.take(
        CALLS,
        engine__rows=rows,
        engine__tokens_per_s=[round(n / max(iteration_s + token_s * n, LEAST), 3) for n in rows],
        engine__read_per_s=1 / max(read_s, LEAST),
        engine__call_s=call_s,
        engine__gpus=1,
    )
    found.take("config.yaml", engine__part=part)
    if limit := int(cfg.engine.get("max_batch") or 0):
        found.take("config.yaml", engine__max_batch=limit)
    if engines > 1:
        found.missing.append(
            f"one engine's speed: the run had {engines} side by side; a run of one gives it more exactly"
        )
    pairs = list(_pairs(calls))
    if not pairs:
        if any(call.get("stream") for call in calls):
            found.missing.append("env.step_s, env.start_s: in a run that flows, calls do not wait for environments")
        return
    gaps = np.array([after["begin"] - before["begin"] - before["seconds"] for before, after in pairs])
    (step_s,) = fit(np.array([[float(before["rows"])] for before, _ in pairs]), gaps)
    starts = list(_starts(calls, metrics, step_s))
    found.take(CALLS, env__step_s__mean=step_s, env__parallel=1)
    found.take(CALLS, env__start_s=max(0.0, statistics.median(starts)) if starts else 0.0)
    found.missing.append(
        "env.step_s.cv: calls tell the environment's mean alone (its seconds hold the prompts' making)"
    )


def _pairs(calls: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """Calls that follow each other within one rollout in lockstep: no new weights, and no more rows than before."""
    for before, after in itertools.pairwise(calls):
        if (
            not (before.get("stream") or after.get("stream"))
            and before["version"] == after["version"]
            and before["rows"] >= after["rows"]
            and before["begin"] < after["begin"]
        ):
            yield before, after


def _starts(calls: Sequence[Line], metrics: Sequence[Line], step_s: float) -> Iterator[float]:
    """Seconds to begin an episode, from each batch whose calls are those of its rollout alone."""
    by_version: dict[int, list[Line]] = defaultdict(list)
    for call in calls:
        by_version[call["version"]].append(call)
    steps = [int(line["step"]) for line in metrics]
    for before, line in zip(steps, metrics[1:], strict=False):
        own = by_version[before]
        if own and sum(call["rows"] for call in own) == round(line["rollout/turns"] * line["rollout/episodes"]):
            lasted = own[-1]["begin"] + own[-1]["seconds"] - own[0]["begin"] + own[-1]["rows"] * step_s
            yield (line["time/rollout"] - lasted) / line["rollout/episodes"]


def _without_calls(found: Reading, metrics: Sequence[Line]) -> None:
    """One speed for all sizes of a batch: tokens over the seconds of whole rollouts, whatever they were spent on."""
    speed = statistics.median(line["rollout/tokens"] / line["time/rollout"] for line in metrics)
    found.take(
        "metrics.jsonl",
        engine__rows=[1.0],
        engine__tokens_per_s=[speed],
        engine__read_per_s=1 / LEAST,
        engine__call_s=0.0,
        engine__gpus=1,
        env__step_s__mean=0.0,
        env__start_s=0.0,
    )
    found.missing.append(
        f"what a rollout's seconds are spent on: the run has no {CALLS}; all of them count as sampling"
    )


def fit(table: Numbers, seconds: Numbers) -> list[float]:
    """Coefficients, at least 0, of ``seconds`` over the columns of ``table``; least squares of errors relative to what
    the fit before gives (relative to noisy measurements they would come out too low).

    A column whose coefficient would be negative is left out; so are measurements far off, twice.
    """
    good = seconds > 0
    size = seconds
    found = np.zeros(table.shape[1])
    for _ in range(4):
        weighted, wanted = table[good] / size[good, None], seconds[good] / size[good]
        kept = [i for i in range(table.shape[1]) if weighted[:, i].any()]
        found = np.zeros(table.shape[1])
        while kept:
            scale = np.linalg.norm(weighted[:, kept], axis=0)
            solved = np.linalg.lstsq(weighted[:, kept] / scale, wanted, rcond=1e-6)[0] / scale
            if solved.min() >= 0:
                found[kept] = solved
                break
            kept.pop(int(np.argmin(solved * scale)))
        size = np.maximum(table @ found, LEAST)
        off = np.abs(seconds / size - 1)
        good = (seconds > 0) & (off <= np.maximum(OUTLIER * np.median(off[good]), 0.05)) if good.any() else good
    return [float(value) for value in found]
