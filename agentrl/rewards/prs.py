"""PRS: progressive reward shaping. arXiv:2512.07478, the reward of VSPO.

A play climbs stages: actions that parse, a well-formed finish, quality of the outcome::

    s1 = share of turns whose action parsed
    s2 = 1 if the play ended by its own last action, and with an answer (of any words) where one is asked for
    q in [0, 1], by ``quality``:

    success     q = 1 for a success as the environment defines it
    env_return  q = the environment's return, clipped to [0, 1]
    short       q = max over the gold answers of LBLEU(answer, gold); 1 on exact match
    long        q = judge_weight R_judge + (1 - judge_weight) LBLEU(answer, reference)
                R_judge: the return of an environment that pays a judge's score

    gated      R = w_parse s1 + 1[s1 = 1] (w_finish s2 + 1[s2 = 1] w_quality q)
    scheduled  R = w_parse s1 + w_finish s2 + w_quality q, the weights moving linearly from start_* to w_*

Both lie in [0, 1] when the weights sum to 1, and never fall when quality rises. A play without a single parsed action
gets ``floor``. LBLEU is the length-aware BLEU of :mod:`agentrl.answers`.

Differs from the paper: it gives the role of the stages, not the formula; both forms, the weights, the formula of LBLEU
and the reading of the stages off any environment are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

from agentrl.answers import bleu
from agentrl.errors import ConfigError
from agentrl.ranges import require_shares
from agentrl.rewards.base import scored
from agentrl.types import Group, Stop, Trajectory


class Quality(StrEnum):
    """Where q comes from; see :data:`QUALITY`."""

    success = auto()
    env_return = auto()
    short = auto()
    long = auto()


#: (play, judge_weight) -> q in [0, 1]
QUALITY: Mapping[Quality, Callable[[Trajectory, float], float]] = {
    Quality.success: lambda play, _weight: float(play.success),
    Quality.env_return: lambda play, _weight: returned(play),
    Quality.short: lambda play, _weight: likeness(play),
    Quality.long: lambda play, weight: weight * returned(play) + (1.0 - weight) * likeness(play),
}


def returned(play: Trajectory) -> float:
    """The environment's return, clipped to [0, 1]."""
    return min(max(play.env_return, 0.0), 1.0)


def likeness(play: Trajectory) -> float:
    """LBLEU of the play's answer to the gold it is nearest to; 0 for a play that did not end or gave no answer.

    Raises ConfigError where the environment names no gold answers (``Step.info``).
    """
    if play.stop is not Stop.done or not play.turns:
        return 0.0
    info = play.turns[-1].info
    if "golds" not in info:
        raise ConfigError(
            f"reward.quality=short and long compare an answer with gold ones, and task {play.task.id} has none; use an "
            "environment of questions (search_qa, long_qa), or reward.quality=success or env_return"
        )
    return bleu(info["answer"], info["golds"]) if info["answer"] is not None else 0.0


def stages(play: Trajectory, quality: Quality, judge_weight: float) -> dict[str, float]:
    """``parse`` (s1), ``finish`` (s2) and ``quality`` (q) of a play, each in [0, 1]; all 0 for a play without turns."""
    if not play.turns:
        return {"parse": 0.0, "finish": 0.0, "quality": 0.0}
    last = play.turns[-1]
    parsed = sum(turn.parsed for turn in play.turns) / len(play.turns)
    answered = "answer" not in last.info or bool((last.info["answer"] or "").strip())
    finished = play.stop is Stop.done and last.finish == "stop" and answered
    return {"parse": parsed, "finish": float(finished), "quality": QUALITY[quality](play, judge_weight)}


@dataclass(frozen=True)
class PRS:
    """The gated form: a stage counts once the one before it is complete."""

    w_parse: float
    w_finish: float
    w_quality: float
    floor: float
    quality: Quality
    judge_weight: float

    def __post_init__(self) -> None:
        _require_stages("w", self.w_parse, self.w_finish, self.w_quality)
        require_shares(self, "reward", "judge_weight")

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R; its parts are the stages."""
        return scored(groups, self._worth)

    def _worth(self, play: Trajectory) -> tuple[float, Mapping[str, float]]:
        s = stages(play, self.quality, self.judge_weight)
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
    judge_weight: float

    def __post_init__(self) -> None:
        _require_stages("start", self.start_parse, self.start_finish, self.start_quality)
        _require_stages("w", self.w_parse, self.w_finish, self.w_quality)
        require_shares(self, "reward", "judge_weight")

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R with the weights of batch ``step``; its parts are the stages."""
        progress = min(step / (steps - 1), 1.0) if steps > 1 else 1.0
        weights = {
            "parse": self.start_parse + progress * (self.w_parse - self.start_parse),
            "finish": self.start_finish + progress * (self.w_finish - self.start_finish),
            "quality": self.start_quality + progress * (self.w_quality - self.start_quality),
        }

        def worth(play: Trajectory) -> tuple[float, Mapping[str, float]]:
            s = stages(play, self.quality, self.judge_weight)
            if s["parse"] == 0.0:
                return self.floor, s
            return sum(weights[name] * s[name] for name in weights), s

        return scored(groups, worth)


def _require_stages(prefix: str, *weights: float) -> None:
    """Weights must be shares of 1, so that rewards stay in [0, 1] as V's R_max of 1 assumes."""
    if min(weights) < 0.0 or abs(sum(weights) - 1.0) > 1e-6:
        raise ConfigError(
            f"reward.{prefix}_parse, {prefix}_finish, {prefix}_quality: got {', '.join(f'{w:g}' for w in weights)}, "
            "expected numbers of at least 0 that sum to 1"
        )
