"""Weights as files of this machine, in memory where it has a folder for that: the way through the host."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from agentrl.cluster.base import AtRest, on_host
from agentrl.watchdog import scratch


class Files:
    """Weights as files in a folder of their own, in memory where there is such a folder (an
    :class:`agentrl.cluster.base.Transfer`)."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"agentrl-weights-{os.getpid()}-", dir=shared_folder()))
        scratch(self.folder)

    def pack(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, version: int) -> File:
        """One file, there whole or not at all."""
        path = self.folder / f"{version}.pt"
        draft = path.with_suffix(".draft")
        torch.save(on_host(weights, dtype), draft)
        draft.rename(path)
        return File(str(path))

    def changed(self) -> None:
        """Nothing: a file is there for all."""

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        scratch(self.folder, made=False)


@dataclass(frozen=True)
class File(AtRest):
    """Weights in a file of ``torch.save`` (an :class:`agentrl.cluster.base.Parcel`, and what is handed over)."""

    path: str

    def open(self) -> Iterable[tuple[str, torch.Tensor]]:
        found = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        return list(found.items())

    def drop(self) -> None:
        Path(self.path).unlink(missing_ok=True)


def shared_folder() -> Path | None:
    """A folder in memory for weights on their way, where the machine has one."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None
