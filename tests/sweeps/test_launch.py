"""Launchers carry out the same jobs: submitit's own executor of this machine for Slurm, a Ray of this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from agentrl.errors import ConfigError, Interrupted
from agentrl.launch import base
from agentrl.launch.base import Launcher, Runner, beginning, carry_out, finished, run_all
from agentrl.launch.local import Local
from agentrl.launch.ray_tasks import RayTasks
from agentrl.launch.remote import Remote, StopSign, asked, away
from agentrl.launch.slurm import Slurm
from tests.sweeps import stub
from tests.sweeps.stub import StubJob
from tests.test_cli import ROOT

SLURM = {"partition": None, "minutes": 5, "warning_s": 5, "cpus": 1, "gpus_per_run": 0, "memory_gib": 1, "setup": []}


def job(folder: Path, seed: int, **env: str) -> StubJob:
    env = {"PYTHONPATH": str(folder / "stub"), **env}
    return StubJob(f"seed{seed}", folder / f"run{seed}", f"seed={seed}", tuple(env.items()))


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are the stand-in, in a folder that holds no other package of its name."""
    stub.install(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)


def local() -> Launcher:
    return Local(workers=2, gpus=0, gpus_per_run=1)


def slurm(**more: Any) -> Launcher:
    return Slurm(cluster="local", workers=2, more=more, **SLURM)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a queue import the real package; what they start is the stand-in (``StubJob.env``)."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]))


def started(launcher: Launcher, folder: Path) -> Runner:
    return launcher.start(folder, [], 2)


def test_one_process_after_the_other_and_only_what_is_left(tmp_path: Path) -> None:
    runner = started(local(), tmp_path)
    jobs = [job(tmp_path, seed) for seed in range(3)]
    assert run_all(jobs, runner) == []
    assert all(finished(one.folder) for one in jobs)
    assert run_all(jobs, runner) == []
    assert [len(stub.begun(one.folder)) for one in jobs] == [1, 1, 1]


def test_an_end_without_a_result_is_a_failure(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Endless:
        name = "endless"
        folder = tmp_path / "run"
        log = tmp_path / "run.log"
        env = {}  # noqa: RUF012
        done = False

        def next(self) -> list[str]:
            return ["train", f"run_dir={self.folder}"]

    (failed,) = run_all([Endless()], started(local(), tmp_path))
    assert (failed.code, failed.told) == (1, "agentrl: the run ended without an error and without a result")


def test_a_second_and_third_ctrl_c_are_harder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in saves at the first; a process that ignores SIGINT is killed at the third."""
    monkeypatch.setenv("STUB_GATE", str(tmp_path / "never"))
    monkeypatch.setattr(base, "POLL_S", 0.02)
    stops: list[int] = []
    one = job(tmp_path, 0)
    codes: list[int] = []
    deaf = tmp_path / "stub" / "agentrl" / "__main__.py"
    deaf.write_text(
        deaf.read_text().replace("signal.signal(signal.SIGINT, stop)", "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    )
    thread = Thread(target=lambda: codes.append(carry_out(one, [], {}, lambda: stops)))
    thread.start()
    _until((one.folder / "ready").exists)
    stops += [signal.SIGINT, signal.SIGINT]
    time.sleep(0.3)
    assert thread.is_alive()
    stops.append(signal.SIGINT)
    thread.join(20)
    assert codes == [-9]


def test_what_an_interrupted_run_without_a_checkpoint_left_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").touch()
    assert beginning(folder, ["train", "x=1"]) == ["train", "x=1"]
    assert not folder.exists()
    (folder / "checkpoints" / "step_000002").mkdir(parents=True)
    (folder / "checkpoints" / "step_000002" / "manifest.json").touch()
    (folder / "config.yaml").touch()
    assert beginning(folder, ["sft", "x=1"]) == ["sft", f"resume={folder}"]


def test_a_stop_sign_counts(tmp_path: Path) -> None:
    first, second = StopSign(tmp_path), StopSign(tmp_path)
    assert first.path != second.path
    assert asked(first.path) == []
    first.raise_it(signal.SIGTERM)
    first.raise_it(signal.SIGINT)
    assert asked(first.path) == [signal.SIGTERM, signal.SIGINT]
    first.path.write_text("SIGTERM SIGI")
    assert asked(first.path) == []
    first.clear()
    assert not first.path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_remote_run_gets_the_signal_of_the_sweep(number: int, tmp_path: Path) -> None:
    """SIGTERM drops what is being played, SIGINT finishes the batch: the run has to know which it was."""
    sign = StopSign(tmp_path)
    one = job(tmp_path, 0, STUB_GATE=str(tmp_path / "never"))
    codes: list[int] = []
    thread = Thread(target=lambda: codes.append(away(one, [], sign.path)))
    thread.start()
    _until((one.folder / "ready").exists)
    Remote(1, [], sign).stop(number)
    thread.join(60)
    assert codes == [128 + number]


@pytest.mark.usefixtures("queue")
def test_jobs_of_a_queue(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    jobs = [job(tmp_path, seed) for seed in range(2)]
    runner = started(slurm(), tmp_path)
    try:
        assert run_all(jobs, runner) == []
    finally:
        runner.close()
    assert [len(stub.begun(one.folder)) for one in jobs] == [1, 1]


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("launcher", ["slurm", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_stopped_queue_saves_its_runs(launcher: str, tmp_path: Path) -> None:
    """The stop sign reaches runs on other machines through the folder; then they go on."""
    pytest.importorskip("submitit" if launcher == "slurm" else "ray")
    gate = tmp_path / "gate"
    settings = slurm() if launcher == "slurm" else RayTasks(address="", workers=2, cpus=1, gpus_per_run=0)
    one, two = job(tmp_path, 0, STUB_GATE=str(gate)), job(tmp_path, 1)
    runner = started(settings, tmp_path)
    codes: list[int] = []
    thread = Thread(target=lambda: codes.append(runner.call(one)))
    thread.start()
    _until((one.folder / "ready").exists)
    runner.stop()
    thread.join(60)
    assert codes == [Interrupted.exit_code]
    assert runner.call(two) == Interrupted.exit_code
    assert not two.folder.exists()
    runner.close()
    assert carry_out(one, [], {}, list) == 0
    assert [call["argv"][1].partition("=")[0] for call in stub.begun(one.folder)] == ["seed", "resume"]


def test_without_a_queue_it_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"launcher=slurm: .*run this where sbatch is"):
        Slurm(cluster="slurm", workers=0, more={}, **SLURM).start(tmp_path, [], 1)


def _until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
