"""Plays of a planner that stops where its answer would begin: how RLTR separates planning from summing up.

Like :mod:`agentrl.rollout.independent`, but a reply ends with the first token that completes ``stop_text`` (outside a
``<think>`` block), as if the engine had stopped there: what was sampled behind it is dropped before environment and
learner see it. The tokens that stay, and their logprobs, are those of an engine with that stop text, so nothing behind
the tag is in the loss, and the record is still exactly what was sampled. A token that holds more than the end of the
tag stays whole. arXiv:2508.19598: the planner stops at ``<answer>``, a summarizer writes the answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agentrl.chat import Chat
from agentrl.engine.base import Completion, Engine, Request, Sampling, Stream
from agentrl.engine.wrapped import Wrapped
from agentrl.errors import ConfigError
from agentrl.rollout.base import Stage
from agentrl.rollout.independent import Independent
from agentrl.types import Group, Task


@dataclass(frozen=True)
class Planner(Independent):
    """G independent plays of every task, each reply cut behind ``stop_text``."""

    stop_text: str

    def __post_init__(self) -> None:
        if not self.stop_text:
            raise ConfigError("rollout.stop_text: got an empty text, expected the tag that begins an answer")

    def play(self, stage: Stage, tasks: Sequence[Task], *, seed: int, step: int) -> list[Group]:
        """One group of ``group_size`` members for each task, in order."""
        cutting = replace(stage, engine=Cutting(stage.engine, stage.chat, self.stop_text))
        return super().play(cutting, tasks, seed=seed, step=step)


class Cutting(Wrapped):
    """An :class:`agentrl.engine.base.Engine` whose completions end with the token that completes a text."""

    def __init__(self, engine: Engine, chat: Chat, text: str) -> None:
        super().__init__(engine)
        self._chat = chat
        self._text = text

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """The engine's completions, cut."""
        return [self._cut(completion) for completion in self._engine.generate(requests, sampling)]

    def stream(self, sampling: Sampling) -> CuttingStream:
        """The engine's stream, its completions cut."""
        return CuttingStream(self._engine.stream(sampling), self._cut)

    def _cut(self, completion: Completion) -> Completion:
        whole = len(completion.ids)
        if not self._said(completion.ids):
            return completion
        length = bisect_left(range(1, whole + 1), True, key=lambda n: self._said(completion.ids[:n])) + 1
        if length == whole:
            return completion
        return replace(completion, ids=completion.ids[:length], logprobs=completion.logprobs[:length], finish="stop")

    def _said(self, ids: Sequence[int]) -> bool:
        """Do these tokens say the text, outside their thoughts?"""
        text: str = self._chat.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if text.lstrip().startswith("<think>"):
            text = text.partition("</think>")[2]
        return self._text in text


class CuttingStream:
    """An :class:`agentrl.engine.base.Stream` whose completions are cut."""

    def __init__(self, stream: Stream, cut: Callable[[Completion], Completion]) -> None:
        self._stream = stream
        self._cut = cut

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        """The stream's completions, cut."""
        return [(key, self._cut(completion)) for key, completion in self._stream.advance(new, dropped, wait_s)]

    def close(self) -> None:
        self._stream.close()
