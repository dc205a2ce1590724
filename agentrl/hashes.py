"""Hashes that are equal on every machine, and names of folders made of them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> int:
    """A 64-bit hash of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def short_hash(what: Any, digits: int = 8) -> str:
    """Hex digits for anything that JSON can say; equal ones for equal words, so that a folder is found again."""
    return f"{text_hash(json.dumps(what, default=str)) % 16**digits:0{digits}x}"


def slug(text: str, kept: str = r"\w.+-") -> str:
    """A text that is safe in a folder's name and in a word of the command line: each stretch of characters that are
    not ``kept`` (the inside of a class of characters) is one ``_``, none at the ends."""
    return re.sub(rf"[^{kept}]+", "_", text).strip("_.")
