"""Save and resume everything a run owns: atomically, hashed, without pickle.

A checkpoint is a folder that appears whole or not at all::

    run_dir/checkpoints/step_000040/
        model/                  Hugging Face (or peft) layout; `transformers` loads it directly
        <name>.safetensors      tensors of one part, such as the optimiser's
        <name>.json             numbers, words and lists of one part
        manifest.json           format version, step, the value of ``best``, and the SHA-256 of every other file

Folders whose names begin with a dot are drafts, or on their way out: whoever was killed over them left them behind,
and the next one to work in the run's folder clears them away (:func:`clear`).

A part is any nest of dicts and lists with tensors at some of its leaves, such as ``optimizer.state_dict()``: it is
flattened into one safetensors file of its tensors and one JSON file of the rest.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agentrl import disk
from agentrl.errors import CheckpointError, DiskError
from agentrl.hashes import file_sha256
from agentrl.nests import flatten, unflatten
from agentrl.watchdog import beat

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its step, its parts as they were handed over, and the folder of the model."""

    step: int
    folder: Path
    parts: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """Folder in Hugging Face or peft layout."""
        return self.folder / "model"


@dataclass(frozen=True)
class Checkpoints:
    """When to save and what to keep. ``every`` 0: only at the end and when interrupted; ``keep`` 0: all.

    ``best``: the name of a metric; the checkpoint at which it was highest is kept beside the newest (None: it is not).
    ``batches``: also keep what the learner was given since the oldest of the newest ``keep``, for ``agentrl replay``.
    """

    every: int
    keep: int
    best: str | None = None
    batches: bool = False

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            if getattr(self, name) < 0:
                raise ValueError(f"checkpoint.{name}: got {getattr(self, name)}, expected at least 0")

    def due(self, step: int, made: int = 1) -> bool:
        """Save now, after ``step`` optimiser steps, of which the last batch ``made`` so many? No multiple is missed."""
        return self.every > 0 and step > 0 and step % self.every < made

    def save(
        self,
        run_dir: Path,
        step: int,
        parts: Mapping[str, Any],
        save_model: Callable[[Path], None],
        metrics: Mapping[str, float] | None = None,
    ) -> Path:
        """Write a checkpoint after ``step`` batches and drop old ones; gives its folder. Raises DiskError.

        Args:
            parts: by name; nests of dicts (keys: str or int), lists and tuples over tensors, numbers, words, None.
            save_model: writes the model into the folder it is given, such as ``policy.save``.
            metrics: what was measured at this step.
        """
        target = folder_of(run_dir, step)
        with disk.told(lambda: advice(run_dir)):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft_"))
            try:
                save_model(draft / "model")
                seal(draft, step, parts, {name: value for name, value in (metrics or {}).items() if name == self.best})
                os.chmod(draft, 0o755)
                _replace(draft, target)
            except SafetensorError as error:
                raise DiskError(f"{target}: could not be saved: {error}; {advice(run_dir)}") from None
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            self.drop_old(run_dir, step)
        return target

    def best_of(self, run_dir: Path) -> tuple[int, float] | None:
        """Step and value of the checkpoint at which ``best`` was highest, the earliest of equal ones."""
        found = []
        for folder in folders(run_dir):
            with suppress(CheckpointError):
                manifest = _manifest(folder)
                if (value := (manifest.get("best") or {}).get(self.best)) is not None:
                    found.append((int(manifest["step"]), float(value)))
        return max(found, key=lambda pair: (pair[1], -pair[0]), default=None)

    def drop_old(self, run_dir: Path, step: int) -> None:
        """Keep the newest ``keep`` up to ``step``, and the best; later ones did not verify and will be written over."""
        best = self.best_of(run_dir) if self.best else None
        known = [saved for saved in steps_saved(run_dir) if saved <= step]
        for old in known[self.keep :] if self.keep else []:
            if best is None or old != best[0]:
                folder = folder_of(run_dir, old)
                going = folder.with_name(f".drop_{folder.name}")
                shutil.rmtree(going, ignore_errors=True)
                folder.rename(going)  # whole or not at all
                shutil.rmtree(going, ignore_errors=True)


def seal(folder: Path, step: int, parts: Mapping[str, Any], best: Mapping[str, float] | None = None) -> None:
    """Write the parts and the manifest over all files of a folder, down to the disk: :func:`load` then verifies it."""
    for name, part in parts.items():
        beat("disk", "writing a checkpoint's", name)
        _write_part(folder, name, part)
    hashes = {str(path.relative_to(folder)): file_sha256(path) for path in _files(folder)}
    finite = {name: value for name, value in (best or {}).items() if math.isfinite(value)}
    manifest = {"format": FORMAT, "step": step, "best": finite, "parts": sorted(parts), "sha256": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    _flush(folder)
    for path in _files(folder):
        os.chmod(path, 0o644)  # some writers keep their files to the owner


def folder_of(run_dir: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` batches lies."""
    return run_dir / "checkpoints" / f"step_{step:06d}"


def folders(run_dir: Path) -> list[Path]:
    """All checkpoints of a run, newest first, unverified."""
    return sorted((run_dir / "checkpoints").glob("step_*"), reverse=True)


def steps_saved(run_dir: Path) -> list[int]:
    """Steps at which a run has checkpoints, newest first, unverified."""
    return [int(folder.name.removeprefix("step_")) for folder in folders(run_dir)]


def clear(run_dir: Path) -> bool:
    """Finish what a killed process had begun: a checkpoint that was to be replaced comes back if nothing took its
    place, drafts and old ones go. Is there a checkpoint?"""
    for old in (run_dir / "checkpoints").glob(".old_step_*"):
        target = old.with_name(old.name.removeprefix(".old_"))
        if not target.exists():
            old.rename(target)
    for left in (run_dir / "checkpoints").glob(".*_*"):
        shutil.rmtree(left, ignore_errors=True)
    return bool(folders(run_dir))


def advice(run_dir: Path) -> str:
    """What to do when something cannot be written: which checkpoint stands, and how to go on from it."""
    if not (run_dir / "config.yaml").is_file():
        return "mend that, or choose another folder with run_dir=FOLDER"
    steps = steps_saved(run_dir)
    stands = f"the checkpoint of step {steps[0]} stands" if steps else "no checkpoint is there yet"
    return f"{stands}; mend that, then: agentrl train resume={run_dir}"


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint, verifying every file. Raises CheckpointError naming the first that is not as it was saved."""
    manifest = _manifest(folder)
    for name, expected in manifest["sha256"].items():
        beat("disk", "verifying", str(folder / name))
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing; the checkpoint is incomplete. Resume from another one")
        if file_sha256(path) != expected:
            raise CheckpointError(
                f"{path}: its SHA-256 is not the one it was saved with; resume from another checkpoint"
            )
    try:
        parts = {name: _read_part(folder, name) for name in manifest["parts"]}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be read: {error}; resume from another checkpoint") from None
    return Checkpoint(int(manifest["step"]), folder, parts)


def latest(run_dir: Path, note: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint that verifies; ``note`` hears of newer ones that do not. CheckpointError if none does."""
    for folder in folders(run_dir):
        try:
            return load(folder)
        except CheckpointError as error:
            note(f"checkpoint left out: {error}")
    raise CheckpointError(
        f"{run_dir}: holds no usable checkpoint; expected {folder_of(run_dir, 0).parent}/step_*; start a new run"
    )


def _write_part(folder: Path, name: str, part: Any) -> None:
    tensors, rest = flatten(part)
    (folder / f"{name}.json").write_text(json.dumps(rest), encoding="utf-8")
    if tensors:
        save_file(tensors, folder / f"{name}.safetensors")


def _read_part(folder: Path, name: str) -> Any:
    path = folder / f"{name}.safetensors"
    tensors = load_file(path) if path.is_file() else {}
    return unflatten(tensors, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{folder / MANIFEST}: missing or unreadable; the checkpoint is incomplete. Resume from another one"
        ) from None
    if known != FORMAT:
        raise CheckpointError(
            f"{folder}: checkpoint format {known}, this version reads format {FORMAT}; use the version that wrote it"
        )
    return manifest


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flush(folder: Path) -> None:
    """Ask the disk to hold every file before the folder gets its name."""
    for path in [*_files(folder), folder / "model", folder]:
        if path.exists():
            to_disk(path)


def to_disk(path: Path) -> None:
    """Ask the disk to hold a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(draft: Path, target: Path) -> None:
    """Give the draft its name; a checkpoint of the same step steps aside first."""
    old = target.with_name(f".old_{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    draft.rename(target)
    to_disk(target.parent)
    shutil.rmtree(old, ignore_errors=True)
