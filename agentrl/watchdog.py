"""Ends a run that stands still, and says where it stood.

Everything that may wait says ``beat(part, what)`` when it begins something. A thread looks on: when nothing was said
for ``quiet_s`` seconds it writes the stacks of all threads and child processes and the state of all queues to
``hang.txt`` in the run's folder, says in one sentence what was silent and what to do, kills the child processes and
ends this one with :data:`EXIT_CODE`. Checkpoints are written beside their place and renamed, so those that stand are
whole.

Seconds are counted by the thread's own ticks: while the process is stopped or the machine sleeps, none pass. What may
take long without a sign of life says so before: ``with patience(part, what, seconds)``. Code that holds the interpreter
(a regular expression that goes astray) keeps the thread from running; a keeper outside looks after the thread itself
(:mod:`agentrl.keeper`).
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from agentrl.keeper import FILE, MEMFD, Child, Keeper, descendants, end, report, sentence

EXIT_CODE = 3
TICKS = 20  # looks per ``quiet_s``, but at least one a second
WRITING_S = 20.0  # for each part of the farewell: a disk or a terminal may hang, too

Sign = tuple[str, str, str]  # part, what it does now, to what

_last: Sign = ("setup", "starting", "")
_granted: list[list[float]] = []  # seconds of each patience that is in force
_queues: dict[str, Callable[[], object]] = {}
_scratch: set[Path] = set()
_watch: _Watch | None = None
_stacks: int | None = None  # the file in memory to which SIGUSR1 writes


def beat(part: str, what: str, subject: str = "") -> None:
    """A sign of life: ``part`` (a key of ``keeper.ADVICE``, or another word) begins ``what``, with ``subject``."""
    global _last
    _last = (part, what, subject)  # a new tuple each time: the watchdog compares identities


def last_sign() -> Sign:
    """The newest sign of life; a new object for each."""
    return _last


def beating(call: Callable[..., Any], part: str, what: str) -> Callable[..., Any]:
    """The same function with a sign of life at each call."""

    def with_beat(*args: Any, **kwargs: Any) -> Any:
        beat(part, what)
        return call(*args, **kwargs)

    return with_beat


@contextmanager
def patience(part: str, what: str, seconds: float) -> Iterator[None]:
    """Inside, up to so many seconds may pass between signs of life, if that is more than ``quiet_s``.

    Its begin is one, and its end, unless that is an error: what fails again and again makes no progress.
    """
    beat(part, what)
    grant = [seconds]
    _granted.append(grant)
    if _watch is not None:
        _watch.told()
    try:
        yield
        beat(part, f"after {what}")
    finally:
        _granted[:] = [other for other in _granted if other is not grant]


@contextmanager
def queue(name: str, state: Callable[[], object]) -> Iterator[None]:
    """Inside, the watchdog's file tells ``state()`` under this name."""
    _queues[name] = state
    try:
        yield
    finally:
        _queues.pop(name, None)


def scratch(folder: Path, made: bool = True) -> None:
    """Note a folder outside the run's that must not be left behind; ``made`` False: it has gone."""
    (_scratch.add if made else _scratch.discard)(folder)


def show_stacks() -> None:
    """Let watchdog and keeper ask this process for the stacks of its threads, by SIGUSR1 (Linux)."""
    global _stacks
    if _stacks is None and sys.platform == "linux":
        _stacks = os.memfd_create(MEMFD)
        faulthandler.register(signal.SIGUSR1, file=_stacks, all_threads=True)


def hide_stacks() -> None:
    """Take it back."""
    global _stacks
    if _stacks is not None and sys.platform == "linux":
        faulthandler.unregister(signal.SIGUSR1)
        os.close(_stacks)
        _stacks = None


@dataclass(frozen=True)
class Watchdog:
    """The schema of the node ``watchdog``. ``quiet_s``: seconds without a sign of life that end the run; 0: never."""

    quiet_s: float

    def __post_init__(self) -> None:
        if not self.quiet_s >= 0.0:
            raise ValueError(f"watchdog.quiet_s: got {self.quiet_s:g}, expected seconds, or 0 for no watchdog")

    @contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Watch what happens inside, which may hold a run with a watch of its own; a hang is told in ``folder``."""
        if not self.quiet_s:
            yield
            return
        global _watch
        beat("setup", "starting")
        free = signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        if free:
            show_stacks()
        outer, own = _watch, _Watch(self.quiet_s, folder.absolute())
        _watch = own
        own.start()
        try:
            yield
        finally:
            own.stop()
            _watch = outer
            if free:
                hide_stacks()


class _Watch(threading.Thread):
    """The thread that looks on."""

    def __init__(self, quiet_s: float, folder: Path) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._quiet_s, self._folder = quiet_s, folder
        self._tick = min(1.0, quiet_s / TICKS)
        self._over = threading.Event()
        self._silent = 0.0  # seconds since the last sign of life, by ticks
        self._clock = 0.0  # seconds since the start, by ticks
        self._heard: dict[str, tuple[float, Sign]] = {}
        self._keeper = Keeper(quiet_s, self._tick, folder)

    def stop(self) -> None:
        """The work is done."""
        self._over.set()
        self.join(WRITING_S)
        self._keeper.close()

    def told(self) -> None:
        """Let the keeper know at once what is allowed now."""
        self._keeper.alive(self._allowed, _last)

    @property
    def _allowed(self) -> float:
        return max([self._quiet_s, *(grant[0] for grant in _granted)])

    def run(self) -> None:
        seen, before = _last, time.monotonic()
        while not self._over.wait(self._tick):
            now = time.monotonic()
            passed = min(now - before, 2 * self._tick)  # more: this process itself did not run
            before = now
            self._clock += passed
            self._silent = self._silent + passed if _last is seen else 0.0
            seen = _last
            self._heard[seen[0]] = (self._clock - self._silent, seen)
            self.told()
            if self._silent >= self._allowed and not _debugged():
                self._end()

    def _end(self) -> None:
        """The last thing this process does. Each part has a time limit of its own, since anything may hang."""
        text = sentence(_last, self._silent, self._quiet_s, self._folder)
        children = [child for child in descendants(os.getpid()) if child.pid != self._keeper.pid]
        self._keeper.close()
        _within(lambda: self._write(text, children), WRITING_S)
        _within(lambda: _say(text), WRITING_S)
        _within(_clear, WRITING_S)
        for child in children:
            end(child.pid, [])
        os._exit(EXIT_CODE)

    def _write(self, text: str, children: list[Child]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / FILE).open("w", encoding="utf-8") as file:
            file.write(f"{text}\n\n{time.strftime('%Y-%m-%d %H:%M:%S %z')}, process {os.getpid()}\n\nsigns of life\n")
            for ago, (part, what, subject) in sorted((self._clock - at, sign) for at, sign in self._heard.values()):
                file.write(f"  {ago:8.1f} s ago  {part}: {what} {subject}\n")
            file.write("\nqueues\n" + "".join(f"  {name}: {_state(state)}\n" for name, state in [*_queues.items()]))
            file.write("\nthreads of this process\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            for line in report(children):
                file.write(line)
                file.flush()


def give_up(text: str) -> NoReturn:
    """End this process and its children now, with a sentence: for a thread that knows the main one cannot go on."""
    _within(lambda: _say(text), WRITING_S)
    _within(_clear, WRITING_S)
    for child in descendants(os.getpid()):
        end(child.pid, [])
    os._exit(EXIT_CODE)


def _say(text: str) -> None:
    """Print past the streams of Python, whose locks the hanging thread may hold."""
    shown = "\x1b[?25h" if os.isatty(2) else ""  # a live view hides the cursor
    os.write(2, f"{shown}\n{text}\n".encode())
    sys.stdout.flush()


def _clear() -> None:
    for folder in _scratch:
        shutil.rmtree(folder, ignore_errors=True)


def _state(state: Callable[[], object]) -> object:
    try:
        return state()
    except Exception as error:  # it changes while it is looked at
        return f"{type(error).__name__}: {error}"


def _within(job: Callable[[], object], seconds: float) -> None:
    """Do it, but wait no longer than that."""

    def quietly() -> None:
        with suppress(Exception):
            job()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(seconds)


def _debugged() -> bool:
    """Does a person hold the main thread in a debugger?"""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if Path(frame.f_code.co_filename).name in ("bdb.py", "pdb.py"):
            return True
        frame = frame.f_back
    return False
