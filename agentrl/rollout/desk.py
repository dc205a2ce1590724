"""Where environments answer: in this thread, or in worker threads, of which none is waited for beyond a deadline."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

LEFT = "agentrl: left behind"  # name of a thread whose environment did not answer in time

T = TypeVar("T")


class EnvTimeout(Exception):
    """An environment did not answer in time; a thread is still with it."""


class Desk(Protocol[T]):
    """Takes work under keys of the caller's and gives the answers in the order in which they come."""

    @property
    def busy(self) -> bool:
        """Is there an answer still to be given?"""
        ...

    def hand(self, key: int, work: Callable[[], T], late: Callable[[], None]) -> None:
        """``late`` is called, if ever, when ``work`` ends after its deadline; nobody sees its answer then."""
        ...

    def answers(self, wait_s: float) -> list[tuple[int, T | EnvTimeout]]:
        """All that came; waits for the first one ``wait_s`` at most."""
        ...

    def close(self) -> None: ...


class Here(Generic[T]):
    """A desk without threads: work is done when it is handed over. There is no deadline."""

    def __init__(self) -> None:
        self._answers: list[tuple[int, T | EnvTimeout]] = []

    @property
    def busy(self) -> bool:
        return bool(self._answers)

    def hand(self, key: int, work: Callable[[], T], late: Callable[[], None]) -> None:
        """Do it now."""
        self._answers.append((key, work()))

    def answers(self, wait_s: float) -> list[tuple[int, T | EnvTimeout]]:
        """All that was handed over since."""
        found, self._answers = self._answers, []
        return found

    def close(self) -> None:
        """Nothing to end."""


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    key: int
    work: Callable[[], T]
    late: Callable[[], None]
    thread: threading.Thread | None = None
    until: float = float("inf")  # on the monotonic clock, once a thread has begun
    over: bool = False
    answer: T | None = None
    error: BaseException | None = None
    given_up: bool = False


class Threads(Generic[T]):
    """At most ``most`` threads at work; one that takes longer than ``deadline_s`` over a job (0: no deadline) is left
    behind and replaced. A thread cannot be killed: :func:`left_behind` counts those that never came back."""

    def __init__(self, most: int, deadline_s: float) -> None:
        self._most = most
        self._deadline_s = deadline_s or float("inf")
        self._jobs: queue.SimpleQueue[_Job[T] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[_Job[T]] = queue.SimpleQueue()
        self._open: dict[int, _Job[T]] = {}
        self._threads = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        return bool(self._open)

    def hand(self, key: int, work: Callable[[], T], late: Callable[[], None]) -> None:
        """The next free thread does it; its deadline counts from there."""
        job = self._open[key] = _Job(key, work, late)
        self._jobs.put(job)
        if self._threads < min(self._most, len(self._open)):
            self._begin()

    def answers(self, wait_s: float) -> list[tuple[int, T | EnvTimeout]]:
        """All that came, and an EnvTimeout for each job beyond its deadline. What a job raises is raised here."""
        found: list[tuple[int, T | EnvTimeout]] = []
        patience = min([wait_s, *(job.until - time.monotonic() for job in self._open.values())])
        while True:
            try:
                job = self._done.get(timeout=patience) if patience > 0 else self._done.get_nowait()
            except queue.Empty:
                return found + self._give_up()
            patience = 0.0
            del self._open[job.key]
            if job.error is not None:
                raise job.error
            found.append((job.key, cast(T, job.answer)))

    def close(self) -> None:
        """Let the threads end when they are done with what they are doing."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _begin(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, name="agentrl: environments", daemon=True).start()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.thread = threading.current_thread()
            job.until = time.monotonic() + self._deadline_s
            try:
                job.answer = job.work()
            except BaseException as error:
                job.error = error
            with self._lock:
                job.over = True
            if job.given_up:
                job.late()
                return
            self._done.put(job)

    def _give_up(self) -> list[tuple[int, T | EnvTimeout]]:
        """What is beyond its deadline now."""
        late: list[tuple[int, T | EnvTimeout]] = []
        for job in [job for job in self._open.values() if job.until < time.monotonic()]:
            with self._lock:
                job.given_up = not job.over
            if job.given_up:
                assert job.thread is not None
                job.thread.name = LEFT
                del self._open[job.key]
                self._threads -= 1
                self._begin()
                late.append((job.key, EnvTimeout(f"no answer within schedule.deadline_s={self._deadline_s:g}")))
        return late


def left_behind() -> int:
    """Threads of this process that are still with an environment that did not answer in time."""
    return sum(thread.name == LEFT for thread in threading.enumerate())
