"""Where the numbers come from: each run's seed, commit, panel, warm start and folder; commands, machines, versions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.comparison import DASH
from agentrl.report.arms import Arm
from agentrl.report.reading import Run, clean
from agentrl.report.tables import Table

CORE = ("agentrl", "torch", "transformers", "peft", "numpy", "vllm")  # told always; of others what differs


@dataclass(frozen=True)
class Origins:
    """``runs``: a table with a row for each; ``commands``: (command line, how many runs); ``versions``: a table."""

    runs: Table
    commands: Sequence[tuple[str, int]]
    versions: Table


def origins(arms: Sequence[Arm]) -> Origins:
    """What the runs' summaries say of themselves."""
    rows = [_row(arm, run) for arm in arms for run in arm.runs]
    head = ["", "", "seed", "steps", "panel", "warm start", "commit", "machine", "folder"]
    runs = [run for arm in arms for run in arm.runs]
    commits = {row[6] for row in rows}
    note = "All runs are of one commit." if len(commits) == 1 else f"The runs are of {len(commits)} states of the code."
    commands: dict[str, int] = {}
    for run in runs:
        told = _commands(run)
        commands[told] = commands.get(told, 0) + 1
    table = Table(
        "runs", "Runs", head, rows, f"{note} + : the code had changes that are in no commit.", words=len(head)
    )
    return Origins(table, list(commands.items()), _versions(runs))


def _row(arm: Arm, run: Run) -> list[str]:
    git = _origin(run).get("git") or {}
    machine = _origin(run).get("machine", {})
    gpus = machine.get("gpus") or []
    where = f"{machine.get('cores', '?')} cores {machine.get('processor', '')}".strip()
    cells = [
        arm.env,
        arm.label,
        str(run.seed),
        str(run.left.summary.get("steps", DASH)),
        run.panel,
        str(run.facts.get("warmstart", {}).get("hash", DASH)),
        (str(git.get("commit"))[:10] + (" +" if git.get("dirty") else "")) if git.get("commit") else DASH,
        f"{len(gpus)} x {gpus[0].split(',')[0]}" if gpus else where,
        run.name,
    ]
    return [clean(cell) for cell in cells]


def _versions(runs: Sequence[Run]) -> Table:
    """Versions of the core packages and of those that differ between runs."""
    found: dict[str, dict[str, int]] = {}
    for run in runs:
        origin = _origin(run)
        for name, version in {"python": origin.get("python"), **origin.get("packages", {})}.items():
            of_name = found.setdefault(clean(name), {})
            of_name[clean(version)] = of_name.get(clean(version), 0) + 1
    differ = [name for name, versions in found.items() if len(versions) > 1 or sum(versions.values()) < len(runs)]
    names = [name for name in ("python", *CORE) if name in found]
    names += [name for name in differ if name not in names]
    rows = [
        [name, "; ".join(f"{v} ({n} runs)" if len(found[name]) > 1 else v for v, n in found[name].items())]
        for name in names
    ]
    note = "All other packages are equal in all runs." if runs else ""
    return Table("versions", "Versions", ["package", "version"], rows, note, words=2)


def _commands(run: Run) -> str:
    """The command line that began a run, and those that went on with it."""
    lines = [_origin(run).get("command", []), *_origin(run).get("resumed", [])]
    first, *later = (shlex.join(clean(word) for word in line) for line in lines)
    return f"{first} (continued: {'; '.join(later)})" if later else first


def _origin(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.facts.get("provenance", {})
    return found
