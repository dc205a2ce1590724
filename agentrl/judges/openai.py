"""judge=openai: the model that is asked (:mod:`agentrl.judges.asking`) stands behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from agentrl.judges.asking import Asking, Grammar
from agentrl.judges.base import Rubric, Verdict
from agentrl.judges.client import ChatClient
from agentrl.types import Messages


@dataclass(frozen=True)
class OpenAI:
    """The judge behind an endpoint; its fields are the keys of ``conf/judge/openai.yaml`` (see :class:`ChatClient`)."""

    base_url: str
    model: str
    api_key_env: str
    grammar: Grammar
    votes: int
    temperature: float
    max_tokens: int
    timeout_s: float
    retries: int
    backoff_s: float
    concurrent: int
    cache: str

    def __post_init__(self) -> None:
        _ = self._asking  # its own checks, and the client's

    def __getstate__(self) -> dict[str, Any]:
        """Only the fields travel."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def client(self) -> ChatClient:
        """The bare client, for other questions to the same model."""
        shared = {field.name for field in fields(ChatClient)}
        return ChatClient(**{name: value for name, value in self.__getstate__().items() if name in shared})

    @cached_property
    def _asking(self) -> Asking:
        return Asking(self.client, self.grammar, self.votes)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """The endpoint's address is not part of it: the model's name is."""
        return {**self._asking.fingerprint, "judge": "openai"}

    def verdict(self, question: str, reference: str, answer: str, rubric: Rubric | None = None) -> Verdict:
        """As :meth:`Asking.verdict`. Raises JudgeError also when the endpoint fails."""
        return self._asking.verdict(question, reference, answer, rubric)

    def complete(self, messages: Messages, seed: int = 0) -> str:
        """The model's plain reply, with the client's cache and retries."""
        return self.client.complete(messages, seed=seed)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
