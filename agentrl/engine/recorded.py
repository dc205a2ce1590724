"""An engine that leaves a line for each of its calls in ``calls.jsonl``: ``agentrl plan`` reads its speed from them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agentrl.engine.base import Completion, Engine, Request, Sampling, Stream, in_parts
from agentrl.engine.together import Together
from agentrl.engine.vllm_stream import VLLMStream
from agentrl.engine.wrapped import Wrapped

CALLS = "calls.jsonl"  # in the run's folder


class Recorded(Wrapped):
    """An :class:`agentrl.engine.base.Engine` as it is, with a line for each call in ``folder``.

    A line holds ``version`` of the weights; ``begin`` and ``seconds`` (on the process's own clock); ``rows``
    (requests); ``parts`` of at most ``at_once`` requests that they are computed in; ``iterations`` (the longest
    completion of each part, summed); ``read`` (tokens of the distinct prompts); ``tokens`` (sampled); ``stream``: was
    it in a stream, where what lies between two calls says nothing? A stream that samples batch by batch has a line for
    each batch. One of continuous batching has a line for each stretch without a pause (its ``iterations`` are the
    engine's steps). One of many workers leaves none: nobody counts their steps.
    """

    def __init__(self, engine: Engine, folder: Path, at_once: int) -> None:
        super().__init__(engine)
        self._path, self._at_once = folder / CALLS, at_once

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)  # what one kind of engine has beyond the protocol

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt, and note how long it took. Raises EngineError."""
        return self._batch(requests, sampling, stream=False)

    def stream(self, sampling: Sampling) -> Stream:
        """The engine's stream, with lines of its own. Raises EngineError."""
        found = self._engine.stream(sampling)
        if isinstance(found, Together):
            return found.by(partial(self._batch, stream=True))
        return _Stretches(found, self) if isinstance(found, VLLMStream) else found

    def note(
        self, begin: float, seconds: float, asked: Sequence[Request], found: Sequence[Completion], **also: object
    ) -> None:
        """Write a line; ``also`` holds ``parts``, ``iterations`` and ``stream``."""
        line = {
            "version": self.version,
            "begin": round(begin, 6),
            "seconds": round(seconds, 6),
            "rows": len(asked),
            "read": sum(len(prompt) for prompt in {request.prompt_ids for request in asked}),
            "tokens": sum(len(completion.ids) for completion in found),
            **also,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _batch(self, requests: Sequence[Request], sampling: Sampling, stream: bool) -> list[Completion]:
        begin = time.perf_counter()
        found = self._engine.generate(requests, sampling)
        seconds = time.perf_counter() - begin
        parts = in_parts(requests, self._at_once)
        iterations = sum(max(len(found[i].ids) for i in part) for part in parts)
        self.note(begin, seconds, requests, found, parts=len(parts), iterations=iterations, stream=stream)
        return found


class _Stretches:
    """A stream of vLLM's that adds up what it does until nothing is under way. A dropped request is not counted."""

    def __init__(self, stream: VLLMStream, calls: Recorded) -> None:
        self._stream, self._calls = stream, calls
        self._under_way: dict[int, Request] = {}
        self._done: list[tuple[Request, Completion]] = []
        self._begin = self._seconds = 0.0
        self._steps = 0

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        """As the stream does it. Raises EngineError."""
        begin = time.perf_counter()
        if not self._under_way:
            self._begin, self._steps = begin, self._stream.steps
        found = self._stream.advance(new, dropped, wait_s)
        self._seconds += time.perf_counter() - begin
        self._under_way.update(new)
        for key in dropped:
            self._under_way.pop(key, None)
        self._done += [(self._under_way.pop(key), completion) for key, completion in found if key in self._under_way]
        if self._done and not self._under_way:
            self._end()
        return found

    def close(self) -> None:
        """Forget what is still under way, and the line it would have been in."""
        self._stream.close()

    def _end(self) -> None:
        asked, found = zip(*self._done, strict=True)
        steps = self._stream.steps - self._steps
        self._calls.note(self._begin, self._seconds, asked, found, parts=1, iterations=steps, stream=True)
        self._done, self._seconds = [], 0.0
