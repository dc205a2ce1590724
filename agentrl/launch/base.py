"""Many runs as one resumable set: what a job is, how it is carried out wherever a launcher puts it, and all of them.

A job asks for one command line of ``agentrl`` after the other (:meth:`Job.next`) until nothing is left, so the same
set begins runs, goes on with interrupted ones and leaves finished ones alone. A lock on the job's log, which the
processes of the job inherit, keeps two commands from working in one folder, also after the first was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from agentrl.errors import Interrupted, Terminated
from agentrl.interrupt import PARENT, ended_by, signal_of, signals_raise
from agentrl.log.files import read_json

Stops = Callable[[], Sequence[int]]
POLL_S = 0.1  # seconds between looks at a process and at the stop sign
STOPPED = Interrupted.exit_code


class Job(Protocol):
    """One member of the set. It is handed to other processes, so it is a plain record."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def folder(self) -> Path:
        """Where its run goes."""
        ...

    @property
    def log(self) -> Path:
        """What its processes say is appended here."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """What its processes find in their environment."""
        ...

    @property
    def done(self) -> bool:
        """Is nothing left to do?"""
        ...

    def next(self) -> list[str] | None:
        """The arguments of ``agentrl`` that come next; None when all is done. Called while the job is locked."""
        ...


class Runner(Protocol):
    """Carries out jobs, as many at a time as ``at_once``."""

    at_once: int

    def call(self, job: Job) -> int:
        """Carry out a job to its end; gives its exit code. After ``stop`` nothing begins. Called in threads."""
        ...

    def stop(self, number: int = signal.SIGINT) -> None:
        """Once: all runs save and end, as soon as the signal ``number`` wants it. Again: they end at once. Again: they
        are killed."""
        ...

    def close(self) -> None: ...


class Launcher(Protocol):
    """Where jobs run: the settings of a runner, one YAML of conf/launcher."""

    def start(self, folder: Path, flags: Sequence[str], usual: int) -> Runner:
        """Begin. Raises ConfigError.

        Args:
            folder: for the launcher's own files.
            flags: of every command line (``--config-dir``).
            usual: runs at a time on one machine if its settings say nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that ended with an exit code other than 0, and the last line that it said."""

    job: Job
    code: int

    @property
    def told(self) -> str:
        lines = (
            self.job.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.job.log.is_file() else []
        )
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def __str__(self) -> str:
        return f"{self.job.name}: exit code {self.code}: {self.told} (all it said: {self.job.log})"


@contextmanager
def started(launcher: Launcher, folder: Path, flags: Sequence[str], usual: int) -> Iterator[Runner]:
    """A launcher's runner, closed at the end; the arguments are those of :meth:`Launcher.start`."""
    runner = launcher.start(folder, flags, usual)
    try:
        yield runner
    finally:
        runner.close()


def run_missing(jobs: Sequence[Job], runner: Runner) -> list[Failed]:
    """Carry out the jobs that are not done; gives those that failed. Raises Interrupted after Ctrl-C."""
    todo = [job for job in jobs if not job.done]
    print(f"{len(jobs)} runs, {len(jobs) - len(todo)} of them done already; {runner.at_once} at a time", flush=True)
    return run_all(todo, runner)


def run_all(jobs: Sequence[Job], runner: Runner) -> list[Failed]:
    """Carry out all jobs; gives those that failed. Raises Interrupted after Ctrl-C, Terminated after SIGTERM."""

    def work(job: Job) -> int:
        begin = time.perf_counter()
        code = runner.call(job)
        if code not in (STOPPED, Terminated.exit_code):
            how = "done" if code == 0 else f"FAILED, see {job.log}"
            _say(f"{job.name}: {how} ({time.perf_counter() - begin:.0f} s)")
        return code

    futures: list[Future[int]] = []
    with ThreadPoolExecutor(min(runner.at_once, max(len(jobs), 1))) as pool, signals_raise():
        try:
            futures += [pool.submit(work, job) for job in jobs]
            wait(futures)
        except KeyboardInterrupt as asked:
            _stopped(runner, futures, asked)
            raise ended_by(asked, "finished runs are kept, the same command goes on") from None
    return [Failed(job, code) for job, future in zip(jobs, futures, strict=True) if (code := future.result())]


def _stopped(runner: Runner, futures: Sequence[Future[int]], asked: KeyboardInterrupt) -> None:
    """Let the runs in progress save and end; each further Ctrl-C is harder."""
    said = False
    while True:
        try:
            runner.stop(signal_of(asked))
            for future in futures:
                future.cancel()
            if not said:
                said = True
                print("\nagentrl: the runs in progress save and end; the same command goes on", flush=True)
            wait(futures)
            return
        except KeyboardInterrupt as again:
            asked = again


def carry_out(job: Job, flags: Sequence[str], env: Mapping[str, str], stops: Stops) -> int:
    """Carry out a job here, one process of ``agentrl`` after the other; gives the first exit code that is not 0.

    ``stops`` tells by which signals it was asked to stop so far, see :meth:`Runner.stop`.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        if not _locked(log, job, stops):
            return STOPPED
        last: list[str] | None = None
        while (words := job.next()) is not None:
            if stops():
                return STOPPED
            if words == last:
                log.write(b"agentrl: the run ended without an error and without a result\n")
                return 1
            if code := _process([*words, *flags], {**job.env, **env}, log, stops):
                return code
            last = words
    return 0


def _say(text: str) -> None:
    """A line, whole: several threads talk at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _locked(log: IO[bytes], job: Job, stops: Stops) -> bool:
    """Wait for the job's lock; False when the person asked to stop before."""
    waits = False
    while not stops():
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not waits:
                _say(f"{job.name}: another process has this run in hand; waiting for it")
            waits = True
            time.sleep(POLL_S)
        except OSError:  # a file system without locks
            return True
    return False


def _process(words: Sequence[str], env: Mapping[str, str], log: IO[bytes], stops: Stops) -> int:
    """One process of ``agentrl``, in a session of its own, so that a Ctrl-C reaches it once; gives its exit code.

    If this process is killed, it saves and ends, too (Linux)."""
    command = [sys.executable, "-m", "agentrl", *words]
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked in Ray's tasks, and inherited
    try:
        child = subprocess.Popen(
            command,
            env={**os.environ, PARENT: str(os.getpid()), **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    told = 0
    while True:
        try:
            return child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            for number in stops()[told:]:
                told += 1
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL) if told > 2 else child.send_signal(number)


def finished(folder: Path) -> bool:
    """Does the folder hold the result of a whole run?"""
    path = folder / "summary.json"
    return path.is_file() and read_json(path)["status"] == "done"


def beginning(folder: Path, command: list[str]) -> list[str]:
    """The words that begin a run, or go on with the one in its folder when it was interrupted after a checkpoint.

    What a run without a checkpoint left is deleted.
    """
    if (folder / "config.yaml").is_file() and any((folder / "checkpoints").glob("step_*/manifest.json")):
        return [command[0], f"resume={folder}"]
    shutil.rmtree(folder, ignore_errors=True)
    return command
