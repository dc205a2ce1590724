"""What samples tokens: lists of token ids in, token ids with their logprobs out.

The protocol knows nothing of text, environments or training. It is written so that vLLM, a plain PyTorch
sampler and a scripted stand-in fit alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from agentrl.digest import Digest


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to continue. ``seed`` alone decides the draw, whatever else is in the batch."""

    prompt_ids: tuple[int, ...]
    seed: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. ``temperature`` 0 is greedy. The support is always the whole vocabulary (no top-p, no top-k)."""

    temperature: float = 1.0
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled ids, the stop token included, with their logprobs after temperature (at temperature 0: of the
    untempered distribution). ``version`` is the policy_version of the weights that sampled them."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length"]
    version: int


class Arriving:
    """Weights that come one by one. Their ``shapes`` are known before the first of them comes, so that an engine which
    cannot go back can refuse them beforehand."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], each: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.shapes, self._each = shapes, each

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return self._each


def in_parts(requests: Sequence[Request], size: int) -> list[list[int]]:
    """Places of the requests in parts of at most ``size``, sorted so that equal prompts, and those of about one length,
    are computed together."""
    order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt_ids), requests[i].prompt_ids))
    return [order[start : start + size] for start in range(0, len(order), size)]


class Stream(Protocol):
    """Requests that come and go one by one: a play goes on as soon as its own environment has answered, whatever the
    others do. One stream at a time; nothing else is asked of the engine until it is closed."""

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        """Take in requests under keys of the caller's, forget ``dropped`` ones, sample until one is finished or
        ``wait_s`` have passed (a step that has begun is not cut short); everything finished since the last call.

        Raises EngineError.
        """
        ...

    def close(self) -> None:
        """Forget what is still under way."""
        ...


class Engine(Protocol):
    """A sampler with versioned weights."""

    @property
    def version(self) -> int:
        """policy_version of the weights in use."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What the engine keeps its weights in."""
        ...

    @property
    def adapter_only(self) -> bool:
        """Does ``load`` take a LoRA adapter alone (``Policy.adapter_weights``), its base being there already?"""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt; answers in the order of the requests. Raises EngineError."""
        ...

    def stream(self, sampling: Sampling) -> Stream:
        """Sample requests that come and go one by one, until the stream is closed. Raises EngineError."""
        ...

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Take over weights under their checkpoint names (an adapter's: see ``adapter_only``).

        Raises EngineError on an unknown, missing or misshapen one.
        """
        ...

    def checksum(self) -> Digest | None:
        """Digest of the weights in use, comparable with the learner's (``agentrl.sync``); None: cannot be read back."""
        ...

    def rest(self) -> None:
        """Give back the memory of weights and caches until the next ``load``, where the engine can; nothing is asked of
        it in between."""
        ...

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Untempered logprobs of every token but the first of each sequence, teacher-forced (the sync's canaries)."""
        ...

    def close(self) -> None: ...
