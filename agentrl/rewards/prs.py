"""PRS: progressive reward shaping. arXiv:2512.07478, the reward of VSPO.

A play climbs stages: actions that parse, a well-formed finish, quality of the outcome::

    s1 = share of turns whose action parsed          s2 = 1 if the play ended by its own last action      q in [0, 1]

    gated      R = w_parse s1 + 1[s1 = 1] (w_finish s2 + 1[s2 = 1] w_quality q)
    scheduled  R = w_parse s1 + w_finish s2 + w_quality q, the weights moving linearly from start_* to w_*

Both lie in [0, 1] when the weights sum to 1, and never fall when quality rises. A play without a single parsed action
gets ``floor``.

Differs from the paper: it gives the role of the stages, not the formula; both forms, the weights and the reading of the
stages off any environment are ours. Its quality of answers (length-aware BLEU, a judge) is left to environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

from agentrl.errors import ConfigError
from agentrl.rewards.base import scored
from agentrl.types import Group, Stop, Trajectory


class Quality(StrEnum):
    """q: 1 for a ``success``, or the environment's ``return`` clipped to [0, 1] (``env_return``)."""

    success = auto()
    env_return = auto()


QUALITY: Mapping[Quality, Callable[[Trajectory], float]] = {
    Quality.success: lambda play: float(play.success),
    Quality.env_return: lambda play: min(max(play.env_return, 0.0), 1.0),
}


def stages(play: Trajectory, quality: Quality) -> dict[str, float]:
    """``parse`` (s1), ``finish`` (s2) and ``quality`` (q) of a play, each in [0, 1]; all 0 for a play without turns."""
    if not play.turns:
        return {"parse": 0.0, "finish": 0.0, "quality": 0.0}
    parsed = sum(turn.parsed for turn in play.turns) / len(play.turns)
    finished = play.stop is Stop.done and play.turns[-1].finish == "stop"
    return {"parse": parsed, "finish": float(finished), "quality": QUALITY[quality](play)}


@dataclass(frozen=True)
class PRS:
    """The gated form: a stage counts once the one before it is complete."""

    w_parse: float
    w_finish: float
    w_quality: float
    floor: float
    quality: Quality

    def __post_init__(self) -> None:
        _require_shares("w", self.w_parse, self.w_finish, self.w_quality)

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R; its parts are the stages."""
        return scored(groups, self._worth)

    def _worth(self, play: Trajectory) -> tuple[float, Mapping[str, float]]:
        s = stages(play, self.quality)
        if s["parse"] == 0.0:
            return self.floor, s
        reward = self.w_parse * s["parse"]
        if s["parse"] == 1.0:
            reward += self.w_finish * s["finish"]
            if s["finish"] == 1.0:
                reward += self.w_quality * s["quality"]
        return reward, s


@dataclass(frozen=True)
class ScheduledPRS:
    """The scheduled form: no gates, the early stages lose their weight to quality during the run."""

    start_parse: float
    start_finish: float
    start_quality: float
    w_parse: float
    w_finish: float
    w_quality: float
    floor: float
    quality: Quality

    def __post_init__(self) -> None:
        _require_shares("start", self.start_parse, self.start_finish, self.start_quality)
        _require_shares("w", self.w_parse, self.w_finish, self.w_quality)

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R with the weights of batch ``step``; its parts are the stages."""
        progress = min(step / (steps - 1), 1.0) if steps > 1 else 1.0
        weights = {
            "parse": self.start_parse + progress * (self.w_parse - self.start_parse),
            "finish": self.start_finish + progress * (self.w_finish - self.start_finish),
            "quality": self.start_quality + progress * (self.w_quality - self.start_quality),
        }

        def worth(play: Trajectory) -> tuple[float, Mapping[str, float]]:
            s = stages(play, self.quality)
            if s["parse"] == 0.0:
                return self.floor, s
            return sum(weights[name] * s[name] for name in weights), s

        return scored(groups, worth)


def _require_shares(prefix: str, *weights: float) -> None:
    """Weights must be shares of 1, so that rewards stay in [0, 1] as V's R_max of 1 assumes."""
    if min(weights) < 0.0 or abs(sum(weights) - 1.0) > 1e-6:
        raise ConfigError(
            f"reward.{prefix}_parse, {prefix}_finish, {prefix}_quality: got {', '.join(f'{w:g}' for w in weights)}, "
            "expected numbers of at least 0 that sum to 1"
        )
