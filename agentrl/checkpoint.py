"""Save and resume everything a run owns: atomically, hashed, without pickle.

A checkpoint is a folder that appears whole or not at all::

    run_dir/checkpoints/step_000040/
        model/                  Hugging Face (or peft) layout; `transformers` loads it directly
        <name>.safetensors      tensors of one part, such as the optimiser's
        <name>.json             numbers, words and lists of one part
        manifest.json           format version, step, and the SHA-256 of every other file

A part is any nest of dicts and lists with tensors at some of its leaves, such as ``optimizer.state_dict()``: it is
flattened into one safetensors file of its tensors and one JSON file of the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agentrl.errors import CheckpointError
from agentrl.hashes import file_sha256
from agentrl.watchdog import beat

FORMAT = 1
MANIFEST = "manifest.json"
TENSOR, PAIRS = "__tensor__", "__pairs__"  # marks in the JSON: a tensor's key; a dict whose keys are not all strings


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
    """When to save and how many to keep. ``every`` 0: only at the end and on Ctrl-C; ``keep`` 0: all."""

    every: int
    keep: int

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            if getattr(self, name) < 0:
                raise ValueError(f"checkpoint.{name}: got {getattr(self, name)}, expected at least 0")

    def due(self, step: int, made: int = 1) -> bool:
        """Save now, after ``step`` optimiser steps, of which the last batch ``made`` so many? No multiple is missed."""
        return self.every > 0 and step > 0 and step % self.every < made

    def save(self, run_dir: Path, step: int, parts: Mapping[str, Any], save_model: Callable[[Path], None]) -> Path:
        """Write a checkpoint after ``step`` batches and drop old ones; gives its folder.

        Args:
            parts: by name; nests of dicts (keys: str or int), lists and tuples over tensors, numbers, words, None.
            save_model: writes the model into the folder it is given, such as ``policy.save``.
        """
        target = folder_of(run_dir, step)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft_"))
        try:
            save_model(draft / "model")
            seal(draft, step, parts)
            os.chmod(draft, 0o755)
            _replace(draft, target)
        except SafetensorError as error:
            raise CheckpointError(f"{target}: could not be saved: {error}; earlier checkpoints are untouched") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._drop_old(run_dir)
        return target

    def _drop_old(self, run_dir: Path) -> None:
        for folder in folders(run_dir)[self.keep :] if self.keep else []:
            shutil.rmtree(folder)


def seal(folder: Path, step: int, parts: Mapping[str, Any]) -> None:
    """Write the parts and the manifest over all files of a folder, down to the disk: :func:`load` then verifies it."""
    for name, part in parts.items():
        beat("disk", "writing a checkpoint's", name)
        _write_part(folder, name, part)
    hashes = {str(path.relative_to(folder)): file_sha256(path) for path in _files(folder)}
    manifest = {"format": FORMAT, "step": step, "parts": sorted(parts), "sha256": hashes}
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


def flatten(part: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Split a nest into its tensors by dotted key, and the rest as JSON with marks where the tensors were.

    Raises TypeError for a leaf that is neither a tensor nor JSON.
    """
    tensors: dict[str, torch.Tensor] = {}
    return tensors, _strip(part, "", tensors)


def unflatten(tensors: Mapping[str, torch.Tensor], rest: Any) -> Any:
    """The inverse of :func:`flatten`; tuples come back as lists."""
    if isinstance(rest, list):
        return [unflatten(tensors, item) for item in rest]
    if not isinstance(rest, dict):
        return rest
    if TENSOR in rest:
        return tensors[rest[TENSOR]]
    pairs = rest[PAIRS] if PAIRS in rest else rest.items()
    return {key: unflatten(tensors, value) for key, value in pairs}


def _strip(value: Any, key: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        # A clone of its own: safetensors refuses tensors that share memory.
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: key}
    if isinstance(value, Mapping):
        items = [(k, _strip(v, f"{key}.{k}" if key else str(k), tensors)) for k, v in value.items()]
        simple = all(isinstance(k, str) and k not in (TENSOR, PAIRS) for k, _ in items)
        return dict(items) if simple else {PAIRS: [list(item) for item in items]}
    if isinstance(value, list | tuple):
        return [_strip(item, f"{key}.{i}" if key else str(i), tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(
        f"checkpoint: {key} is a {type(value).__name__}; expected tensors, numbers, words, lists and dicts of them"
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
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _replace(draft: Path, target: Path) -> None:
    """Give the draft its name; a checkpoint of the same step steps aside first."""
    old = target.with_name(f".old_{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    draft.rename(target)
    shutil.rmtree(old, ignore_errors=True)
