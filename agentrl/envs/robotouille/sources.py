"""Where benchmark tasks come from: our ten kitchens, or a folder of the original's problem files."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.envs.robotouille.generator import generate
from agentrl.envs.robotouille.problem import load
from agentrl.envs.robotouille.recipes import BENCHMARK, PAPER, benchmark_problem
from agentrl.errors import ConfigError, DataError

SYNCHRONOUS = "synchronous"  # the folder of the benchmark's ten tasks, numbered from 0
STEPS = tuple(task.steps for task in BENCHMARK.values())
NUMBER = re.compile(r"^[0-9.]+_")


def choose(known: Sequence[str], recipes: Sequence[str]) -> list[str]:
    """The names that ``recipes`` asks for, with or without a number in front; all when it is empty.

    Raises ConfigError for a name that is none of ``known``.
    """
    if not recipes:
        return list(known)
    found: list[str] = []
    for name in (one for recipe in recipes for one in (PAPER if recipe == "paper" else (recipe,))):
        matching = [stem for stem in known if name in (stem, NUMBER.sub("", stem))]
        if not matching:
            raise ConfigError(f"env.recipes names {name!r}; expected paper, or some of {', '.join(known)}")
        found += matching
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Tasks:
    """Tasks by name. ``folder``: of problem files, empty for the bundled ones; ``cap``: times the published steps."""

    folder: str
    recipes: Sequence[str]
    cap: float

    @cached_property
    def caps(self) -> dict[str, int]:
        """{name: step cap}, 0 for none. Raises ConfigError for recipes that there are not."""
        if not self.folder:
            return {name: self._cap(BENCHMARK[name].steps) for name in choose(tuple(BENCHMARK), self.recipes)}
        return {stem: self._cap(self._published(stem)) for stem in choose(tuple(self._files), self.recipes)}

    def _cap(self, steps: int) -> int:
        return math.ceil(self.cap * steps)

    def _published(self, stem: str) -> int:
        number = stem.partition("_")[0]
        ours = number.isdigit() and int(number) < len(STEPS) and self._files[stem].parent.name == SYNCHRONOUS
        return STEPS[int(number)] if ours else 0

    @cached_property
    def _files(self) -> dict[str, Path]:
        folder = Path(self.folder)
        folder = folder / SYNCHRONOUS if (folder / SYNCHRONOUS).is_dir() else folder
        found = {path.stem: path for path in sorted(folder.glob("*.json"))}
        if not found:
            raise DataError(
                f"env.data={self.folder}: no problem files (*.json) there; give the original's examples folder"
            )
        return found

    @property
    def fingerprint(self) -> str:
        """``bundled``, or the content of the problem files as a hash: folders may be called anything."""
        if not self.folder:
            return "bundled"
        digest = hashlib.sha256()
        for name, path in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
        return f"files-{digest.hexdigest()[:12]}"

    def raw(self, name: str, seed: int) -> Mapping[str, Any]:
        """A task's problem on its hand-made kitchen (seed 0) or a generated one. Raises DataError for unknown names."""
        known = self._files if self.folder else BENCHMARK
        if name not in known:
            raise DataError(f"robotouille: there is no task {name!r}; expected one of {', '.join(known)}")
        raw = load(self._files[name]) if self.folder else benchmark_problem(name)
        return generate(raw, seed) if seed else raw
