"""Where a result comes from: the code's git state, the versions of every package, the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from agentrl import redact

COMMANDS = "commands.jsonl"  # in a run's folder: the command lines that worked on it, each a list of words
_ROOT = Path(__file__).resolve().parent.parent


def provenance() -> dict[str, Any]:
    """JSON-able facts: ``git`` (None outside a repository), ``python``, ``packages``, ``machine``, ``command``."""
    return {
        "git": git_state(_ROOT),
        "python": platform.python_version(),
        "packages": packages(),
        "machine": machine(),
        "command": _typed(),
    }


def noted(folder: Path, resumed: bool) -> dict[str, Any]:
    """Write the command line in progress into a run's folder, behind those that it goes on from when ``resumed``.

    Gives ``command``, which began the run, and ``resumed``, those that went on with it, the last one in progress.
    """
    path = folder / COMMANDS
    before = path.read_text(encoding="utf-8").splitlines() if resumed and path.is_file() else []
    lines = [*before, json.dumps(_typed(), ensure_ascii=False)]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    first, *later = map(_words, lines)
    return {"command": first, "resumed": later}


def _typed() -> list[str]:
    return [redact.text(word) for word in sys.argv]


def _words(line: str) -> list[str]:
    try:
        return [str(word) for word in json.loads(line)]
    except ValueError:  # cut by a kill
        return [line]


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and branch of the repository whose root is ``folder``, and whether and how its files differ from it."""
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain")
    difference = _git(folder, "diff", "HEAD") if commit else None
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD") if commit else None,
        "dirty": bool(changed),
        "diff_sha256": hashlib.sha256(difference.encode()).hexdigest()[:16] if difference else None,
    }


@cache
def packages() -> dict[str, str]:
    """Version of every installed distribution, read once in a process."""
    told = [item.metadata for item in distributions()]  # parsed anew at each look
    found = {str(about["Name"]): str(about["Version"]) for about in told if about["Name"]}
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


@cache
def machine() -> dict[str, Any]:
    """System, processor, cores, memory (GiB) and GPUs."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "gpus": (
            _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader") or ""
        ).splitlines(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(folder: Path, *words: str) -> str | None:
    return _run("git", "-C", str(folder), *words)


def _run(*words: str) -> str | None:
    """Output of a program; None when it is not there or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
