"""An engine that leaves a line for each of its calls in ``calls.jsonl``: ``agentrl plan`` reads its speed from them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentrl.engine.base import Completion, Engine, Request, Sampling, in_parts
from agentrl.engine.wrapped import Wrapped

CALLS = "calls.jsonl"  # in the run's folder


class Recorded(Wrapped):
    """An :class:`agentrl.engine.base.Engine` as it is, with a line for each call of ``generate`` in ``folder``.

    A line holds ``version`` of the weights; ``begin`` and ``seconds`` (on the process's own clock); ``rows``
    (requests); ``parts`` of at most ``at_once`` requests that they are computed in; ``iterations`` (the longest
    completion of each part, summed); ``read`` (tokens of the distinct prompts); ``tokens`` (sampled).
    """

    def __init__(self, engine: Engine, folder: Path, at_once: int) -> None:
        super().__init__(engine)
        self._path, self._at_once = folder / CALLS, at_once

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)  # what one kind of engine has beyond the protocol

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt, and note how long it took. Raises EngineError."""
        begin = time.perf_counter()
        found = self._engine.generate(requests, sampling)
        seconds = time.perf_counter() - begin
        parts = in_parts(requests, self._at_once)
        line = {
            "version": self.version,
            "begin": round(begin, 6),
            "seconds": round(seconds, 6),
            "rows": len(requests),
            "parts": len(parts),
            "iterations": sum(max(len(found[i].ids) for i in part) for part in parts),
            "read": sum(len(prompt) for prompt in {request.prompt_ids for request in requests}),
            "tokens": sum(len(completion.ids) for completion in found),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return found
