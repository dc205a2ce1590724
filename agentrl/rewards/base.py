"""What a play is worth: the step between the environment's account of an episode and a method's advantages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from agentrl.types import Group, Trajectory


class Reward(Protocol):
    """Built from ``conf/reward/<name>.yaml``."""

    def score(self, groups: Sequence[Group], step: int, steps: int) -> list[Group]:
        """The groups with ``reward`` and ``reward_parts`` of every play set; batch ``step`` (from 0) of ``steps``.

        Plays that the environment failed keep their place and earn no reward: they are no part of ``Group.valid``.
        """
        ...


def scored(groups: Sequence[Group], worth: Callable[[Trajectory], tuple[float, Mapping[str, float]]]) -> list[Group]:
    """The groups with each valid play's (reward, reward_parts) from ``worth``."""

    def mark(play: Trajectory) -> Trajectory:
        reward, parts = worth(play)
        return replace(play, reward=reward, reward_parts=dict(parts))

    valid = [{id(play) for play in group.valid} for group in groups]
    return [
        replace(group, trajectories=tuple(mark(play) if id(play) in ids else play for play in group.trajectories))
        for group, ids in zip(groups, valid, strict=True)
    ]
