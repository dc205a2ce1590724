"""Numbers about a batch of groups, and the time each phase took."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from agentrl.peaks import Peaks, blamed
from agentrl.types import Explored, Group, Stop, Trajectory

THIRDS = ("initial", "middle", "final")
SHUFFLES = 4  # deals at random that the information is compared with
MOST_DRAWN = 8  # the last bin of the histogram of candidates holds all above, too


def rollout_metrics(played: Sequence[Group], used: Sequence[Group]) -> dict[str, float]:
    """Metrics of one step: over what was ``played`` (fresh episodes), and over the groups the learner ``used``."""
    whole = [group for group in played if group.explored is None]
    plays = [t for group in whole for t in group.valid]
    plays = [t for t in plays if not _demonstrated(t)] or plays
    turns = [turn for t in plays for turn in t.turns]
    flat = [group for group in whole if len(set(group.rewards)) <= 1]
    spent = [group.spent for group in played]
    return {
        "rollout/reward": _mean([t.reward for t in plays]),
        "rollout/success": _mean([float(t.success) for t in plays]),
        "rollout/return": _mean([t.env_return for t in plays]),
        "rollout/episodes": float(sum(cost.episodes for cost in spent)),
        "rollout/turns": _mean([float(len(t.turns)) for t in plays]),
        "rollout/tokens": float(sum(cost.tokens for cost in spent)),
        "rollout/parsed": _mean([float(turn.parsed) for turn in turns]),
        "rollout/zero_advantage": len(flat) / len(whole) if whole else 0.0,
        "rollout/used_zero_advantage": _mean([float(len(set(g.rewards)) <= 1) for g in used]),
        "rollout/truncated": _mean([float(t.stop in (Stop.max_turns, Stop.max_tokens)) for t in plays]),
        "rollout/failed": float(sum(cost.failed for cost in spent)),
        **reward_metrics(plays),
    } | exploration_metrics(played, used)


def staleness(used: Sequence[Group], version: int, updates: int) -> dict[str, float]:
    """By how many batches, of ``updates`` optimiser steps each, the weights that sampled the tokens of these groups are
    older than ``version``, the policy that learns from them: mean over tokens, and the most."""
    turns = [turn for group in used for play in group.valid for turn in play.turns if turn.logprobs]
    lags = [(version - turn.version) / updates for turn in turns]
    tokens = [len(turn.logprobs) for turn in turns]
    if not turns:
        return {}
    mean = sum(lag * count for lag, count in zip(lags, tokens, strict=True)) / sum(tokens)
    return {"rollout/staleness": mean, "rollout/staleness_max": max(lags)}


def idle_shares(lap: Mapping[str, float], playing_s: float) -> dict[str, float]:
    """Shares of a batch's time, evaluations left out, in which the engine and the learner had nothing to do.

    ``lap``: seconds by phase since the last batch; ``playing_s``: how long the batch was played, perhaps meanwhile.
    """
    whole = sum(seconds for name, seconds in lap.items() if name not in ("setup", "evaluate"))
    if whole <= 0:
        return {}
    played = playing_s + lap.get("refill", 0.0)
    shares = {"speed/engine_idle": played, "speed/learner_idle": lap.get("learner", 0.0)}
    return {name: 1.0 - min(1.0, seconds / whole) for name, seconds in shares.items()}


def sampled_entropy(played: Sequence[Group]) -> dict[str, float]:
    """Mean of -log p over the tokens that the engine sampled, by its own logprobs; nothing without any."""
    plays = [play for group in played for play in group.valid]
    found = [value for play in plays for turn in play.turns for value in turn.logprobs]
    return {"rollout/entropy": -statistics.fmean(found)} if found else {}


def task_information(played: Sequence[Group], seed: int) -> dict[str, float]:
    """How much a sampled token tells of the task it was sampled for: their mutual information in nats, by the counts of
    token ids, less what plays dealt out to the tasks at random would have (small samples tell something by chance).

    About 0: whatever the task, the actions are the same (template collapse), however varied they are. Nothing where
    fewer than two tasks were played twice.
    """
    groups = [[play for play in g.valid if play.tokens] for g in played if g.explored is None]
    groups = [plays for plays in groups if len(plays) > 1]
    if len(groups) < 2:
        return {}
    plays = [[token for turn in play.turns for token in turn.action_ids] for group in groups for play in group]
    _, tokens = np.unique(np.concatenate(plays), return_inverse=True)
    lengths = np.array([len(play) for play in plays])
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    rng = np.random.default_rng(seed)
    found = _shared(np.repeat(owner, lengths), tokens)
    chance = [_shared(np.repeat(rng.permutation(owner), lengths), tokens) for _ in range(SHUFFLES)]
    return {"rollout/task_information": found - statistics.fmean(chance)}


def _shared(owner: NDArray[np.int64], tokens: NDArray[np.int64]) -> float:
    """Mutual information in nats of two columns of labels from 0."""
    width = int(tokens.max()) + 1
    joint = np.bincount(owner * width + tokens, minlength=(int(owner.max()) + 1) * width).reshape(-1, width)
    share = joint / joint.sum()
    apart = share.sum(1, keepdims=True) * share.sum(0, keepdims=True)
    inside = share > 0
    return float((share[inside] * np.log(share[inside] / apart[inside])).sum())


def reward_metrics(plays: Sequence[Trajectory]) -> dict[str, float]:
    """``reward/<part>``: the mean of each part of the training reward over the plays that have it."""
    parts: dict[str, list[float]] = defaultdict(list)
    for play in plays:
        for name, value in play.reward_parts.items():
            parts[f"reward/{name}"].append(float(value))
    return {name: _mean(values) for name, values in parts.items()}


def exploration_metrics(played: Sequence[Group], used: Sequence[Group]) -> dict[str, float]:
    """Metrics of the explored steps of one batch; none where nothing was explored.

    A step's *first* candidate is the policy's own choice in its state, before any selection: ``rising_*`` are of it.
    """
    paths = _paths(played)
    steps = [step for path in paths for _, step in path]
    if not steps:
        return {}
    rollouts = [count for step in steps for count in step.rollouts]
    pairs = [[play.reward for play in group.trajectories] for group in used if len(group.trajectories) == 2]
    metrics = {
        "explore/steps": float(len(steps)),
        "explore/pairs": float(len(used)),
        "explore/gap": _mean([chosen - rejected for chosen, rejected in pairs]),
        "explore/calls": float(max(group.spent.calls for group in played)),
        "explore/candidates": _mean([float(step.drawn) for step in steps]),
        "explore/candidates_max": float(max(step.drawn for step in steps)),
        "explore/repeated": rollouts.count(0) / len(rollouts),
        "explore/stuck": _mean([float(not step.rose) for step in steps]),
        "explore/path_return": _mean([step.values[step.kept] for *_, (_, step) in paths]),
    }
    metrics |= {f"explore/candidates_{n}": 0.0 for n in range(1, MOST_DRAWN + 1)}
    for step in steps:
        metrics[f"explore/candidates_{min(step.drawn, MOST_DRAWN)}"] += 1 / len(steps)
    return metrics | {f"explore/rising_{third}": share for third, share in rising_shares(played).items()}


def rising_shares(played: Sequence[Group]) -> dict[str, float]:
    """By third of the explored trajectories (``initial``, ``middle``, ``final``), the share of steps whose first
    candidate has ``r_t > r_{t-1}``; a third without such steps is left out.

    A step belongs to the third that its middle lies in: of two steps none is in the middle third, one alone is.
    """
    rising: dict[str, list[float]] = {third: [] for third in THIRDS}
    for path in _paths(played):
        for index, (group, step) in enumerate(path):
            own = (
                value for value, play in zip(step.values, group.trajectories, strict=True) if not _demonstrated(play)
            )
            first = next(own, None)
            if first is not None and step.before is not None:
                rising[THIRDS[3 * (2 * index + 1) // (2 * len(path))]].append(float(first > step.before + 1e-9))
    return {third: _mean(shares) for third, shares in rising.items() if shares}


def _paths(played: Sequence[Group]) -> list[list[tuple[Group, Explored]]]:
    """The explored steps of each trajectory, in order; they stand behind the group of their task's plays."""
    paths: list[list[tuple[Group, Explored]]] = []
    for group in played:
        if group.explored is None:
            paths.append([])
        elif paths:
            paths[-1].append((group, group.explored))
    return [path for path in paths if path]


def _demonstrated(play: Trajectory) -> bool:
    """Was it played by somebody whose logprobs nobody knows, the environment's expert?"""
    return bool(play.turns) and not any(turn.logprobs for turn in play.turns)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


class Clock:
    """Seconds by phase, summed over the run; ``lap()`` gives what was added since the last lap. ``memory``: the
    peaks of each phase."""

    def __init__(self) -> None:
        self.memory = Peaks()
        self.total: dict[str, float] = defaultdict(float)
        self._before: dict[str, float] = {}
        self._earlier = {"all": 0.0, "cpu": 0.0}
        self._begin = time.perf_counter()
        self._begin_cpu = time.process_time()  # a sweep's earlier runs were in this process, too

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block under ``name``, and its memory. Raises OutOfMemory where it had none left."""
        begin = time.perf_counter()
        try:
            with self.memory.phase(name), blamed(name):
                yield
        finally:
            self.total[name] += time.perf_counter() - begin

    def lap(self) -> dict[str, float]:
        """Seconds of each phase since the previous lap."""
        now = dict(self.total)
        lap = {name: seconds - self._before.get(name, 0.0) for name, seconds in now.items()}
        self._before = now
        return lap

    def resume(self, seconds: Mapping[str, float]) -> None:
        """Go on from the ``summary`` of an earlier process; laps count this one's time alone."""
        for name, value in seconds.items():
            if name in self._earlier:
                self._earlier[name] = value
            else:
                self.total[name] += value
                self._before[name] = self._before.get(name, 0.0) + value

    def summary(self) -> dict[str, float]:
        """Seconds by phase, ``all`` since the clock was made, ``cpu`` the same in processor seconds of all threads."""
        now = {"all": time.perf_counter() - self._begin, "cpu": time.process_time() - self._begin_cpu}
        whole = {name: seconds + self._earlier[name] for name, seconds in now.items()}
        return {name: round(seconds, 3) for name, seconds in (dict(self.total) | whole).items()}
