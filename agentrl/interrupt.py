"""Ctrl-C, SIGTERM and the end of a parent: a run comes to a safe point first.

Ctrl-C finishes the batch or evaluation in progress. SIGTERM is what schedulers send some seconds before they end a
process (Slurm, Kubernetes, spot machines): it drops what is being played, because that can be played again exactly,
and finishes only what the learner has begun. torchrun passes signals on and kills its processes half a minute later:
there Ctrl-C drops what is being played, too.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from typing import Any

from agentrl.errors import Interrupted, Terminated

PARENT = "AGENTRL_PARENT"  # in the environment: the id of a process with which this one ends
TORCHRUN = "TORCHELASTIC_RUN_ID"  # in the environment of processes that torchrun has started
SAME_S = (
    2.0  # under torchrun signals so near each other are one: it came from the terminal (or Slurm) and from torchrun
)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def handled(handler: Callable[[int, Any], None], *numbers: int) -> Iterator[None]:
    """Inside, these signals call ``handler``; then what they did before. Of the main thread alone."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Dropped(KeyboardInterrupt):
    """SIGTERM came while something was played that can be played again."""


class Stop:
    """Whether a run was asked to end: false until a signal came. ``signal``: its number."""

    def __init__(self) -> None:
        self.signal = 0
        self._at = 0.0
        self._droppable = False

    def __bool__(self) -> bool:
        return bool(self.signal)

    @contextmanager
    def heard(self, end: str = "saving") -> Iterator[None]:
        """Inside, the first signal is only noted, so that what is in progress is finished, unless it is
        :meth:`droppable`; what comes then is the caller's ``end``. The second one stops at once."""

        def note(number: int, _frame: Any) -> None:
            if self:
                if TORCHRUN in os.environ and time.monotonic() - self._at < SAME_S:
                    return
                raise KeyboardInterrupt
            self.signal, self._at = number, time.monotonic()
            drop = self._urgent and self._droppable
            with suppress(RuntimeError):  # the signal came in the middle of another print
                print(f"\nagentrl: {self._told(drop)}, then {end}; Ctrl-C again stops at once", flush=True)
            if drop:
                raise Dropped

        with handled(note, signal.SIGINT, signal.SIGTERM):
            yield

    @contextmanager
    def droppable(self) -> Iterator[None]:
        """Inside, and at its begin, SIGTERM (under torchrun any signal) raises :class:`Dropped` at once."""
        self._droppable = True
        try:
            if self._urgent:
                raise Dropped
            yield
        finally:
            self._droppable = False

    def ended(self, text: str) -> Interrupted:
        """The error that ends the run, with the exit code of the signal; ``text`` begins with ``interrupted``."""
        if self.signal != signal.SIGTERM:
            return Interrupted(text)
        return Terminated(text.replace("interrupted", "ended by SIGTERM", 1))

    @property
    def _urgent(self) -> bool:
        return self.signal == signal.SIGTERM or (bool(self) and TORCHRUN in os.environ)

    def _told(self, drop: bool) -> str:
        if not self._urgent:
            return "finishing this batch or evaluation"
        doing = "dropping what is being played" if drop else "finishing the optimiser steps"
        return f"SIGTERM: {doing}" if self.signal == signal.SIGTERM else doing


@contextmanager
def terminable(text: str) -> Iterator[None]:
    """Inside, SIGTERM ends what is done in this thread with ``text``. Raises Terminated."""

    def end(_number: int, _frame: Any) -> None:
        raise Dropped

    with handled(end, signal.SIGTERM):
        try:
            yield
        except Dropped:
            raise Terminated(text) from None


@contextmanager
def signals_raise() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt even where it is ignored, and SIGTERM Dropped, which is one; nothing
    changes in other threads than the main one. ``signal_of`` tells which it was."""
    if current_thread() is not main_thread():
        yield
        return

    def end(number: int, _frame: Any) -> None:
        raise Dropped if number == signal.SIGTERM else KeyboardInterrupt

    with handled(end, signal.SIGTERM, signal.SIGINT):
        yield


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal that raised it."""
    return signal.SIGTERM if isinstance(error, Dropped) else signal.SIGINT


def ended_by(error: KeyboardInterrupt, text: str) -> Interrupted:
    """What a command ends with that was asked to by this; ``text`` says what comes next."""
    if isinstance(error, Dropped):
        return Terminated(f"ended by SIGTERM; {text}")
    return Interrupted(f"interrupted; {text}")


def end_with_parent() -> None:
    """Get SIGTERM when the process ends whose id the environment names (Linux; elsewhere nothing happens)."""
    parent = os.environ.pop(PARENT, "")
    if not parent or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it has gone already
        os.kill(os.getpid(), signal.SIGTERM)
