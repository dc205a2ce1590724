"""An engine around another one: all that it does not change is the other one's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agentrl.engine.base import Completion, Engine, Request, Sampling, Stream

if TYPE_CHECKING:
    import torch

    from agentrl.digest import Digest


class Wrapped:
    """An :class:`agentrl.engine.base.Engine` that hands everything on; to be inherited from."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def version(self) -> int:
        return self._engine.version

    @property
    def dtype(self) -> torch.dtype:
        return self._engine.dtype

    @property
    def adapter_only(self) -> bool:
        return self._engine.adapter_only

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return self._engine.generate(requests, sampling)

    def stream(self, sampling: Sampling) -> Stream:
        return self._engine.stream(sampling)

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        self._engine.load(weights, version)

    def checksum(self) -> Digest | None:
        return self._engine.checksum()

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        return self._engine.logprobs(sequences)

    def rest(self) -> None:
        self._engine.rest()

    def close(self) -> None:
        self._engine.close()
