"""What the learner was given, kept so that :mod:`agentrl.replay` can learn from it again, bit for bit.

One file for each batch, ``batches/step_000040.json.gz`` in the run's folder, named after the step that its last update
makes, as in ``metrics.jsonl``. It is written after the batch was learned from, or when the learner refused it.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentrl.checkpoint import steps_saved
from agentrl.errors import DataError
from agentrl.records import group_from_json, group_to_json
from agentrl.types import Group

FORMAT = 1
QUICK = 1  # gzip level: a quarter of the size for little time


@dataclass(frozen=True)
class Kept:
    """One batch.

    step       optimiser steps after it
    version    optimiser steps before it: the policy_version that learned from it
    groups     what the learner was given, exactly
    digest     of the policy's weights after it (:func:`agentrl.digest.weights_digest`, float32); empty: it was refused
    metrics    what the learner reported
    error      the learner's words when it refused the batch
    start      the run's warm start (``asdict`` of :class:`agentrl.warmstart.Start`), if there is one
    """

    step: int
    version: int
    groups: Sequence[Group]
    digest: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    start: Mapping[str, Any] | None = None


def keep(run_dir: Path, kept: Kept) -> Path:
    """Write a batch, whole or not at all; gives its file."""
    path = path_of(run_dir, kept.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, **vars(kept), "groups": [group_to_json(group) for group in kept.groups]}
    draft = path.with_name(f".{path.name}")
    try:
        draft.write_bytes(gzip.compress(json.dumps(content, default=asdict).encode(), QUICK, mtime=0))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def load(run_dir: Path, step: int) -> Kept:
    """Read a batch. Raises DataError."""
    path = path_of(run_dir, step)
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        known = content.pop("format")
        if known != FORMAT:
            raise DataError(f"{path}: format {known}, this version reads {FORMAT}; use the version that wrote it")
        groups = [group_from_json(group) for group in content.pop("groups")]
        return Kept(groups=groups, **content)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as a kept batch: {error}; replay another step") from None


def path_of(run_dir: Path, step: int) -> Path:
    """Where the batch lies whose last update makes step ``step``."""
    return run_dir / "batches" / f"step_{step:06d}.json.gz"


def steps_kept(run_dir: Path) -> list[int]:
    """Steps of which a run's folder holds batches, in order."""
    found = (run_dir / "batches").glob("step_*.json.gz")
    return sorted(int(path.name.removeprefix("step_").removesuffix(".json.gz")) for path in found)


def forget(run_dir: Path, keep: int) -> None:
    """Drop the batches before the oldest of the newest ``keep`` checkpoints (0: none); the start counts as one."""
    oldest = [*steps_saved(run_dir), 0][:keep][-1] if keep else 0
    for step in steps_kept(run_dir):
        if step <= oldest:
            path_of(run_dir, step).unlink()
