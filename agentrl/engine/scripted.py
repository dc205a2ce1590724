"""A stand-in engine that plays given texts: for tests, and to look at an environment without a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from agentrl.digest import Digest, weights_digest
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.together import Together
from agentrl.errors import EngineError
from agentrl.types import Message

Reply = Callable[[Request], str]


class Speaker(Protocol):
    """What turns a text into the tokens of an action (:class:`agentrl.chat.Chat`)."""

    def encode_action(self, message: Message) -> tuple[int, ...]: ...


class Source(Protocol):
    """Where the chat format comes from (:class:`agentrl.model.Pretrained`)."""

    def chat(self) -> Speaker: ...


@dataclass(frozen=True)
class Scripted:
    """``replies``: texts to play; a request takes the one that its seed picks."""

    replies: list[str]

    def __post_init__(self) -> None:
        if not self.replies:
            raise ValueError("engine.replies: got an empty list, expected at least one text")

    def start(self, source: Source, device: str) -> ScriptedEngine:
        """An engine that speaks the model's tokens; ``device`` is where the texts are not computed."""
        return ScriptedEngine(source.chat(), lambda request: self.replies[request.seed % len(self.replies)])


class ScriptedEngine:
    """An :class:`agentrl.engine.base.Engine` whose policy is a function, certain of its reply: every logprob is 0."""

    dtype = torch.float32

    def __init__(self, chat: Speaker, reply: Reply) -> None:
        self._chat = chat
        self._reply = reply
        self._version = 0
        self._checksum = weights_digest((), self.dtype)

    @property
    def version(self) -> int:
        return self._version

    @property
    def adapter_only(self) -> bool:
        return False

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """The reply to each request, cut at its ``max_tokens``."""
        return [self._complete(request) for request in requests]

    def stream(self, sampling: Sampling) -> Together:
        """Requests one by one: each call answers all that came."""
        return Together(self.generate, sampling, sys.maxsize)

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Take note of the version and the digest; the script stays the same."""
        self._checksum = weights_digest(weights, self.dtype)
        self._version = version

    def checksum(self) -> Digest:
        """Digest of the weights last loaded."""
        return self._checksum

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Raises EngineError: a script has no opinion on other texts than its own."""
        raise EngineError(
            "engine=scripted: it plays texts and cannot score tokens, so no run can learn from it; set "
            "sync.canaries=0, or use engine=torch"
        )

    def rest(self) -> None:
        """It has nothing to give back."""

    def close(self) -> None:
        """Nothing to release."""

    def _complete(self, request: Request) -> Completion:
        whole = self._chat.encode_action(Message("assistant", self._reply(request)))
        ids = whole[: request.max_tokens]
        return Completion(ids, (0.0,) * len(ids), "stop" if len(ids) == len(whole) else "length", self._version)
