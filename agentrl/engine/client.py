"""An engine as something that completes conversations: a summarizer or checker that is a model of this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrl.engine.base import Engine, Request, Sampling
from agentrl.seeds import derive
from agentrl.types import Message, Messages


class Speaker(Protocol):
    """What turns conversations into tokens and back (:class:`agentrl.chat.Chat`)."""

    @property
    def stop_ids(self) -> tuple[int, ...]: ...

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]: ...

    def message(self, action_ids: Sequence[int]) -> Message: ...


@dataclass(frozen=True)
class EngineClient:
    """``complete`` by an engine's current weights at ``temperature``; fixed by ``seed`` and the conversation."""

    engine: Engine
    chat: Speaker
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0

    def complete(self, messages: Messages) -> str:
        """The reply, without stop token and thinking. Raises EngineError."""
        prompt = self.chat.render(messages)
        draw = derive(self.seed, "complete", *prompt)
        sampling = Sampling(self.temperature, self.chat.stop_ids)
        (reply,) = self.engine.generate([Request(prompt, draw, self.max_tokens)], sampling)
        return self.chat.message(reply.ids).content
