"""``agentrl new env|method|reward NAME``: a folder with a small working one and its test, to be changed into your own.

The texts lie in agentrl/skeletons; ``$name`` and ``$Name`` in them become the given name and its class.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from agentrl.config import CONF, Config
from agentrl.errors import ConfigError

TEXTS = Path(__file__).resolve().parent / "skeletons"


def new_env(cfg: Config) -> dict[str, Any]:
    """``agentrl new env NAME``."""
    return _new("env", cfg)


def new_method(cfg: Config) -> dict[str, Any]:
    """``agentrl new method NAME``."""
    return _new("method", cfg)


def new_reward(cfg: Config) -> dict[str, Any]:
    """``agentrl new reward NAME``."""
    return _new("reward", cfg)


def _new(kind: str, cfg: Config) -> dict[str, Any]:
    """Write the folder; gives its files. Raises ConfigError for a name that cannot be one, or a folder with content."""
    name = _checked(kind, cfg.name)
    folder = Path(cfg.folder or name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"folder={folder}: exists and is not empty; delete it, or give another folder=FOLDER")
    files = write(kind, name, folder)
    print("\n".join(f"wrote {path}" for path in files))
    print(f"\ngo on:  cd {folder} && python -m pytest    then its README.md")
    return {"files": [str(path) for path in files]}


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """Fill in the texts of a kind (``env``, ``method``, ``reward``); gives the files in alphabetical order."""
    words: Mapping[str, str] = {"name": name, "Name": "".join(part.capitalize() for part in name.split("_"))}
    found = []
    for text in sorted((TEXTS / kind).rglob("*.txt")):
        place = str(text.relative_to(TEXTS / kind)).removesuffix(".txt").replace("NAME", name)
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        found.append(path)
    return found


def _checked(kind: str, name: str | None) -> str:
    if not name:
        raise ConfigError(f"new {kind}: a name is missing; say agentrl new {kind} NAME")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"new {kind} {name}: the name becomes a Python module and a word of the command line; expected a "
            "lower-case letter, then letters, digits and underscores, such as my_world"
        )
    ours = [path.stem for path in (CONF / kind).glob("*.yaml")]
    if name in ours:
        raise ConfigError(f"new {kind} {name}: there is one of this name already in agentrl; take another")
    found = find_spec(name)
    if found is not None and found.origin is not None:  # a mere folder here has none: the next question is about it
        raise ConfigError(f"new {kind} {name}: Python has a module of this name already; take another")
    return name
