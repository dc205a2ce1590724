"""``agentrl view RUN``: the plays of a run as one HTML file, opened where there is a screen."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

from agentrl.viewer.pack import Packer
from agentrl.viewer.page import page, write
from agentrl.viewer.reading import open_run
from agentrl.viewer.text import visible

MIB = 1024 * 1024


def view(cfg: Any) -> dict[str, Any]:
    """Write the page and open it. Gives its path and how many plays it holds. Raises ConfigError, DataError."""
    run = open_run(cfg.run)
    path = Path(cfg.out) if cfg.out else run.folder / "trajectories.html"
    packer = Packer()
    for play in run.plays():
        packer.add(play)
    pieces, why = run.pieces()
    packed = packer.finish(pieces)
    folder = visible(str(run.folder))
    about = {"run": folder, "about": {name: visible(text) for name, text in run.about.items()}, "untold": visible(why)}
    write(path, page(packed, about, f"{run.folder.resolve().name} · plays"))
    print(f"{packed.head['plays']} plays, {path.stat().st_size / MIB:.1f} MiB: {path}")
    if why:
        print(f"tokens are shown as numbers: {why}")
    if cfg.open and has_screen():
        webbrowser.open(path.resolve().as_uri())
    return {"page": str(path), "plays": packed.head["plays"]}


def has_screen() -> bool:
    """Can a browser's window appear here?"""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
