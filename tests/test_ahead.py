"""Plays one batch older than the policy: the same in a thread as in turn, resumed exactly, counted, refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from agentrl.ahead import Ahead
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.errors import ConfigError, DivergedError, EngineError
from agentrl.learner import Learner
from agentrl.measure import Clock, staleness
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

STALE = ["max_staleness=1", "learner.old_logprobs=recompute", "learner.tis_cap=2.0"]
QUICK = ["eval.before=false", "eval.tasks=1", "eval.samples=1"]
TIMES = ("time/", "speed/", "memory/")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def numbers(run: Path) -> list[dict[str, float]]:
    """The metrics of each step that do not depend on the machine."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(TIMES)} for line in lines]


def column(run: Path, name: str) -> list[float]:
    return [line[name] for line in numbers(run) if name in line]


def weights(run: Path, step: int) -> bytes:
    return (run / f"checkpoints/step_{step:06d}/model/model.safetensors").read_bytes()


@contextmanager
def in_turn(self: Ahead, play: Callable[[], list[Group]], _clock: Clock) -> Iterator[None]:
    """What ``meanwhile`` must come to: first all plays, then the learner."""
    self._play(play)
    yield


@pytest.mark.parametrize("words", ["dapo", "vspo reward=env", "grpo learner.minibatches=2 steps=8"])
def test_a_thread_changes_nothing(words: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit the run in which the next batch is played before the learner begins, whatever is refilled."""
    chosen = [*f"steps=4 method={words}".split(), *STALE, *QUICK]
    toy_train(model, tmp_path / "thread", *chosen)
    monkeypatch.setattr(Ahead, "meanwhile", in_turn)
    toy_train(model, tmp_path / "turn", *chosen)
    assert numbers(tmp_path / "thread") == numbers(tmp_path / "turn")
    last = 8 if "steps=8" in words else 4
    assert weights(tmp_path / "thread", last) == weights(tmp_path / "turn", last)
    assert column(tmp_path / "thread", "rollout/staleness_max") == [0.0, 1.0, 1.0, 1.0]


def test_the_first_batch_is_the_usual_one_and_later_ones_are_older(model: Path, tmp_path: Path) -> None:
    """Batch 1 is sampled by the weights of before, with the seeds of its own step: one play ahead, not two."""
    toy_train(model, tmp_path / "now", "method=grpo", "steps=3", *QUICK, *STALE[1:])
    toy_train(model, tmp_path / "ahead", "method=grpo", "steps=3", *QUICK, *STALE)
    now, ahead = numbers(tmp_path / "now"), numbers(tmp_path / "ahead")
    first = [next(line for line in lines if "learner/loss" in line) for lines in (now, ahead)]
    assert first[0] == first[1]
    assert column(tmp_path / "now", "rollout/staleness") == [0.0, 0.0, 0.0]
    assert column(tmp_path / "ahead", "rollout/staleness") == [0.0, 1.0, 1.0]
    assert column(tmp_path / "now", "rollout/reward") != column(tmp_path / "ahead", "rollout/reward")
    assert len(column(tmp_path / "now", "learner/logprob_gap")) == 3
    assert len(column(tmp_path / "ahead", "learner/logprob_gap")) == 1  # older plays are no mismatch of engines


@pytest.mark.parametrize("words", ["vspo reward=env", "grpo schedule=flowing schedule.env_threads=0"])
def test_a_resumed_run_equals_an_uninterrupted_one(words: str, model: Path, tmp_path: Path) -> None:
    """The batch that was played ahead is in the checkpoint."""
    chosen = [*f"steps=4 method={words} checkpoint.every=2 checkpoint.keep=0".split(), *STALE, *QUICK]
    toy_train(model, tmp_path / "whole", *chosen)
    toy_train(model, tmp_path / "parts", *chosen)
    run = tmp_path / "parts"
    for step in (3, 4):
        for folder in run.glob(f"checkpoints/step_{step:06d}"):
            folder.rename(tmp_path / folder.name)
    (run / "summary.json").unlink()
    loop.train(config.resumed(toy_config(model, run, [f"resume={run}", *chosen]), []))
    assert weights(run, 4) == weights(tmp_path / "whole", 4)
    assert numbers(run)[-1] == numbers(tmp_path / "whole")[-1]


@pytest.mark.slow
def test_it_solves_the_toy_world(model: Path, tmp_path: Path) -> None:
    result = toy_train(model, tmp_path, "method=grpo", "steps=30", "schedule=flowing", *STALE)
    assert result["eval"]["before"]["sampled"]["success"] < 0.3
    assert result["eval"]["after"]["sampled"]["success"] > 0.9


def test_the_engine_is_never_used_twice_at_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refills and pushes find nobody in the engine, and the next batch is truly played beside the learner."""
    lock, beside = threading.Lock(), threading.Event()
    generate, load, learn = TorchEngine.generate, TorchEngine.load, Learner.learn

    def alone(work: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: Any) -> Any:
            assert lock.acquire(blocking=False), "two at once"
            try:
                if threading.current_thread().name == "agentrl: next batch":
                    beside.set()
                return work(*args)
            finally:
                lock.release()

        return one

    def waits(self: Learner, *args: Any) -> dict[str, float]:
        if self.step < 3:
            assert beside.wait(30.0), "nobody plays while the learner learns"
            beside.clear()
        return learn(self, *args)

    monkeypatch.setattr(TorchEngine, "generate", alone(generate))
    monkeypatch.setattr(TorchEngine, "load", alone(load))
    monkeypatch.setattr(Learner, "learn", waits)
    result = toy_train(model, tmp_path, "method=dapo", "steps=4", "rollout.group_size=3", *QUICK, *STALE)
    assert result["status"] == "done"


def test_errors_come_out_of_the_thread_and_wait_for_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = TorchEngine.generate

    def breaks(self: TorchEngine, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        if threading.current_thread() is not threading.main_thread():
            raise EngineError("engine: out of memory")
        return generate(self, requests, sampling)

    monkeypatch.setattr(TorchEngine, "generate", breaks)
    with pytest.raises(EngineError, match="out of memory"):
        toy_train(model, tmp_path, "method=grpo", "steps=3", *QUICK, *STALE)
    ahead, over = Ahead(), threading.Event()

    def play() -> list[Group]:
        threading.Event().wait(0.1)
        over.set()
        return []

    with pytest.raises(DivergedError), ahead.meanwhile(play, Clock()):
        raise DivergedError("the loss is not finite")
    assert over.is_set()
    assert ahead.take(lambda: pytest.fail("a batch without groups was played, too")) == []


def test_old_plays_without_importance_weights_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_staleness=1: .*set learner.old_logprobs=recompute learner.tis_cap=2"):
        toy_train(model, tmp_path, "method=grpo", "steps=2", "max_staleness=1")
    with pytest.raises(ConfigError, match="max_staleness: got 2, expected 0 or 1"):
        toy_config(model, tmp_path, ["max_staleness=2"])
    result = toy_train(model, tmp_path, "method=dpo", "steps=2", "max_staleness=1", *QUICK)
    assert result["status"] == "done"


def test_staleness_by_hand() -> None:
    """Version 12 learns, four updates a batch: 3 tokens of version 12 and 1 of version 4, two batches older."""

    def turn(version: int, tokens: int) -> Turn:
        return Turn((1,), (2,) * tokens, (0.0,) * tokens, Message("assistant", ""), (), version=version)

    task = Task("t", "train", "t")
    shown = Turn((1,), (2, 2), (), Message("assistant", ""), (), version=0)  # a demonstration has no age
    plays = (
        Trajectory(task, 0, (turn(12, 2), turn(4, 1)), Stop.done),
        Trajectory(task, 1, (turn(12, 1), shown), Stop.done),
        Trajectory(task, 2, (turn(0, 9),), Stop.env_error),
    )
    assert staleness([Group(task, plays)], 12, 4) == {"rollout/staleness": 0.5, "rollout/staleness_max": 2.0}
    assert staleness([], 12, 4) == {}
