"""How experience is gathered: where an environment meets an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentrl.chat import Chat, Context
from agentrl.engine.base import Engine
from agentrl.envs.base import Env
from agentrl.rollout.schedule import Lockstep, Schedule
from agentrl.types import Group, Task


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything an episode needs to be played."""

    env: Env
    engine: Engine
    chat: Chat
    context: Context
    schedule: Schedule = field(default_factory=Lockstep)


@dataclass(frozen=True, slots=True)
class Limits:
    """When an episode is cut: ``turns`` in all, tokens in one action, tokens of the context (prompt + action)."""

    turns: int
    action_tokens: int
    context_tokens: int


class Rollout(Protocol):
    """A way of exploring. Built from ``conf/rollout/<name>.yaml``."""

    @property
    def group_size(self) -> int: ...

    @property
    def most_episodes(self) -> int:
        """Episodes that one task may take at most: ``group_size``, and what is explored beside it."""
        ...

    @property
    def gives(self) -> frozenset[str]:
        """What its groups hold beside plays of the policy: ``steps`` (groups of candidates, ``Group.explored``),
        ``expert`` (the first member is a demonstration), ``labels`` (what the expert would do instead)."""
        ...

    @property
    def temperature(self) -> float:
        """Sampling temperature; the learner uses the same."""
        ...

    @property
    def pool(self) -> int:
        """How many different training tasks it wants to see (0: all of them)."""
        ...

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """One group for each task, in order; behind it the explored steps of its task, if any. Unscored: ``reward`` is
        still 0."""
        ...
