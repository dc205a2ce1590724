"""Ctrl-C at any moment: what is saved, what is said, and that the run goes on from there."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from agentrl.errors import Interrupted, Terminated
from agentrl.interrupt import TORCHRUN, Dropped, Stop
from agentrl.run import Run
from tests.toy import save_toy_model
from tests.toy_run import toy_train

SMALL = ("method=grpo", "steps=3", "eval.tasks=2", "eval.samples=1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def press(times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def at(monkeypatch: pytest.MonkeyPatch, name: str, moment: Any, times: int) -> None:
    """Press Ctrl-C ``times`` when ``loop.<name>`` is called and ``moment(run, arguments)`` is true."""
    before = getattr(loop, name)

    def pressing(run: Run, *rest: Any) -> Any:
        if moment(run, rest):
            press(times)
        return before(run, *rest)

    monkeypatch.setattr(loop, name, pressing)


def resume(run_dir: Path) -> dict[str, Any]:
    cfg = config.load(run_dir / "config.yaml")
    cfg.resume = str(run_dir)
    return loop.train(cfg)


def test_once_in_a_batch(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["agentrl", "train", "method=grpo"])
    with monkeypatch.context() as patch:
        at(patch, "one_batch", lambda run, _: run.step == 1, times=1)
        with pytest.raises(Interrupted, match=r"interrupted at step 2 of 3, all saved; continue with: .*resume="):
            toy_train(model, tmp_path, *SMALL)
    monkeypatch.setattr(sys, "argv", ["agentrl", "train", "resume=here"])
    result = resume(tmp_path)
    assert result["status"] == "done"
    origin = result["facts"]["provenance"]
    assert (origin["command"], origin["resumed"]) == (
        ["agentrl", "train", "method=grpo"],
        [["agentrl", "train", "resume=here"]],
    )


def test_twice_in_a_batch_without_a_checkpoint(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, "one_batch", lambda run, _: run.step == 1, times=2)
    with pytest.raises(Interrupted, match="interrupted at step 1 of 3; nothing was saved yet"):
        toy_train(model, tmp_path, *SMALL)


def test_twice_in_a_batch_with_checkpoints(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        at(patch, "one_batch", lambda run, _: run.step == 2, times=2)
        with pytest.raises(Interrupted, match="interrupted at step 2 of 3, all saved"):
            toy_train(model, tmp_path, *SMALL, "checkpoint.every=1")
    assert resume(tmp_path)["steps"] == 3


@pytest.mark.parametrize("times", [1, 2])
def test_in_the_last_evaluation_nothing_is_lost(
    times: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at(patch, "evaluate", lambda _, rest: rest == ("after",), times)
        if times == 1:  # it is played to its end, and then the run is done
            assert toy_train(model, tmp_path, *SMALL)["status"] == "done"
            return
        with pytest.raises(Interrupted, match="interrupted at step 3 of 3, all saved"):
            toy_train(model, tmp_path, *SMALL)
    assert set(resume(tmp_path)["eval"]) == {"before", "after"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_under_torchrun_a_press_that_comes_twice_counts_once(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the terminal and from torchrun, which kills half a minute later: what is played is dropped at once."""
    monkeypatch.setenv(TORCHRUN, "x")
    stop = Stop()
    with stop.heard():
        with pytest.raises(Dropped), stop.droppable():
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert isinstance(stop.ended("interrupted"), Terminated) is (number == signal.SIGTERM)
        monkeypatch.setattr("agentrl.interrupt.SAME_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
