"""One HTML file that holds a run's plays and the program that shows them. It asks for nothing from anywhere.

Its policy (CSP) allows exactly one script and one style sheet, by their hashes, and no request at all. Data stand in
blocks that no browser runs; ``<`` is written as an escape there.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentrl.viewer.pack import Packed

HERE = Path(__file__).parent
SCRIPTS = ("data.js", "links.js", "tokens.js", "plays.js", "page.js")  # in the order in which they need each other


def page(packed: Packed, about: Mapping[str, Any], title: str) -> str:
    """The whole file; ``about``: what the page says of the run beside its plays."""
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    head = json.dumps({**packed.head, **about, "title": title}, allow_nan=False).replace("<", "\\u003c")
    blocks = [_data(name, f'"{block}"') for name, block in packed.blocks.items()]
    policy = f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; base-uri 'none'; "
    parts = {
        "policy": f"{policy}form-action 'none'",
        "title": html.escape(title),
        "style": style,
        "data": "\n".join([_data("head", head), *blocks]),
        "script": script,
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def digest(text: str) -> str:
    """An inline script or style as a policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def write(path: Path, text: str) -> None:
    """Write a file atomically: a browser that reloads sees the old page or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _data(name: str, content: str) -> str:
    return f'<script type="application/json" id="{name}">{content}</script>'
