"""The examination: every family of checks on one case, told as a table and as doctor.json."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agentrl import config
from agentrl.config import Config
from agentrl.doctor import credit, forecast, loss, sampling, tokens, weights
from agentrl.doctor.case import FAMILIES, Case, Doctor, admit
from agentrl.doctor.finding import Check, Finding
from agentrl.log.files import write_json
from agentrl.provenance import provenance
from agentrl.run import training_run

CHECKS: dict[str, Sequence[Check]] = {
    **tokens.CHECKS, **loss.CHECKS, **sampling.CHECKS, **credit.CHECKS, **weights.CHECKS, **forecast.CHECKS,
}  # fmt: skip
COLOURS = {"ok": "green", "NOT OK": "bold red", "-": "dim"}


def doctor(cfg: Config) -> dict[str, Any]:
    """``agentrl doctor``: examine, print, write ``out``/doctor.json if asked. Raises ConfigError as ``train`` does."""
    begin = time.perf_counter()
    settings: Doctor = config.build(cfg.doctor)
    with tempfile.TemporaryDirectory(prefix="agentrl_doctor_") as folder:
        case = admitted(cfg, settings, Path(folder))
        try:
            findings = examine(case)
        finally:
            case.run.close()
    took = time.perf_counter() - begin
    show(cfg, case, findings, took)
    result = {
        "ok": all(finding.ok is not False for finding in findings),
        "findings": [asdict(finding) for finding in findings],
        "seconds": round(took, 1),
        "choices": config.plain(cfg.choices),
        "provenance": provenance(),
    }
    if cfg.out:
        write_json(Path(cfg.out) / "doctor.json", result)
    return result


def admitted(cfg: Config, settings: Doctor, folder: Path) -> Case:
    """The case of a config: its run, built as for training but without logs and in a folder of its own, and the small
    batch that it played."""
    minibatches = int(cfg.learner.minibatches)
    settings = replace(settings, tasks=max(settings.tasks, minibatches))
    run = training_run(config.changed(cfg, {"run_dir": str(folder), "log": {}, "resume": None}))
    return admit(run, settings)


def examine(case: Case) -> list[Finding]:
    """All findings, in the order of ``FAMILIES``."""
    wanted = [name for name in FAMILIES if name not in case.doctor.skip]
    return [finding for name in wanted for check in CHECKS[name] for finding in check(case)]


def show(cfg: Config, case: Case, findings: Sequence[Finding], took: float) -> None:
    """The findings as a table, those that are not ok with what to do."""
    terminal = Console(highlight=False)
    plays = sum(len(group.trajectories) for group in case.played)
    terminal.print(
        f"{cfg.choices.method} on {cfg.choices.env}, model {cfg.choices.model}, engine {cfg.choices.engine}: "
        f"{plays} plays of {case.doctor.tasks} tasks, {case.invented} of {len(case.played)} groups with invented "
        "rewards (all their members earned the same)",
        markup=False,
    )
    table = Table(box=None, pad_edge=False)
    for title in ("check", "figure", "threshold", ""):
        table.add_column(title, overflow="fold")
    for finding in findings:
        colour = COLOURS[finding.verdict]
        table.add_row(finding.name, finding.figure, finding.threshold, f"[{colour}]{finding.verdict}[/]")
    terminal.print(table)
    bad = [finding for finding in findings if finding.ok is False]
    for finding in bad:
        terminal.print(f"\nNOT OK  {finding.name}: {finding.checked}", style="red", markup=False)
        terminal.print(f"  got {finding.figure}; expected {finding.threshold}\n  {finding.remedy}", markup=False)
    asked = sum(finding.ok is not None for finding in findings)
    terminal.print(f"\n{asked - len(bad)} of {asked} checks ok, {took:.0f} s", markup=False)
