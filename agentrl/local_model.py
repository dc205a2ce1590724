"""A second model on this machine, in a process of its own: as judge, checker or summarizer.

The process holds one engine (vLLM serves one model in a process) and starts at the first question. All objects with
equal settings share it. Callers wait side by side: whoever comes while the engine is busy goes with the next batch, so
votes of one answer, and answers that are judged at the same time, are sampled together. A reply depends on the
conversation, its seed and the settings alone (with vLLM: nearly, as its sums depend a little on the batch).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentrl.chat import Chat
from agentrl.cluster.base import WorkerLost
from agentrl.cluster.processes import Process
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.errors import ConfigError, EngineError, JudgeError
from agentrl.model import Pretrained
from agentrl.ranges import require_least
from agentrl.seeds import derive
from agentrl.types import Messages
from agentrl.watchdog import queue

SHOWN = 200  # characters of a reply in an error
TRIES = 2  # processes that a batch is given to, one after the other

Accept = Callable[[str], bool]


@dataclass(frozen=True)
class LocalModel:
    """The schema of conf/client/vllm.yaml, where every number has its unit."""

    engine: Any  # one of conf/engine that serves in one process: vllm or torch
    path: str
    device: str
    attention: str
    thinking: bool
    temperature: float
    max_tokens: int
    context_tokens: int
    retries: int
    concurrent: int
    threads: int
    seed: int
    start_s: float
    timeout_s: float

    def __post_init__(self) -> None:
        require_least(self, "client", temperature=0.0, max_tokens=1, retries=0, concurrent=1, threads=1)
        require_least(self, "client", start_s=0.01, timeout_s=0.01)
        if self.max_tokens >= self.context_tokens:
            raise ConfigError(
                f"client.max_tokens: got {self.max_tokens}, expected less than client.context_tokens="
                f"{self.context_tokens}, which hold the question and the reply"
            )
        if not hasattr(self.engine, "start"):
            raise ConfigError("client.engine: it is no engine; choose engine@judge.client.engine=vllm or torch")

    @property
    def model(self) -> str:
        """Its name in fingerprints."""
        return self.path

    def complete(self, messages: Messages, *, name: str = "", seed: int = 0, accept: Accept | None = None) -> str:
        """The model's reply to ``messages``, without thinking; ``seed`` tells several samples of one request apart.

        Where ``accept`` refuses it, another one is drawn up to ``retries`` times; greedy replies would be the same.
        Raises JudgeError when no reply is accepted or the conversation is too long, EngineError when no model starts.
        """
        served = _served(self)
        prompt = served.chat.render(messages)
        if len(prompt) + self.max_tokens > self.context_tokens:
            raise self._error(
                f"the question has {len(prompt)} tokens, and {self.max_tokens} more are for the reply, beyond "
                f"client.context_tokens={self.context_tokens}"
            )
        reply = ""
        for number in range(1 + (self.retries if self.temperature else 0)):
            draw = derive(self.seed, "complete", seed, number, *prompt)
            reply = served.chat.message(served.ask(Request(prompt, draw, self.max_tokens)).ids).content
            if accept is None or accept(reply):
                return reply
        raise self._error(f"the reply {reply[:SHOWN]!r} is not what was asked for")

    def nonce(self, name: str, seed: int) -> str:
        """A hash of what is asked, so that runs repeat: no answer holds the hash of itself."""
        return hashlib.sha256(f"{self.seed} {seed} {name}".encode()).hexdigest()[:16]

    def close(self) -> None:
        """End the process; the next question starts another one."""
        with _door:
            served = _all.pop(repr(self), None)
        if served is not None:
            served.close()

    def source(self) -> Pretrained:
        """Weights and chat format, as an engine takes them."""
        return Pretrained(
            path=self.path,
            view="text",
            dtype="auto",
            attention=self.attention,
            thinking=self.thinking,
            action_tokens=self.max_tokens,
            context_tokens=self.context_tokens,
            gradient_checkpointing=False,
            lora_rank=0,
            lora_alpha=0,
            lora_targets=[],
        )

    def _error(self, why: str) -> JudgeError:
        return JudgeError(f"model {self.path}: {why}")


@dataclass
class _Waiting:
    """A request and what came of it."""

    request: Request
    answer: Completion | None = None
    error: Exception | None = None

    @property
    def over(self) -> bool:
        return self.answer is not None or self.error is not None


@dataclass
class Served:
    """The process, and those who wait for it. Of several callers the one that gets in asks for all who wait."""

    settings: LocalModel
    chat: Chat
    batches: list[int] = field(default_factory=list)  # sizes, for tests and for the curious
    _worker: Process | None = None
    _waiting: list[_Waiting] = field(default_factory=list)
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _door: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: Request) -> Completion:
        """Raises JudgeError, EngineError."""
        mine = _Waiting(request)
        with self._door:
            self._waiting.append(mine)
        with self._busy, queue(f"questions to {self.settings.path}", lambda: f"{len(self._waiting)} wait"):
            while not mine.over:
                with self._door:
                    size = self.settings.concurrent
                    batch, self._waiting = self._waiting[:size], self._waiting[size:]
                self._serve(batch)
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

    def close(self) -> None:
        """End the process."""
        with self._busy:
            self._drop()

    def _serve(self, batch: list[_Waiting]) -> None:
        """Whatever happens, every one of the batch hears of it."""
        self.batches.append(len(batch))
        try:
            answers = self._sample([one.request for one in batch])
            for one, answer in zip(batch, answers, strict=True):
                one.answer = answer
        except Exception as error:
            for one in batch:
                one.error = error

    def _sample(self, requests: list[Request]) -> list[Completion]:
        sampling = Sampling(self.settings.temperature, self.chat.stop_ids)
        why = ""
        for _ in range(TRIES):
            worker = self._worker or self._hire()
            try:
                found: list[Completion] = worker.ask("generate", requests, sampling, timeout_s=self.settings.timeout_s)
                return found
            except WorkerLost as error:
                why = str(error)
                self._drop()
        raise JudgeError(f"model {self.settings.path}: its process {why}, and so did the one after it")

    def _hire(self) -> Process:
        settings = self.settings
        env, where = {"OMP_NUM_THREADS": str(settings.threads)}, settings.device
        if where.startswith("cuda:"):  # the process sees this GPU alone
            env["CUDA_VISIBLE_DEVICES"], where = where.removeprefix("cuda:"), "cuda:0"
        self._worker = Process(settings.engine, settings.source(), where, env)
        try:
            self._worker.ready(settings.start_s)
        except WorkerLost as error:
            self._drop()
            raise EngineError(
                f"model {settings.path}: its process {error} while it started; see its words above, or give it longer "
                "by client.start_s"
            ) from None
        except EngineError:
            self._drop()
            raise
        return self._worker

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()


_all: dict[str, Served] = {}  # by settings
_door = threading.Lock()


def _served(settings: LocalModel) -> Served:
    with _door:
        key = repr(settings)
        if key not in _all:
            _all[key] = Served(settings, settings.source().chat())
        return _all[key]
