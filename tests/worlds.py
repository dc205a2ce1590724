"""The environments that come with a world of their own; adapters to other people's want to be told which."""

from __future__ import annotations

from agentrl.config import CONF

WORLDS = sorted(path.stem for path in (CONF / "env").glob("*.yaml") if "???" not in path.read_text(encoding="utf-8"))
