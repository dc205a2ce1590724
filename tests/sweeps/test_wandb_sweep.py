"""``agentrl sweep`` against a stand-in of W&B's server: the real client, its agents and its service; the runs are the
stand-in of tests/sweeps/stub.py."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest
import yaml

from tests.sweeps import stub
from tests.test_cli import agentrl, told
from tests.wandb_server import serving

SPACE = """
method: random
metric: {name: rollout/success, goal: maximize}
parameters:
  learner: {parameters: {lr: {distribution: log_uniform_values, min: 1e-4, max: 1e-3}}}
run_cap: 2
description: ours
"""


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def log_in(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on wandb talks to the stand-in."""
    said = {"BASE_URL": url, "API_KEY": "0" * 40, "CONFIG_DIR": str(tmp_path / "wandb"), "SILENT": "true"}
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)


def test_the_same_file_leads_agents(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sweep is created with the file's own keys, agents get their words from it, and the same command goes on."""
    stub.install(tmp_path, monkeypatch)
    given = [{"learner.lr": 0.0005}, {"learner.lr": 0.0002}]
    with serving(given) as (url, server):
        log_in(url, tmp_path, monkeypatch)
        words = ["sweep", str(space), "workers=1", f"run_dir={tmp_path / 'runs'}", "env=webshop"]
        code, out, err = told(capsys, *words)
        assert code == 0, err
        assert "agents work on sweep somebody/agentrl/s1" in out
        sent = yaml.safe_load(server.config)
        assert sent["metric"] == {"name": "rollout/success.max", "goal": "maximize"}
        assert (sent["run_cap"], sent["description"], list(sent["parameters"])) == (2, "ours", ["learner.lr"])
        assert server.given == ["run0", "run1"]
        for run, values in zip(("run0", "run1"), given, strict=True):
            (call,) = stub.begun(tmp_path / "runs" / run)
            assert call["argv"][:3] == ["train", "log=wandb", "env=webshop"]
            assert f"learner.lr={values['learner.lr']}" in call["argv"]
            assert call["WANDB_TAGS"] == "runs"
        kept = json.loads((tmp_path / "runs" / "wandb_sweep.json").read_text())
        assert kept["path"] == "somebody/agentrl/s1"

        created = sum("UpsertSweep" in line for line in server.asked)
        server.waiting.append({"learner.lr": 0.0009})
        assert told(capsys, *words)[0] == 0
        assert server.given[2:] == ["run2"]
        assert sum("UpsertSweep" in line for line in server.asked) == created


def test_no_account_is_a_sentence_that_names_the_other_way(space: Path, tmp_path: Path) -> None:
    done = agentrl(
        "sweep", str(space), WANDB_API_KEY="", WANDB_CONFIG_DIR=str(tmp_path), WANDB_BASE_URL="http://127.0.0.1:9",
        NETRC=str(tmp_path / "netrc"), HOME=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "agentrl train -m sweep=NAME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["vspo_lrr"], "did you mean 'vspo_lr'?"),
        (["nowhere.yaml"], "there is no such file"),
        ([], "no search space; name one of conf/sweep or a file"),
        (["vspo_lr", "env=webshopp"], "did you mean 'webshop'?"),
    ],
)
def test_mistakes(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "sweep", *words)
    assert (code, expected in err) == (2, True), err


def test_a_metric_that_does_not_exist(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space.write_text(SPACE.replace("rollout/success", "rollout/sucess"))
    code, _, err = told(capsys, "sweep", str(space))
    assert (code, "did you mean 'rollout/success'?" in err) == (2, True), err


def test_what_wandb_would_be_told(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "sweep", str(space), "steps=4", "dry_run=true")
    command = json.loads(out)["command"]
    assert (code, command[1:6]) == (0, ["-m", "agentrl", "train", "log=wandb", "steps=4"])
    assert command[-1] == "${args_no_hyphens}"


def test_the_launcher_is_the_sweeps_own(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its words go to no run, and agents are of this machine."""
    code, out, err = told(capsys, "sweep", str(space), "launcher.gpus_per_run=2", "dry_run=true")
    assert (code, "launcher.gpus" in out) == (0, False), err
    code, _, err = told(capsys, "sweep", str(space), "launcher=ray", "dry_run=true")
    assert (code, "leave launcher=local" in err) == (2, True), err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "says"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")])
def test_a_signal_lets_the_runs_of_agents_save(
    number: int,
    says: str,
    space: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub.install(tmp_path, monkeypatch)
    monkeypatch.setenv("STUB_GATE", str(tmp_path / "never"))
    run = tmp_path / "runs" / "run0"

    def press() -> None:
        while not (run / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    with serving([{"learner.lr": 0.0005}]) as (url, _):
        log_in(url, tmp_path, monkeypatch)
        Thread(target=press, daemon=True).start()
        code, _, err = told(capsys, "sweep", str(space), "workers=1", f"run_dir={tmp_path / 'runs'}")
    assert (code, f"{says}; the same command" in err) == (128 + number, True), err
    assert (run / "checkpoints" / "step_000001" / "manifest.json").is_file()
