"""One engine in this process: what a laptop and a single GPU want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentrl.cluster.base import EngineSettings
from agentrl.cluster.forks import Forks
from agentrl.engine.base import Engine


@dataclass(frozen=True)
class Here:
    """The schema of conf/cluster/here.yaml."""

    def start(self, engine: EngineSettings, source: Any, device: str) -> Engine:
        """The engine itself. Raises ConfigError."""
        return engine.start(source, device)

    def hands(self, count: int, kind: str) -> Forks:
        """Processes of this machine. Raises ConfigError."""
        return Forks(count, kind)

    def describe(self) -> str:
        return "this process"
