"""Find runs in folders and read what they left. Nothing is dropped: what does not count is listed with its reason."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.comparison import Column, Decoding, Left
from agentrl.errors import ConfigError, DataError
from agentrl.log.files import read_lines

#: where a config says nothing of what is learned or measured, so that runs that differ there are one thing
SILENT = re.compile(
    r"(seed|run_dir|resume|(log|watchdog|checkpoint|hydra)\..*|warmstart\.folder|eval\.(every|val_tasks|before|scores.*))$"
)
METRICS = {"success": "success", "score": "return"}  # as a reader calls it -> as a play records it


@dataclass(frozen=True)
class Run:
    """A run's folder. ``words``: its config, dotted keys to values, without those that say nothing of the result."""

    folder: Path
    name: str
    seed: int
    steps: int
    words: Mapping[str, str]
    why: str = ""  # it does not count; empty: it does

    @cached_property
    def left(self) -> Left:
        """Its files, each read once."""
        return Left(self.folder)

    @property
    def method(self) -> str:
        return self.words.get("choices.method", "")

    @property
    def env(self) -> str:
        return self.words.get("choices.env", "")

    @property
    def panel(self) -> str:
        return clean(self.left.summary["panel_hash"])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What ``summary.json`` says of the run's surroundings; empty without one."""
        found: dict[str, Any] = self.left.summary.get("facts", {}) if not self.why else {}
        return found

    def values(self, metric: str, decoding: Decoding, moment: str = "after") -> dict[str, float]:
        """``{task: value}`` of the plays on the run's own panel."""
        return Column(METRICS[metric], decoding=decoding, moment=moment).read(self.left)


def find(paths: Sequence[str]) -> list[Run]:
    """The runs in folders, or in folders below them, in order of their names.

    Raises ConfigError for a folder that is not there, and when there is no run at all.
    """
    found: dict[Path, Run] = {}
    for text in paths:
        top = Path(text)
        if not top.is_dir():
            raise ConfigError(f"{text}: there is no such folder; give folders of runs, or folders that contain runs")
        for folder in _folders(top):
            found.setdefault(folder.resolve(), _run(folder, _called(folder, top)))
    if not found:
        raise ConfigError(
            f"{', '.join(paths)}: no run there; expected a config.yaml, as `agentrl train` leaves it, in it or below"
        )
    return list(found.values())


def never_began(paths: Sequence[str]) -> list[str]:
    """What an experiment wrote of runs that have no folder: the process ended before it made one."""
    logs = (Path(place) / file for text in paths for place, _, files in os.walk(text) for file in files)
    return sorted(
        clean(log) for log in logs if re.fullmatch(r"\d+\.log", log.name) and not log.with_suffix("").is_dir()
    )


def clean(value: object) -> str:
    """A value of a run as one line that any reader may print: no control, direction or broken characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def _called(folder: Path, top: Path) -> str:
    return clean(folder.relative_to(top) if folder != top else folder.name or folder.resolve())


def _folders(top: Path) -> Iterator[Path]:
    """Folders that hold a config.yaml; what lies inside of a run is the run's own."""
    for place, below, files in os.walk(top):
        below.sort()
        if "config.yaml" in files:
            below.clear()
            yield Path(place)


def _run(folder: Path, name: str) -> Run:
    try:
        cfg = config.plain(config.load(folder / "config.yaml"))
    except Exception as error:  # whatever a damaged YAML raises
        told = (str(error).splitlines() or [type(error).__name__])[0]
        return Run(folder, name, 0, 0, {}, clean(f"config.yaml cannot be read: {told}"))
    words = {key: value for key, value in _flat(cfg) if not SILENT.match(key)}
    return Run(folder, name, int(cfg.get("seed") or 0), int(cfg.get("steps") or 0), words, _why(folder, cfg))


def _why(folder: Path, cfg: Mapping[str, Any]) -> str:
    """Why a run does not count; empty when it does."""
    if (folder / "warmstart.json").is_file():
        return "a warm start, not a run"
    if not cfg.get("choices", {}).get("method"):
        return "an evaluation without training"
    try:
        left = Left(folder)
        steps = f"at step {_last(folder)} of {cfg.get('steps')}"
        if not (folder / "summary.json").is_file():
            hung = "; hang.txt says where it stood still" if (folder / "hang.txt").is_file() else ""
            return f"not finished: {steps}, no summary.json: still going, or killed{hung}"
        status = left.summary["status"]
        if status != "done":
            return clean(f"{status} {steps}")
        if not left.summary.get("panel_hash") or not left.plays("", Decoding.sampled):
            return "done, but without plays after training in evaluations.jsonl"
    except (OSError, JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, DataError) as error:
        return clean(f"a file of it is damaged: {type(error).__name__}: {error}")
    return ""


def _last(folder: Path) -> int:
    return max((int(line.get("step", 0)) for line in read_lines(folder / "metrics.jsonl")), default=0)


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves as (dotted key, text); an empty mapping or a list is a leaf."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield clean(path), clean(node)
