"""One process at a time works in a folder: a second one would mix its lines and checkpoints with the first one's.

The lock is the system's own (POSIX ``lockf``): it goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agentrl.errors import ConfigError
from agentrl.watchdog import patience

FILE = ".lock"
WAIT_S = 30.0  # for a process that was asked to end and still saves


@contextmanager
def alone(folder: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the folder while inside; it is made, and removed if it stays empty.

    Raises ConfigError when another process holds it for ``wait_s``.
    """
    file = _held(folder / FILE)
    if file is None:
        print(f"agentrl: another process works in {folder}; waiting for its end for up to {wait_s:g} s", flush=True)
        deadline = time.monotonic() + wait_s
        with patience("setup", "waiting for the run's folder", wait_s):
            while file is None and time.monotonic() < deadline:
                time.sleep(min(0.2, wait_s))
                file = _held(folder / FILE)
    if file is None:
        raise ConfigError(f"{folder}: another process works in it; end that one first, or choose another folder")
    with file:
        try:
            yield
        finally:
            (folder / FILE).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, to be renamed; what is left of it goes, and so do drafts of the same target
    whose makers were killed."""
    for lock in target.parent.glob(f".draft_{target.name}_*.lock"):
        if (file := _held(lock)) is not None:
            with file:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
    lock = target.parent / f".draft_{target.name}_{uuid.uuid4().hex}.lock"
    file = _held(lock)
    assert file is not None
    folder = lock.with_suffix("")
    folder.mkdir()
    with file:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _held(path: Path) -> IO[str] | None:
    """The file, locked (where the file system has locks); None while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("w")
    except FileNotFoundError:  # its holder has just removed the folder
        return None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.close()
            return None
    if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
        return file
    file.close()  # its holder has just removed it
    return None
