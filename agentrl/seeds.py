"""Seeds that follow from what they are for, so that no result depends on order, workers or machine."""

from __future__ import annotations

import hashlib


def derive(seed: int, *parts: int | str) -> int:
    """A 63-bit seed from a run's seed and the names of its use, e.g.

    ``derive(seed, "sample", step, task.id, member, turn)``.
    """
    text = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
