"""Runs that are killed, stopped by SIGTERM or out of disk: nothing is lost, nothing is there twice."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentrl import checkpoint, config, loop
from agentrl.alone import alone, draft
from agentrl.checkpoint import Checkpoints
from agentrl.errors import ConfigError, DiskError, Interrupted, Terminated
from agentrl.interrupt import PARENT, end_with_parent
from agentrl.run import Run
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

SCRIPT = Path(__file__).parents[1] / "scripts" / "kill_test.py"
SMALL = ("method=grpo", "steps=3", "tasks_per_step=4", "eval.tasks=2", "eval.samples=1", "eval.val_tasks=2")
VAL = ("checkpoint.every=1", "eval.every=1")


@pytest.fixture(scope="module")
def kill_test() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_test", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    toy_train(model, folder, *SMALL, *VAL)
    return folder


def resume(run_dir: Path) -> dict[str, Any]:
    cfg = config.load(run_dir / "config.yaml")
    cfg.resume = str(run_dir)
    return loop.train(cfg)


def forked(work: Callable[[], None]) -> int:
    """What a process comes to that does this: its exit code, or minus the signal that ended it."""
    if not (pid := os.fork()):
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(module: Any, name: str, moment: Callable[..., bool], what: Callable[[], None]) -> None:
    """Do ``what`` once when ``module.name`` is called with arguments for which ``moment`` is true."""
    known, done = getattr(module, name), []

    def patched(*args: Any, **more: Any) -> Any:
        if not done and moment(*args):
            done.append(True)
            what()
        return known(*args, **more)

    setattr(module, name, patched)


MOMENTS = {
    "first_evaluation": lambda: before(loop, "evaluate", lambda _, moment: moment == "before", kill),
    "first_batch": lambda: before(loop, "one_batch", lambda _: True, kill),
    "after_a_batch": lambda: before(loop, "evaluate", lambda run, moment: moment == "val" and run.step == 2, kill),
    "between_two_names": lambda: before(checkpoint, "to_disk", lambda path: path.name == "checkpoints", kill),
    "old_going": lambda: before(shutil, "rmtree", lambda path, *_: path.name == ".drop_step_000001", kill),
    "summary": lambda: before(loop, "finish", lambda *_: True, kill),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_it_leaves_what_an_undisturbed_run_leaves(
    moment: str, whole: Path, model: Path, tmp_path: Path, kill_test: ModuleType
) -> None:
    def work() -> None:
        MOMENTS[moment]()
        toy_train(model, tmp_path, *SMALL, *VAL)

    assert forked(work) == -signal.SIGKILL
    assert resume(tmp_path)["status"] == "done"
    assert kill_test.differences(kill_test.left_of(whole), kill_test.left_of(tmp_path)) == []


def test_the_comparison_sees_a_line_that_is_there_twice(
    whole: Path, model: Path, tmp_path: Path, kill_test: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        MOMENTS["summary"]()
        toy_train(model, tmp_path, *SMALL, *VAL)

    forked(work)
    monkeypatch.setattr("agentrl.run.run.cut", lambda *_: None)
    resume(tmp_path)
    names = [
        text.split(":")[0] for text in kill_test.differences(kill_test.left_of(whole), kill_test.left_of(tmp_path))
    ]
    assert names == ["metrics", "calls", "evaluations"]


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


TERMS = {
    "before": (lambda patch: hook(patch, "evaluate.run", lambda _: True), 0),
    "rollout": (lambda patch: hook(patch, "rollout.play", lambda run: run.step == 1), 1),
    "val": (lambda patch: hook(patch, "evaluate.run", lambda run: run.step == 2), 2),
    "learner": (lambda patch: hook(patch, "learner.learn", lambda run: run.step == 1), 2),
    "after": (lambda patch: hook(patch, "evaluate.run", lambda run: run.step == 3 and run.validated == 3), 3),
}


def hook(patch: pytest.MonkeyPatch, name: str, moment: Callable[[Run], bool]) -> None:
    """SIGTERM in the middle of ``run.<name>``, once it is ``moment``."""
    part, _, function = name.partition(".")
    kind = {"evaluate": "agentrl.evaluate.Evaluate", "rollout": "agentrl.rollout.independent.Independent"}
    built: list[Run] = []
    opening = loop.opening
    patch.setattr(loop, "opening", lambda run: (built.append(run), opening(run))[1])
    path = f"{kind.get(part, 'agentrl.learner.Learner')}.{function}"
    known = getattr(getattr(sys.modules[path.rsplit(".", 2)[0]], path.split(".")[-2]), function)

    def patched(self: Any, *args: Any, **more: Any) -> Any:
        found = known(self, *args, **more)
        if built and moment(built[0]) and not built[0].stop:
            term()
        return found

    patch.setattr(path, patched)


@pytest.mark.parametrize("phase", TERMS)
def test_sigterm_saves_at_once_and_loses_nothing(
    phase: str, whole: Path, model: Path, tmp_path: Path, kill_test: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being played is dropped, what the learner has begun is finished; the words say how to go on."""
    prepare, step = TERMS[phase]
    with monkeypatch.context() as patch:
        prepare(patch)
        with pytest.raises(
            Terminated, match=f"ended by SIGTERM at step {step} of 3, all saved; continue with"
        ) as error:
            toy_train(model, tmp_path, *SMALL, *VAL)
    assert error.value.exit_code == 143
    assert checkpoint.steps_saved(tmp_path)[0] == step
    assert resume(tmp_path)["status"] == "done"
    mine, theirs = kill_test.left_of(tmp_path), kill_test.left_of(whole)
    names = [text.split(":")[0] for text in kill_test.differences(theirs, mine)]
    assert names in ([], ["calls"])  # calls that were dropped were made


def test_sigterm_in_a_warm_start(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["warmstart=sft", "warmstart.steps=3", "warmstart.tasks_per_step=2", f"warmstart.folder={tmp_path}/warm"]
    with monkeypatch.context() as patch:
        known = loop.one_batch
        patch.setattr(loop, "one_batch", lambda run: (term() if run.step == 1 else None, known(run))[1])
        with pytest.raises(Terminated, match="ended by SIGTERM during the warm start, at step 1 of 3; nothing is kept"):
            toy_train(model, tmp_path / "run", *SMALL, *words)
    assert not list((tmp_path / "warm").iterdir())
    assert not (tmp_path / "run").exists()
    assert toy_train(model, tmp_path / "run", *SMALL, *words)["status"] == "done"


def test_a_killed_warm_start_is_made_again_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    words = ["warmstart=sft", "warmstart.steps=3", "warmstart.tasks_per_step=2", f"warmstart.folder={tmp_path}/warm"]

    def work() -> None:
        before(loop, "one_batch", lambda run: run.step == 1, kill)
        toy_train(model, tmp_path / "run", *SMALL, *words)

    assert forked(work) == -signal.SIGKILL
    assert len(list((tmp_path / "warm").iterdir())) == 3  # a draft, its lock, and that of whose turn it is
    result = toy_train(model, tmp_path / "run", *SMALL, *words)
    assert [path.name for path in (tmp_path / "warm").iterdir()] == [result["facts"]["warmstart"]["hash"]]


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes."""
    known = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, known[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, known)


def save_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("x" * 3000)


@pytest.mark.parametrize("size", [2000, 20_000])
def test_a_full_disk_leaves_the_checkpoint_before(size: int, tmp_path: Path) -> None:
    """Whether a library or this program meets the limit: one sentence, and nothing else changes."""
    torch = pytest.importorskip("torch")
    (tmp_path / "config.yaml").write_text("")
    saver = Checkpoints(every=1, keep=2)
    saver.save(tmp_path, 1, {"learner": {"w": torch.zeros(10)}}, save_model)
    with room(size), pytest.raises(DiskError, match=r"too large.*the checkpoint of step 1 stands; mend that, then"):
        saver.save(tmp_path, 2, {"learner": {"w": torch.zeros(10_000)}}, save_model)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    assert checkpoint.latest(tmp_path, print).step == 1


def test_logs_that_cannot_be_written(whole: Path, model: Path, tmp_path: Path, kill_test: ModuleType) -> None:
    """One sentence that names what stands; once there is room, the run goes on and nothing is missing."""
    known = loop.report

    def report(run: Run, *rest: Any) -> None:
        if run.step < 2:
            return known(run, *rest)
        with room((run.folder / "trajectories.jsonl").stat().st_size + 100):
            return known(run, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "report", report)
        with pytest.raises(DiskError, match=r"File too large; the checkpoint of step 1 stands; .* resume=") as error:
            toy_train(model, tmp_path, *SMALL, *VAL)
    assert error.value.exit_code == 2
    assert resume(tmp_path)["status"] == "done"
    assert kill_test.differences(kill_test.left_of(whole), kill_test.left_of(tmp_path)) == []


def save(run: Path, step: int, value: float, saver: Checkpoints) -> None:
    saver.save(run, step, {"run": {}}, save_model, {"val/greedy_success": value, "learner/loss": -value})


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    saver = Checkpoints(every=1, keep=1, best="val/greedy_success")
    for step, value in enumerate([0.1, 0.5, 0.5, float("nan"), 0.4], start=1):
        save(tmp_path, step, value, saver)
    assert checkpoint.steps_saved(tmp_path) == [5, 2]  # the earliest of equal ones
    assert saver.best_of(tmp_path) == (2, 0.5)
    save(tmp_path, 6, 0.75, saver)
    assert checkpoint.steps_saved(tmp_path) == [6]
    assert Checkpoints(1, 1, "learner/loss").best_of(tmp_path) is None  # it was not chosen by that


def test_a_run_tells_its_best_and_refuses_what_it_cannot_choose_by(model: Path, tmp_path: Path) -> None:
    best = ("checkpoint.best=val/sampled_return", "checkpoint.keep=1")
    result = toy_train(model, tmp_path, *SMALL, *VAL, *best)
    assert (tmp_path / f"checkpoints/step_{result['best']['step']:06d}").is_dir()
    assert result["best"]["metric"] == "val/sampled_return"
    for words, text in (
        (["checkpoint.best=val/nothing", "checkpoint.every=1"], "no such metric"),
        (["checkpoint.best=val/sampled_return"], "set eval.every"),
        (["checkpoint.best=val/sampled_return", "checkpoint.every=3", "eval.every=2"], "a multiple of it"),
    ):
        with pytest.raises(ConfigError, match=text):
            toy_train(model, tmp_path / "other", *SMALL, *words)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    ready, go = os.pipe()

    def hold() -> None:
        with alone(tmp_path):
            os.write(go, b"x")
            time.sleep(1.0)

    if not (pid := os.fork()):
        hold()
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(ConfigError, match="another process works in it"), alone(tmp_path, wait_s=0.2):
        pass
    with alone(tmp_path, wait_s=60.0):  # until the other one has ended
        assert (tmp_path / ".lock").exists()
    os.waitpid(pid, 0)
    assert not tmp_path.exists()  # it was empty
    tmp_path.mkdir()


def test_drafts_of_the_living_stay(tmp_path: Path) -> None:
    target, (ready, go), (wait, end) = tmp_path / "made", os.pipe(), os.pipe()
    if not (pid := os.fork()):
        with draft(target) as mine:
            os.write(go, str(mine).encode())
            os.read(wait, 1)
        os._exit(0)
    theirs = Path(os.read(ready, 4096).decode())
    with draft(target) as ours:
        assert theirs.is_dir()
        ours.rename(target)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with draft(target):
        assert not theirs.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    for handle in (ready, go, wait, end):
        os.close(handle)


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a parent's death is Linux's")
def test_a_child_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, go = os.pipe()

    def parent() -> None:
        me = os.getpid()
        if not os.fork():
            monkeypatch.setenv(PARENT, str(me))
            signal.signal(signal.SIGTERM, lambda *_: os._exit(os.write(go, b"term") and 0))
            end_with_parent()
            os.write(go, b"begun")
            time.sleep(60.0)
        os.read(ready, 5)

    assert forked(parent) == 0
    os.close(go)
    assert os.read(ready, 4) == b"term"
    os.close(ready)


def test_a_second_signal_stops_at_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = loop.push

    def pushed(run: Run, *rest: Any) -> Any:
        if run.step == 1:
            term()
            term()
        return known(run, *rest)

    monkeypatch.setattr(loop, "push", pushed)
    with pytest.raises(
        Interrupted, match="at step 1 of 3; nothing was saved yet; begin again with: agentrl train resume="
    ):
        toy_train(model, tmp_path, *SMALL)


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path, kill_test: ModuleType) -> None:
    """Real commands, one of them with a warm start; docs/resume.md tells of many more."""
    known = kill_test.scenarios()
    for name, kills in (("keep_best", 2), ("warmstart", 2)):
        tally = kill_test.tried(known[name], kills, tmp_path / name, kill_test.random.Random(name))
        assert not tally.wrong
        assert tally.kills == kills


def test_an_older_configuration_resumes(whole: Path, model: Path) -> None:
    """Keys that a checkpoint node did not have once have values that change nothing."""
    cfg = toy_config(model, whole)
    node = {
        name: value for name, value in config.plain(cfg.checkpoint).items() if name in ("_target_", "every", "keep")
    }
    assert config.build(config.changed(cfg, {"checkpoint": node}).checkpoint) == Checkpoints(40, 2)
