"""Folders as finished runs leave them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TASKS = 40  # of a panel


def solved(count: int, seed: int) -> dict[str, float]:
    """``count`` of the tasks solved, beginning at another one for each seed."""
    return {f"t{i}": float((i + seed) % TASKS < count) for i in range(TASKS)}


def a_run(
    folder: Path,
    *,
    method: str | None,
    seed: int,
    values: Mapping[str, float],
    env: str = "webshop",
    panel: str = "a" * 16,
    status: str = "done",
    steps: int = 8,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Sampled plays solve ``values``, greedy ones everything; the score of a failure is .5. ``more``: of the config."""
    folder.mkdir(parents=True)
    cfg: dict[str, Any] = {"seed": seed, "steps": 8, "run_dir": str(folder), "choices": {"env": env}}
    if method is not None:
        cfg["choices"]["method"] = method
    for key, node in (more or {}).items():
        cfg[key] = {**cfg.get(key, {}), **node}
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    plays = [
        {"moment": moment, "decoding": decoding, "task": task, "member": 0, "success": value, "return": 0.5 + value / 2}
        for moment in ("before", "after")
        for decoding in ("sampled", "greedy")
        for task, found in values.items()
        for value in [1.0 if decoding == "greedy" else found]
    ]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps({"step": steps, **play}) + "\n" for play in plays))
    lines = [
        {"step": step, "rollout/success": step / 10, "rollout/return": step / 10, "rollout/tokens": 100}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    origin = {
        "git": {"commit": "0123456789abcdef", "dirty": True},
        "python": "3.11.7",
        "packages": {"torch": "2.13.0"},
        "machine": {"cores": 2, "processor": "a CPU", "gpus": []},
        "command": ["agentrl", "train", f"seed={seed}"],
    }
    summary = {
        "status": status,
        "steps": steps,
        "episodes": 64,
        "panel_hash": panel,
        "time_s": {"cpu": 12.5, "all": 20.0},
        "facts": {
            "provenance": origin,
            "model": {"place": "cpu, float32"},
            "warmstart": {"hash": "beef", "seconds": 30},
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
