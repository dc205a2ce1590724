"""Numbers about a batch of groups, and the time each phase took."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from agentrl.types import Group, Stop


def rollout_metrics(played: Sequence[Group], used: Sequence[Group]) -> dict[str, float]:
    """Metrics of one step: over what was ``played`` (fresh episodes), and over the groups the learner ``used``."""
    plays = [t for group in played for t in group.valid]
    turns = [turn for t in plays for turn in t.turns]
    flat = [group for group in played if len(set(group.rewards)) <= 1]
    every = [t for group in played for t in group.trajectories]
    return {
        "rollout/reward": _mean([t.reward for t in plays]),
        "rollout/success": _mean([float(t.success) for t in plays]),
        "rollout/return": _mean([t.env_return for t in plays]),
        "rollout/episodes": float(len(every)),
        "rollout/turns": _mean([float(len(t.turns)) for t in plays]),
        "rollout/tokens": float(sum(t.tokens for t in plays)),
        "rollout/parsed": _mean([float(turn.parsed) for turn in turns]),
        "rollout/zero_advantage": len(flat) / len(played) if played else 0.0,
        "rollout/used_zero_advantage": _mean([float(len(set(g.rewards)) <= 1) for g in used]),
        "rollout/truncated": _mean([float(t.stop in (Stop.max_turns, Stop.max_tokens)) for t in plays]),
        "rollout/failed": float(sum(t.stop is Stop.env_error for t in every)),
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


class Clock:
    """Seconds by phase, summed over the run; ``lap()`` gives what was added since the last lap."""

    def __init__(self) -> None:
        self.total: dict[str, float] = defaultdict(float)
        self._before: dict[str, float] = {}
        self._earlier = {"all": 0.0, "cpu": 0.0}
        self._begin = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block under ``name``."""
        begin = time.perf_counter()
        try:
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
        """Seconds by phase, ``all`` since the clock was made, and ``cpu``: processor seconds of all threads."""
        now = {"all": time.perf_counter() - self._begin, "cpu": time.process_time()}
        whole = {name: seconds + self._earlier[name] for name, seconds in now.items()}
        return {name: round(seconds, 3) for name, seconds in (dict(self.total) | whole).items()}
