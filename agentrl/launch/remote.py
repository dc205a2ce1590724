"""What launchers of other machines share: a stop sign in a folder that every machine sees."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from agentrl.launch.base import Job, carry_out


class StopSign:
    """A file that holds the signals by which the person asked to stop, in their order; there from the first on until
    ``clear``.

    Its name is never used twice: a run that a queue starts late still sees the sign of its own command.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"stop-{uuid.uuid4().hex[:12]}"
        self._raised: list[str] = []

    def raise_it(self, number: int) -> None:
        self._raised.append(signal.Signals(number).name)
        self.path.write_text(" ".join(self._raised), encoding="utf-8")

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


def asked(sign: Path) -> list[int]:
    """The signals that a stop sign holds; none while it is not there, or half written."""
    with suppress(OSError, KeyError):
        return [signal.Signals[name] for name in sign.read_text(encoding="utf-8").split()]
    return []


class Remote:
    """What runners have in common whose jobs are carried out by :func:`away`: how they stop, and what is told of a job
    that was lost."""

    def __init__(self, at_once: int, flags: Sequence[str], sign: StopSign) -> None:
        self.at_once = at_once
        self._flags = tuple(flags)
        self._sign = sign
        self._stopped = False

    def stop(self, number: int = signal.SIGINT) -> None:
        self._stopped = True
        self._sign.raise_it(number)

    def close(self) -> None:
        self._sign.clear()

    def _lost(self, job: Job, text: str) -> int:
        """Tell it in the job's log; gives the exit code."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"agentrl: {text}\n")
        return 1


def away(job: Job, flags: Sequence[str], sign: Path) -> int:
    """Carry out a job on the machine where a queue put it; gives its exit code.

    What the person asks for by the stop sign reaches the run as the signal that it was. SIGTERM and SIGUSR2, by which a
    queue says that the time is up, reach it as one SIGTERM, which stands for the first of the person's.
    """
    caught: list[int] = []

    def note(number: int, _frame: Any) -> None:
        caught.append(number)

    if current_thread() is main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, note)

    def stops() -> Sequence[int]:
        of_queue = [signal.SIGTERM] if caught else []
        return of_queue + asked(sign)[len(of_queue) :]

    return carry_out(job, flags, {}, stops)
