"""No key in a log: values of settings that are called like a secret, and texts that look like a known kind of key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
#: names of settings: api_key, WANDB_API_KEY, hf_token, password; not `api_key_env` (a name), not `action_tokens`.
NAME = re.compile(r"(^|[_.-])(key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)
#: texts: W&B (40 hex digits, or wandb_v1_…), OpenAI-like, Hugging Face, GitHub, AWS, bearer, user:password@ of a URL.
TEXT = re.compile(
    r"""
      (?<![0-9A-Za-z])(?:local-)?[0-9a-f]{40}(?![0-9A-Za-z])
    | wandb_v\d_[\w-]{20,}
    | (?<![0-9A-Za-z])sk-[\w-]{16,}
    | (?<![0-9A-Za-z])hf_[A-Za-z0-9]{20,}
    | (?<![0-9A-Za-z])gh[pousr]_[A-Za-z0-9]{20,}
    | (?<![0-9A-Za-z])AKIA[0-9A-Z]{16}(?![0-9A-Za-z])
    | (?<=Bearer\s)\S+
    | (?<=://)[^/@\s:]+:[^/@\s]+(?=@)
    """,
    re.VERBOSE,
)
WORD = re.compile(r"(?P<name>[\w.+~-]+)=(?P<value>.+)", re.DOTALL)


def text(said: str) -> str:
    """A text or a word of the command line without its keys."""
    word = WORD.fullmatch(said)
    if word and _secret(word["name"]):
        return f"{word['name']}={HIDDEN}"
    return TEXT.sub(HIDDEN, said)


def tree(value: Any, name: str = "") -> Any:
    """Mappings and lists, any depth, without keys; ``name`` is where ``value`` stands.

    A git ``commit`` looks like a key of W&B and stays.
    """
    if isinstance(value, Mapping):
        return {key: tree(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tree(item, name) for item in value]
    if isinstance(value, str) and name != "commit":
        return HIDDEN if value and _secret(name) else text(value)
    return value


def _secret(name: str) -> bool:
    return bool(NAME.search(name))
