"""Disks that are full, read-only or not ours: one sentence instead of a traceback, and what still stands."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentrl.errors import DiskError

#: what a user can mend about a disk; any other OSError is a crash.
MENDABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
    errno.EIO,
}  # fmt: skip


def reason(error: OSError) -> str | None:
    """``PATH: No space left on device``; None for an error that is not about a disk."""
    if error.errno not in MENDABLE:
        return None
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


@contextmanager
def told(kept: Callable[[], str]) -> Iterator[None]:
    """Inside, an error of a disk becomes a :class:`DiskError` that ends with ``kept()``: what is there, what to do."""
    try:
        yield
    except OSError as error:
        why = reason(error)
        if why is None:
            raise
        raise DiskError(f"{why}; {kept()}") from None
