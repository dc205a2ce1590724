"""Configs as values: files, plain containers, changed copies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from agentrl.errors import ConfigError

Config = DictConfig


def save(cfg: Config, path: Path) -> None:
    """Write a config as YAML, resolved, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(OmegaConf.to_yaml(cfg, resolve=True))
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def load(path: Path) -> Config:
    """Read a config written by :func:`save`. Raises ConfigError when there is none."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: there is no such folder; give the folder of a run")
    if not path.is_file():
        raise ConfigError(
            f"{path}: there is no such file; expected the config.yaml of a run's folder (a run that was ended while it "
            "was set up has none: give its own command again)"
        )
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path}: not a config (expected key: value lines)")
    return cfg


def plain(cfg: Config) -> dict[str, Any]:
    """A config as resolved plain dicts, lists and values."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def node(values: Mapping[str, Any]) -> Config:
    """A config of plain values."""
    return OmegaConf.create(dict(values))


def at(cfg: Config, key: str) -> Any:
    """The value at a dotted key."""
    return OmegaConf.select(cfg, key)


def changed(cfg: Config, values: Mapping[str, Any]) -> Config:
    """A resolved copy in which the values or whole nodes at dotted keys are other ones."""
    copy = OmegaConf.create(plain(cfg))
    for key, value in values.items():
        OmegaConf.update(copy, key, value, merge=False)
    return copy


def nearest(word: str, known: Collection[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them."""
    near = get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"


def keys(node: Config) -> list[str]:
    return [str(key) for key in node]


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
