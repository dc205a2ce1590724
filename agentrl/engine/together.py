"""A stream over an engine that samples in whole batches: requests that wait are sampled together.

No true continuous batching: what comes while a batch is sampled waits for its end. Fair: who came first is sampled
first, ``most`` at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentrl.engine.base import Completion, Request, Sampling

Batches = Callable[[Sequence[Request], Sampling], list[Completion]]  # an engine's ``generate``


class Together:
    """An :class:`agentrl.engine.base.Stream`. A call samples one batch, however long that takes."""

    def __init__(self, generate: Batches, sampling: Sampling, most: int) -> None:
        self._generate = generate
        self._sampling = sampling
        self._most = most
        self._waiting: dict[int, Request] = {}

    def by(self, generate: Batches) -> Together:
        """The same stream, whose batches somebody else samples."""
        return Together(generate, self._sampling, self._most)

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        """Take in ``new``, forget ``dropped``, sample the first ``most`` of those that wait. Raises EngineError."""
        self._waiting.update(new)
        for key in dropped:
            self._waiting.pop(key, None)
        keys = list(self._waiting)[: self._most]
        if not keys:
            return []
        completions = self._generate([self._waiting.pop(key) for key in keys], self._sampling)
        return list(zip(keys, completions, strict=True))

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
