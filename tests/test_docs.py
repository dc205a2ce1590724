"""The examples of docs/configuration.md work as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agentrl.cli import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page describes: each block begins with the name of its file."""
    blocks = re.findall(r"```(?:python|yaml)\n# mine/(\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    for name, text in blocks:
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "mine")  # put back afterwards, unlike what the command line appends
    return tmp_path / "mine"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def test_the_environment_keeps_the_contract(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("env", "check", "--config-dir", str(mine), "env=guess") == 0
    assert capsys.readouterr().out == "Guess keeps the contract\n"


def test_environment_method_and_reward_train_together(mine: Path, tmp_path: Path) -> None:
    words = "env=guess method=rloo reward=brief steps=2 tasks_per_step=2 rollout.group_size=2 eval.tasks=2 log=files"
    assert run("train", "--config-dir", str(mine), *words.split(), "run_dir=run") == 0
    result = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (result["status"], result["method"], result["env"]) == ("done", "rloo", "guess")
    first = json.loads((tmp_path / "run" / "trajectories.jsonl").read_text().splitlines()[0])
    assert first["reward_parts"]["turns"] == pytest.approx(-0.02 * len(first["turns"]))
