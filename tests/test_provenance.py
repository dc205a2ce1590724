"""Which command lines made a run: the one that began it stays, those that went on stand beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentrl.provenance import COMMANDS, noted
from agentrl.report import origins


def test_the_first_command_line_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [["agentrl", "train", "seed=1"], ["agentrl", "train", f"resume={tmp_path}"], ["agentrl", "train", "ö=2"]]
    for place, line in enumerate(lines):
        monkeypatch.setattr(sys, "argv", line)
        told = noted(tmp_path / "run", resumed=place > 0)
        assert told == {"command": lines[0], "resumed": lines[1 : place + 1]}
    assert [json.loads(line) for line in (tmp_path / "run" / COMMANDS).read_text().splitlines()] == lines
    assert noted(tmp_path / "run", resumed=False) == {"command": lines[2], "resumed": []}


def test_a_run_of_a_version_without_it_and_a_line_cut_by_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["agentrl", "train", "resume=x"])
    assert noted(tmp_path, resumed=True) == {"command": ["agentrl", "train", "resume=x"], "resumed": []}
    (tmp_path / COMMANDS).write_text('["agentrl", "tr')
    assert noted(tmp_path, resumed=True)["resumed"] == [["agentrl", "train", "resume=x"]]


def test_a_key_is_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["agentrl", "train", "log.wandb.api_key=" + "5e" * 20])
    noted(tmp_path, resumed=False)
    assert "5e5e" not in (tmp_path / COMMANDS).read_text()


def test_a_report_tells_both() -> None:
    origin = {"command": ["agentrl", "train", "seed=1"], "resumed": [["agentrl", "train", "resume=r", "steps=9"]]}
    run: Any = SimpleNamespace(facts={"provenance": origin})
    assert origins._commands(run) == "agentrl train seed=1 (continued: agentrl train resume=r steps=9)"
    del origin["resumed"]
    assert origins._commands(run) == "agentrl train seed=1"
