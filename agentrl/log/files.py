"""A run's files: metrics, trajectories and evaluations (JSON lines), summary.json. Text that any tool reads."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from agentrl.log.base import Advantages, Outlooks, RunFacts
from agentrl.types import Group, Trajectory

MIB = 1024 * 1024
#: files of a run's folder to which lines are only ever added: what a killed run wrote after its checkpoint is cut off.
LINES = ("metrics.jsonl", "trajectories.jsonl", "evaluations.jsonl", "calls.jsonl", "notes.txt")
FULL = "trajectories.jsonl: full at"  # begins the note of it


@dataclass(frozen=True)
class Files:
    """``trajectories``: share of groups written, 0..1; ``limit_mib``: trajectories.jsonl stops growing there."""

    trajectories: float
    limit_mib: float

    def __post_init__(self) -> None:
        if not 0 <= self.trajectories <= 1:
            raise ValueError(f"log.files.trajectories: got {self.trajectories:g}, expected a share in [0, 1]")
        if self.limit_mib < 0:
            raise ValueError(f"log.files.limit_mib: got {self.limit_mib:g}, expected at least 0")

    def open(self, run: RunFacts) -> FileLog:
        return FileLog(self, run)


class FileLog:
    """One JSON line for each step and trajectory; lines of steps that a resumed run repeats are dropped first."""

    def __init__(self, settings: Files, run: RunFacts) -> None:
        self._settings = settings
        self._folder = run.run_dir
        keep = run.first_step if run.config.get("resume") else -1
        self._metrics = _reopen(run.run_dir / "metrics.jsonl", keep)
        self._trajectories = _reopen(run.run_dir / "trajectories.jsonl", keep)
        self._evaluations = _reopen(run.run_dir / "evaluations.jsonl", keep)
        self._full = FULL in _text(run.run_dir / "notes.txt")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        numbers = {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}
        self._metrics.write(json.dumps({"step": step, **numbers}) + "\n")
        self._metrics.flush()

    def trajectories(
        self, step: int, groups: Sequence[Group], advantages: Advantages | None = None, seen: Outlooks | None = None
    ) -> None:
        count = math.ceil(self._settings.trajectories * len(groups))
        for index, group in enumerate(groups[:count]):
            credits, outlooks = (iter(known[index] if known else ()) for known in (advantages, seen))
            for trajectory in group.trajectories:
                valid = any(trajectory is member for member in group.valid)
                credit, outlook = (next(credits, None), next(outlooks, None)) if valid else (None, None)
                self._write(record(step, index, group, trajectory, credit, outlook))
        self._trajectories.flush()

    def evaluation(self, step: int, moment: str, plays: Sequence[Mapping[str, Any]]) -> None:
        for play in plays:
            self._evaluations.write(json.dumps({"step": step, "moment": moment, **play}, ensure_ascii=False) + "\n")
        self._evaluations.flush()

    def note(self, text: str) -> None:
        with (self._folder / "notes.txt").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        with ExitStack() as all_of_them:  # even if one cannot be written
            for file in (self._metrics, self._trajectories, self._evaluations):
                all_of_them.callback(file.close)
        if summary is not None:
            write_json(self._folder / "summary.json", summary)

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        if self._trajectories.tell() + len(text) > self._settings.limit_mib * MIB and not self._full:
            self._full = True
            self.note(f"{FULL} log.files.limit_mib={self._settings.limit_mib:g}; no more are written")
        if not self._full:
            self._trajectories.write(text)


def record(
    step: int,
    index: int,
    group: Group,
    trajectory: Trajectory,
    advantages: NDArray[np.float32] | None = None,
    seen: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """A trajectory as JSON: tokens, masks by construction (``prompt_ids`` are not sampled, ``action_ids`` are),
    logprobs, rewards, and per sampled token, where they are known, the advantage ``[tokens]`` and what the learner saw
    ``[2, tokens]``: its own logprob (when it first learned from the token) and entropy (nats)."""
    turns, used = [], 0
    for turn in trajectory.turns:
        line: dict[str, Any] = {
            "prompt_ids": turn.prompt_ids,
            "action_ids": turn.action_ids,
            "logprobs": [round(value, 6) for value in turn.logprobs],
            "action": turn.action.content,
            "observation": [{"role": m.role, "content": m.content} for m in turn.observation],
            "reward": turn.reward,
            "parsed": turn.parsed,
            "finish": turn.finish,
            "version": turn.version,
            "info": dict(turn.info),
        }
        here = slice(used, used + len(turn.action_ids))
        if advantages is not None:
            line["advantages"] = advantages[here].tolist()
        if seen is not None and np.isfinite(seen[:, here]).all():
            line |= zip(
                ("learner_logprobs", "entropies"), np.round(seen[:, here].astype(float), 6).tolist(), strict=True
            )
        used = here.stop
        turns.append(line)
    return {
        "step": step,
        "group": index,
        "copy": group.copy,
        "weight": group.weight,
        "task": trajectory.task.id,
        "family": trajectory.task.family,
        "member": trajectory.member,
        "stop": str(trajectory.stop),
        "success": trajectory.success,
        "env_return": trajectory.env_return,
        "reward": trajectory.reward,
        "reward_parts": dict(trajectory.reward_parts),
        "error": trajectory.error,
        "first_observation": [{"role": m.role, "content": m.content} for m in trajectory.first_observation],
        "turns": turns,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, never a half."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """What :func:`write_json` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; a last line cut off by a kill is left out."""
    lines = []
    for text in path.read_bytes().split(b"\n") if path.is_file() else []:  # str.splitlines knows more line breaks
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def lengths(folder: Path) -> dict[str, int]:
    """Bytes of each of :data:`LINES` that a run's folder holds, down to the disk."""
    found = {}
    for path in (folder / name for name in LINES):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                found[path.name] = os.fstat(file.fileno()).st_size
    return found


def cut(folder: Path, kept: Mapping[str, int]) -> None:
    """Cut each of :data:`LINES` to what :func:`lengths` once found; what is shorter stays as it is."""
    for name in LINES:
        path, length = folder / name, kept.get(name, 0)
        if path.is_file() and path.stat().st_size > length:
            os.truncate(path, length)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _reopen(path: Path, keep: int) -> IO[str]:
    """Open for appending; lines of steps above ``keep`` are cut off, since a resumed run writes them again.

    The file is cut in place, line by line: it may be larger than memory, and a kill in between loses nothing.
    """
    path.touch()
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or _step(line) > keep:
                break
            whole += len(line)
    os.truncate(path, whole)
    return path.open(
        "a", encoding="utf-8", errors="backslashreplace"
    )  # half a surrogate pair is no UTF-8: as an escape


def _step(line: bytes) -> float:
    """The step of a line; infinite when the line is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
