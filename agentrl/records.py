"""Groups as JSON and back, for checkpoints: exactly what was played, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agentrl.types import Cost, Explored, Group, Message, Messages, Stop, Task, ToolCall, Trajectory, Turn


def group_to_json(group: Group) -> dict[str, Any]:
    """A group as JSON-able dicts and lists."""
    return asdict(group)


def group_from_json(record: Mapping[str, Any]) -> Group:
    """The inverse of :func:`group_to_json`."""
    task = Task(**record["task"])
    plays = tuple(_trajectory(play, task) for play in record["trajectories"])
    explored, cost = record.get("explored"), record.get("cost")
    steps = Explored(**{**explored, **{n: tuple(explored[n]) for n in ("values", "rollouts")}}) if explored else None
    return Group(task, plays, record["weight"], record["copy"], steps, Cost(**cost) if cost else None)


def _trajectory(record: Mapping[str, Any], task: Task) -> Trajectory:
    fixed = {
        "task": task,
        "turns": tuple(_turn(turn) for turn in record["turns"]),
        "stop": Stop(record["stop"]),
        "first_observation": _messages(record["first_observation"]),
    }
    return Trajectory(**{**record, **fixed})


def _turn(record: Mapping[str, Any]) -> Turn:
    fixed = {
        "prompt_ids": tuple(record["prompt_ids"]),
        "action_ids": tuple(record["action_ids"]),
        "logprobs": tuple(record["logprobs"]),
        "action": _messages([record["action"]])[0],
        "observation": _messages(record["observation"]),
    }
    return Turn(**{**record, **fixed})


def _messages(records: Any) -> Messages:
    return tuple(Message(r["role"], r["content"], tuple(ToolCall(**call) for call in r["tool_calls"])) for r in records)
