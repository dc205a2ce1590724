"""The answer's worth by a judge: the end-to-end reward that RLTR is compared with. arXiv:2508.19598, baseline E2E RL.

    R = -1 if the format is invalid (as in :mod:`agentrl.rewards.completeness`), else the judge's score in [0, 1]

The answer is the policy's own, or what an untrained summarizer writes from its calls (``answer: summary``), as the
paper measures planners. Question and reference are those of the task.

As a score of an evaluation (``+reward@eval.scores.answer=judge``) its parts are the columns of the paper's table 1:
``match`` is the paper's; ``helpful`` (the answer states what some call returned, rather than nothing or an invention)
and ``relevant`` (share of the calls made that the query required) are offline stand-ins of ours for what it asks a
language model.

To study unreliable judges offline, verdicts can be spoilt, fixed by (seed, task, answer): each is turned over
(1 - score) with probability ``flip``; an answer that no successful call supports passes with probability ``credulity``,
the loophole of judges that believe what sounds right. The paper's answer judge agrees with people in 65.30 % of cases
(flip .35).

Differs from the paper: it gives neither the judge's prompt nor how the format counts for this baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from agentrl.answers import CLOSING, OPENING
from agentrl.completeness import calls_of, scores
from agentrl.errors import ConfigError
from agentrl.judges.language import contains, words_of
from agentrl.ranges import require_shares
from agentrl.rewards.base import scored_by_judge
from agentrl.rewards.completeness import INVALID, well_formed
from agentrl.seeds import derive
from agentrl.summarizer import plain, value_of
from agentrl.types import Group, Stop, Trajectory


class Answer(StrEnum):
    """Whose words are judged: the policy's ``own``, or a ``summary`` of its calls."""

    own = auto()
    summary = auto()


def own_answer(play: Trajectory) -> str:
    """The text of the last action behind its last ``<answer>``, up to the closing tag; without a tag all of it. Where
    actions are no prose the environment says what they answer (``info["answer"]``). Empty without an answer."""
    if play.stop is not Stop.done or not play.turns:
        return ""
    last = play.turns[-1]
    if "answer" in last.info:
        return str(last.info["answer"])
    return last.action.content.rpartition(OPENING)[2].partition(CLOSING)[0].strip()


def helpful(play: Trajectory, text: str) -> bool:
    """Whether the answer states the main value of a call that worked."""
    values = [value_of(call.result) for call in calls_of(play) if call.ok]
    stated = words_of(text)
    return any(contains(stated, words) for value in values if value is not None and (words := words_of(plain(value))))


@dataclass(frozen=True)
class JudgeReward:
    """The schema of conf/reward/judge.yaml; ``judge`` is one of :mod:`agentrl.judges`, ``summarizer`` one of
    :mod:`agentrl.summarizer`."""

    judge: Any
    summarizer: Any
    answer: Answer
    flip: float
    credulity: float
    seed: int

    def __post_init__(self) -> None:
        if not hasattr(self.judge, "verdict"):
            raise ConfigError("reward.judge: it gives no verdicts; choose judge=rules, openai or vllm")
        if not hasattr(self.summarizer, "answer"):
            raise ConfigError("reward.summarizer: it writes no answers; choose rules, written or vllm")
        require_shares(self, "reward", "flip", "credulity")

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """Reward R; its parts: ``judged`` (the score, spoilt or not), ``match`` (the judge's own, whatever the format),
        ``helpful``, ``relevant`` (where tasks state what they require), ``format`` and ``calls``. A play on which judge
        or summarizer fail is out of the credit. Raises ConfigError where tasks state no reference."""
        return scored_by_judge(groups, self._worth)

    def _worth(self, play: Trajectory) -> tuple[float, Mapping[str, float]]:
        formed = well_formed(play)
        made = calls_of(play)
        text = own_answer(play) if self.answer is Answer.own else str(self.summarizer.answer(play.task, made))
        match = self._match(play, text)
        judged = self._spoilt(play, text, match) if formed else 0.0
        parts = {"judged": judged, "match": match, "helpful": float(helpful(play, text))}
        if "requirements" in play.task.data:
            parts["relevant"] = len(scores(play.task, made).pairs) / len(made) if made else 0.0
        parts |= {"format": float(formed), "calls": float(len(made))}
        return (judged if formed else INVALID), parts

    def _match(self, play: Trajectory, text: str) -> float:
        """What the judge says."""
        data = play.task.data
        question = data.get("question", data.get("query"))
        if "reference" not in data or question is None:
            raise ConfigError(
                f"reward=judge: task {play.task.id} states no question and reference answer to be judged by; use an "
                "environment that does (tool_planning with its bundled queries, long_qa), or another reward"
            )
        return float(self.judge.verdict(str(question), str(data["reference"]), text).score)

    def _spoilt(self, play: Trajectory, text: str, match: float) -> float:
        def chance(name: str) -> float:
            return derive(self.seed, name, play.task.id, text) / 2**63

        if not any(call.ok for call in calls_of(play)) and chance("credulity") < self.credulity:
            return 1.0
        return 1.0 - match if chance("flip") < self.flip else match
