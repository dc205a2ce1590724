"""Runs made by hand: plays of which every number is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CONFIG = """\
choices: {method: grpo, env: webshop, model: tiny, engine: torch, reward: env}
seed: 0
steps: 4
model: {path: "bundled:tiny"}
"""


def turn(action: str = "search red mug", said: str = "results", ids: Iterable[int] = (810, 337, 2), **more: Any) -> Any:
    """A turn of three tokens, of which the advantages are 1, 0 and -0.5."""
    action_ids = list(ids)
    usual = {
        "prompt_ids": [793, 349, 1],
        "action_ids": action_ids,
        "logprobs": [-0.01, -0.5, -4.0][: len(action_ids)],
        "advantages": [1.0, 0.0, -0.5][: len(action_ids)],
        "action": action,
        "observation": [{"role": "user", "content": said}],
        "reward": 0.0,
        "parsed": True,
        "finish": "stop",
        "version": 0,
        "info": {},
    }
    return usual | more


def play(step: int = 1, group: int = 0, member: int = 0, **more: Any) -> dict[str, Any]:
    """A play of one turn that earned nothing."""
    usual: dict[str, Any] = {
        "step": step,
        "group": group,
        "copy": 0,
        "weight": 1.0,
        "task": f"shop/{group}",
        "family": f"family {group % 2}",
        "member": member,
        "stop": "done",
        "success": False,
        "env_return": 0.0,
        "reward": 0.0,
        "reward_parts": {"return": 0.0},
        "error": None,
        "first_observation": [{"role": "user", "content": f"want thing {group}"}],
        "turns": [turn()],
    }
    return usual | more


def many() -> list[dict[str, Any]]:
    """Three steps of four tasks with four members: reward member/4, the best succeed, one play failed."""
    plays = []
    for step in (1, 2, 3):
        for group in range(4):
            for member in range(4):
                lines = [turn(action=f"search colour{member}", said=f"page {step} of shop {group}")]
                lines += [turn(action="buy", said="sold", ids=(811, 2))] * (member % 3)
                plays.append(
                    play(
                        step,
                        group,
                        member,
                        reward=member / 4,
                        success=member == 3,
                        stop="max_turns" if member == 0 else "done",
                        turns=lines,
                    )
                )
    plays[5] |= {"stop": "env_error", "error": "the shop is closed", "turns": []}
    return plays


def run_of(folder: Path, plays: Iterable[dict[str, Any]], config: str = CONFIG) -> Path:
    """A run's folder with these plays."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "trajectories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in plays))
    return folder
