"""Whole runs whose learner is several processes: what they learn, Ctrl-C, resuming with another number, torchrun."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from agentrl.errors import Interrupted
from agentrl.run import Run
from tests.toy import save_toy_model
from tests.toy_run import CONF, toy_overrides, toy_train

SMALL = ("method=grpo", "steps=3", "eval.tasks=2", "eval.samples=1", "eval.before=false")
TWO = ("parallel=data", "parallel.processes=2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "learner/loss" in line]


def same(ours: Path, wanted: Path) -> None:
    """The same plays, and the same learning up to rounding."""
    mine, theirs = metrics(ours), metrics(wanted)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs] == [1, 2, 3]
    for a, b in zip(mine, theirs, strict=True):
        assert a["rollout/reward"] == b["rollout/reward"]
        for name in ("learner/loss", "learner/grad_norm", "learner/entropy"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-5)


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    toy_train(model, folder, *SMALL)
    return folder


def test_interrupted_with_two_and_continued_with_another_number(
    model: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches all processes of a terminal; the leader alone takes it. Two go on as four shares, then as one."""
    before = loop.one_batch

    def pressing(run: Run) -> None:
        if run.step == 1:
            for process in multiprocessing.active_children():
                if process.name.startswith("learner"):
                    os.kill(process.pid or 0, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        before(run)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_batch", pressing)
        with pytest.raises(Interrupted, match=r"interrupted at step 2 of 3, all saved"):
            toy_train(model, tmp_path, *SMALL, *TWO)
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("learner")]
    cfg = config.compose("train", [f"resume={tmp_path}", "parallel=fsdp", "parallel.processes=4"], CONF)
    cfg = config.resumed(cfg, [f"resume={tmp_path}", "parallel=fsdp", "parallel.processes=4"])
    assert loop.train(cfg)["status"] == "done"
    same(tmp_path, alone)


@pytest.mark.slow
def test_torchrun_starts_the_processes(model: Path, tmp_path: Path, alone: Path) -> None:
    words = [*toy_overrides(model, tmp_path / "run"), *SMALL, "parallel=fsdp", f"--config-dir={CONF}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "agentrl", "train", *words]
    got = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert got.returncode == 0, got.stderr
    same(tmp_path / "run", alone)
