"""What a play is worth: the step between the environment's account of an episode and a method's advantages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from agentrl.errors import JudgeError
from agentrl.types import Group, Stop, Trajectory

AT_ONCE = 8  # plays judged at the same time; a judge behind an endpoint has its own limit

Worth = Callable[[Trajectory], tuple[float, Mapping[str, float]]]


class Reward(Protocol):
    """Built from ``conf/reward/<name>.yaml``."""

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """The groups with ``reward`` and ``reward_parts`` of every play set; batch ``step`` (from 0) of ``steps``.

        Plays that the environment failed keep their place and earn no reward: they are no part of ``Group.valid``.
        """
        ...


def scored(groups: Sequence[Group], worth: Worth) -> list[Group]:
    """The groups with each valid play's (reward, reward_parts) from ``worth``."""

    def mark(play: Trajectory) -> Trajectory:
        reward, parts = worth(play)
        return replace(play, reward=reward, reward_parts=dict(parts))

    valid = [{id(play) for play in group.valid} for group in groups]
    return [
        replace(group, trajectories=tuple(mark(play) if id(play) in ids else play for play in group.trajectories))
        for group, ids in zip(groups, valid, strict=True)
    ]


def scored_by_judge(groups: Sequence[Group], worth: Worth) -> list[Group]:
    """Like :func:`scored` for a ``worth`` that may wait and may raise JudgeError: plays are judged side by side, and
    one without a verdict is out of the credit like one that the environment failed.

    Raises JudgeError when not one play got a verdict.
    """
    plays = [play for group in groups for play in group.valid]

    def ask(play: Trajectory) -> tuple[float, Mapping[str, float]] | JudgeError:
        try:
            return worth(play)
        except JudgeError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, plays))
    silent = [answer for answer in answers if isinstance(answer, JudgeError)]
    if silent and len(silent) == len(plays):
        raise silent[0]
    found = {id(play): answer for play, answer in zip(plays, answers, strict=True)}

    def mark(play: Trajectory) -> Trajectory:
        answer = found.get(id(play))
        if answer is None:
            return play
        if isinstance(answer, JudgeError):
            return replace(play, stop=Stop.env_error, error=f"{type(answer).__name__}: {answer}")
        return replace(play, reward=answer[0], reward_parts=dict(answer[1]))

    return [replace(group, trajectories=tuple(map(mark, group.trajectories))) for group in groups]
