"""Processes that would make the same thing take turns: the first makes it, the others find it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentrl.watchdog import beat

POLL_S = 0.2  # seconds between two looks at the lock


@contextmanager
def turn(path: Path, what: str) -> Iterator[None]:
    """Inside, this process is the only one of this machine (of all, where the file system has locks) that makes
    ``path``; the others wait, and the watchdog knows ``what`` for. A process that dies leaves its turn to the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    file = _locked(lock, what)
    try:
        yield
    finally:
        if file is not None:
            lock.unlink(missing_ok=True)  # before the lock is freed: who waits sees that this file is gone
            os.close(file)


def _locked(lock: Path, what: str) -> int | None:
    """An open file that holds the lock; None on a file system without locks."""
    said = False
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said:
                print(f"agentrl: another run is making {what}; waiting for it", flush=True)
            said = True
            beat("setup", f"waiting for another run to make {what}")
            time.sleep(POLL_S)
        except OSError:
            os.close(file)
            return None
        else:
            with suppress(FileNotFoundError):
                if os.fstat(file).st_ino == lock.stat().st_ino:
                    return file
        os.close(file)
