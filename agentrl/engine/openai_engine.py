"""A model behind an OpenAI-compatible endpoint as the sampler: for evaluation, since nothing can be pushed to it.

Requests go out side by side, as chat completions; what comes back is text (:mod:`agentrl.endpoint`). Replies are kept
on disk by conversation, temperature and seed: an evaluation that broke off goes on where it was and pays nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.together import Together
from agentrl.errors import ConfigError, EngineError, JudgeError
from agentrl.judges.client import ChatClient
from agentrl.types import Message, Messages

SEEDS = 2**31  # endpoints take seeds below


class Tokenizer(Protocol):
    """What reads prompts back (:class:`agentrl.endpoint.Characters`)."""

    def messages(self, ids: Sequence[int]) -> Messages: ...


class Source(Protocol):
    """Where the chat format comes from (:class:`agentrl.endpoint.Endpoint`)."""

    def chat(self) -> Any: ...


class Client(ChatClient):
    """A chat client that errors call by the engine's keys."""

    called = "engine"


@dataclass(frozen=True)
class OpenAI:
    """The schema of conf/engine/openai.yaml, where every number has its unit."""

    base_url: str
    model: str
    api_key_env: str
    timeout_s: float
    retries: int
    backoff_s: float
    concurrent: int
    cache: str

    def start(self, source: Source, device: str) -> OpenAIEngine:
        """An engine that asks the endpoint. Raises ConfigError for a model that has weights here."""
        chat = source.chat()
        if not hasattr(chat.tokenizer, "messages"):
            raise ConfigError("engine=openai: it plays a model that lives elsewhere; say model=openai, too")
        return OpenAIEngine(Client(**vars(self)), chat)


class OpenAIEngine:
    """An :class:`agentrl.engine.base.Engine` without weights: every logprob is 0, since endpoints do not tell them."""

    dtype = torch.float32
    version = 0
    adapter_only = False

    def __init__(self, client: Client, chat: Any) -> None:
        self._client = client
        self._chat = chat

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt, as many at once as the client allows. Raises EngineError."""
        with ThreadPoolExecutor(self._client.concurrent) as pool:
            try:
                return list(pool.map(lambda request: self._answer(request, sampling.temperature), requests))
            except JudgeError as error:
                pool.shutdown(cancel_futures=True)
                raise EngineError(str(error)) from None

    def _answer(self, request: Request, temperature: float) -> Completion:
        client = replace(self._client, temperature=temperature, max_tokens=request.max_tokens)
        conversation = self._chat.tokenizer.messages(request.prompt_ids)
        reply = client.complete(conversation, seed=request.seed % SEEDS if temperature else 0)
        ids = self._chat.encode_action(Message("assistant", reply))
        return Completion(ids, (0.0,) * len(ids), "stop", 0)

    def stream(self, sampling: Sampling) -> Together:
        """Requests one by one, as many at once as the client allows."""
        return Together(self.generate, sampling, self._client.concurrent)

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Raises EngineError: nothing can be pushed to an endpoint."""
        raise EngineError("engine=openai: it takes no weights, so no run can learn with it; measure with agentrl eval")

    def checksum(self) -> None:
        """None: weights cannot be seen."""

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Raises EngineError: endpoints do not score given texts."""
        raise EngineError(
            "engine=openai: it cannot score tokens, so no run can learn with it; measure with agentrl eval"
        )

    def rest(self) -> None:
        """It has nothing to give back."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
