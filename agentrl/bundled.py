"""Where models that travel inside the package lie: ``bundled:tiny`` is the folder agentrl/assets/tiny.

``bundled:tiny/<world>`` is the tiny base that was also shown that world, where there is one, and else ``bundled:tiny``.
"""

from __future__ import annotations

from pathlib import Path

from agentrl.errors import ConfigError

ASSETS = Path(__file__).parent / "assets"
PREFIX = "bundled:"


def locate(path: str) -> str:
    """The hub name or the existing local folder that ``path`` stands for.

    Raises ConfigError on a folder that is not there.
    """
    if path.startswith(PREFIX):
        folder = ASSETS / path.removeprefix(PREFIX)
        while not folder.is_dir() and folder.parent != ASSETS:
            folder = folder.parent
        if not folder.is_dir():
            known = sorted(entry.name for entry in ASSETS.iterdir() if entry.is_dir()) if ASSETS.is_dir() else []
            raise ConfigError(
                f"model.path: no bundled model '{path}'; bundled are: "
                f"{', '.join(PREFIX + name for name in known) or 'none'}"
            )
        return str(folder)
    folder = Path(path).expanduser()
    here = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
    if path.startswith(("/", "./", "../", "~")) or folder.is_dir():
        if not here:
            inside = sorted(folder.glob("checkpoints/step_*/model"))
            raise ConfigError(
                f"model.path: '{path}' holds no model (no config.json, no adapter_config.json); give "
                + (
                    f"one of its checkpoints: {inside[-1]}"
                    if inside
                    else "a folder in Hugging Face layout or a hub name"
                )
            )
        return str(folder)
    if path.count("/") > 1:
        raise ConfigError(
            f"model.path: '{path}' is neither a folder in Hugging Face layout nor a hub name (owner/name); check the "
            "path"
        )
    return path
