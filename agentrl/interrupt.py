"""Ctrl-C and SIGTERM: the batch in progress is finished first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def stoppable(end: str = "saving") -> Iterator[list[int]]:
    """Inside, the first Ctrl-C (or SIGTERM) only fills the list, so that the batch in progress is finished; what comes
    then is the caller's ``end``.

    The second one stops at once.
    """
    caught: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        with suppress(RuntimeError):  # the signal came in the middle of another print
            print(f"\nagentrl: finishing this batch or evaluation, then {end}; Ctrl-C again stops at once", flush=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
