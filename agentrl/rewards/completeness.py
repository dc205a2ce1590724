"""RLTR's reward: were all needed tools called? The answer's words are not judged. arXiv:2508.19598, section 3.

For the calls a_1..a_T of a play, with a checker's votes gamma_j in {0, 1}::

    R_comp   = (1/N) sum_j gamma_j                      checker=exact, noisy or judged
    R_repeat = -lambda sum_{t >= 2} 1[a_t = a_{t-1}]    `repeat_penalty`
    R_error  = -mu sum_t 1[a_t not in A*_t]             `error_penalty`
    R        = -1 if the format is invalid, else R_comp + R_repeat + R_error

Differs from the paper:
- it gives no N, lambda, mu; ours are 3 (of ``checker=noisy`` and ``judged``), .1 and .1;
- A*_t ("correct tool usage") are the calls that satisfy their schema and were executed;
- the format is invalid when the play does not end with its answer, or a reply could not be parsed;
- with many repeats and errors R falls below -1, what an invalid play earns; ``clip_total`` stops there, and the part
  ``below`` tells how often it happens;
- in a world that states no requirements the votes are one, the environment's own: 1 for a success; and where it records
  no calls, the actions themselves count as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agentrl.completeness import Exact, calls_of
from agentrl.errors import ConfigError, JudgeError
from agentrl.rewards.base import scored_by_judge
from agentrl.rewards.expert_match import said
from agentrl.types import Group, Stop, Trajectory

INVALID = -1.0  # R of a play whose format is invalid (paper)
Act = tuple[str, bool]  # a call in comparable form, and whether it was correct tool usage


def acts(play: Trajectory) -> list[Act]:
    """The calls of a play in order; in a world without tools its actions. A final answer is no call."""
    found: list[Act] = []
    for turn in play.turns:
        if "calls" in turn.info:
            for call in turn.info["calls"]:
                text = json.dumps([call["tool"], call["arguments"]], sort_keys=True, default=str)
                found.append((text, bool(call["ok"])))
        else:
            found.append((said(turn.action), turn.parsed and bool(turn.info.get("valid", True))))
    return found


def repeats(made: Sequence[Act]) -> int:
    """Calls equal to the one before them."""
    return sum(one[0] == other[0] for one, other in pairwise(made))


def errors(made: Sequence[Act]) -> int:
    """Calls outside A*_t."""
    return sum(not ok for _, ok in made)


def well_formed(play: Trajectory) -> bool:
    """Every reply could be parsed, and the last one was the answer."""
    return play.stop is Stop.done and bool(play.turns) and all(turn.parsed for turn in play.turns)


def votes(checker: Any, play: Trajectory) -> float:
    """R_comp: the mean of the checker's votes. Raises JudgeError when it gives none."""
    if "requirements" not in play.task.data:
        return float(play.success)
    found = checker.check(play.task, calls_of(play))
    if not found.votes:
        raise JudgeError(f"checker: none of its {found.abstained} answers on task {play.task.id} could be read")
    return float(found.share)


@dataclass(frozen=True)
class Completeness:
    """The schema of conf/reward/completeness.yaml; ``checker`` is one of :mod:`agentrl.completeness`."""

    checker: Any
    repeat_penalty: float
    error_penalty: float
    clip_total: bool

    def __post_init__(self) -> None:
        for name in ("repeat_penalty", "error_penalty"):
            if getattr(self, name) < 0.0:
                raise ConfigError(f"reward.{name}: got {getattr(self, name):g}, expected at least 0; it is subtracted")
        if not hasattr(self.checker, "check"):
            raise ConfigError("reward.checker: it cannot check; choose checker=exact, noisy, judged or vllm")

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R; its parts: ``completeness`` (R_comp, also of plays with an invalid format), ``complete`` (all
        that the task requires, exactly), ``repeats`` and ``errors`` (counts), ``format`` (1: valid), ``below`` (1: R is
        under -1 before clipping) and ``calls``. A play on which the checker cannot give a verdict is out of the credit.
        """
        return scored_by_judge(groups, self._worth)

    def _worth(self, play: Trajectory) -> tuple[float, Mapping[str, float]]:
        share = votes(self.checker, play)
        made = acts(play)
        formed = well_formed(play)
        total = share - self.repeat_penalty * repeats(made) - self.error_penalty * errors(made)
        parts = {
            "completeness": share,
            "complete": votes(Exact(), play),
            "repeats": float(repeats(made)),
            "errors": float(errors(made)),
            "format": float(formed),
            "below": float(formed and total < INVALID),
            "calls": float(len(made)),
        }
        if not formed:
            return INVALID, parts
        return max(total, INVALID) if self.clip_total else total, parts
