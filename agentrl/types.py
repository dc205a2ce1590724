"""The records that travel through agentrl: plain, frozen, without torch.

Legend of indices and shapes used all over the project::

    task      one problem instance              group     the G plays of one task
    member    index inside its group (0..G-1)   turn      index inside an episode
    batch     rows of one optimiser step        seq       token positions of a row

A *trajectory* is the record of one play. Its tokens are the truth: ``Turn.prompt_ids`` is what
the engine was given, ``Turn.action_ids`` what it sampled; text beside them is a view for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: its name and its (JSON-able) arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. ``tool_calls`` holds what was parsed from an assistant message, if anything."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


Messages = tuple[Message, ...]


class Stop(StrEnum):
    """Why an episode ended."""

    done = auto()  # the environment said so
    max_turns = auto()  # the turn budget of the rollout was spent
    max_tokens = auto()  # the next prompt would not fit the context length
    env_error = auto()  # the environment failed: the episode is data, but earns no credit
    forked = auto()  # the record ends here; the episode went on in rollouts from this state


@dataclass(frozen=True, slots=True)
class Task:
    """One problem instance of an environment.

    ``data`` is whatever the environment needs to start it (JSON-able: it is hashed). ``family``
    names the unit by which splits must be disjoint: the product, the database, the start state.
    """

    id: str
    split: Split
    family: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> str:
        """Canonical JSON of all that defines the task (what panel hashes are made of)."""
        return json.dumps([self.id, self.family, self.data], sort_keys=True, ensure_ascii=False)


def panel_hash(tasks: Sequence[Task]) -> str:
    """SHA-256 (first 16 hex digits) of an ordered list of tasks: equal panels, equal hash, on every machine."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(task.content().encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: the policy acted, the environment answered.

    ``logprobs`` are the engine's, after temperature, one for each of ``action_ids`` (whose last
    is the stop token unless ``finish`` is ``length``). Empty for a demonstration, which no engine sampled.
    """

    prompt_ids: tuple[int, ...]
    action_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    action: Message
    observation: Messages
    reward: float = 0.0
    parsed: bool = True  # did the action follow the environment's grammar?
    finish: Literal["stop", "length"] = "stop"
    version: int = 0  # policy_version that sampled it
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One play of one task. ``reward`` is the training signal; ``env_return`` what the environment paid."""

    task: Task
    member: int
    turns: tuple[Turn, ...]
    stop: Stop
    env_return: float = 0.0
    success: bool = False
    reward: float = 0.0
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None  # the environment's own words, when stop is env_error; or why no turn was played
    first_observation: Messages = ()

    @property
    def tokens(self) -> int:
        """Sampled tokens, stop tokens included."""
        return sum(len(turn.action_ids) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Explored:
    """One explored step of a trajectory: the members of its group are candidates for the action of turn ``turn``.

    ``values`` are their process rewards r_t, one for each member, in units of the environment's return: the mean
    outcome of ``rollouts`` plays that went on from there (1: the action ended the episode and is its own outcome; 0:
    the estimate of an equal earlier candidate was taken). ``before`` is r_{t-1} (None where nobody estimated it),
    ``kept`` the member with which the trajectory went on, ``rose`` whether its value rises above ``before`` in the
    rollout's sense; ``drawn`` counts the candidates that the policy drew, those that the environment failed (which are
    no members) included.
    """

    turn: int
    before: float | None
    values: tuple[float, ...]
    rollouts: tuple[int, ...]
    kept: int
    rose: bool
    drawn: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a group took where its trajectories do not tell: episodes that came to an end (``failed`` ones included),
    sampled tokens, and the engine calls it had a part in."""

    episodes: int = 0
    failed: int = 0
    tokens: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The plays of one task that are compared with each other.

    ``weight`` scales the group's advantages; ``copy`` counts how often the same group stands
    before it in the batch (VSPO draws valuable groups repeatedly; 0 for the first).
    ``explored``: the members are candidates of one step. ``cost``: given by rollouts that explore, of which the first
    group of a task bears the cost of all its groups.
    """

    task: Task
    trajectories: tuple[Trajectory, ...]
    weight: float = 1.0
    copy: int = 0
    explored: Explored | None = None
    cost: Cost | None = None

    @property
    def spent(self) -> Cost:
        """What it took to play this group; tokens are those of the plays that did not fail where nobody counted."""
        if self.cost is not None:
            return self.cost
        failed = len(self.trajectories) - len(self.valid)
        return Cost(len(self.trajectories), failed, sum(t.tokens for t in self.valid))

    @property
    def rewards(self) -> tuple[float, ...]:
        """Training rewards of the members that count: failed episodes are left out."""
        return tuple(t.reward for t in self.valid)

    @property
    def valid(self) -> tuple[Trajectory, ...]:
        """Members whose episode did not fail for reasons of the environment."""
        return tuple(t for t in self.trajectories if t.stop is not Stop.env_error)
