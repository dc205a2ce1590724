"""A model that lives elsewhere: measured by ``agentrl eval model=openai`` on the same panels, never trained here.

What an endpoint takes and gives is text. So that nothing else has to know, its tokens here are characters: a prompt is
the conversation written out, one number for each character and one for each mark between messages, and can be read
back exactly (:meth:`Characters.messages`). Counts of tokens of such a model are counts of characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from agentrl.chat import Chat
from agentrl.errors import ConfigError
from agentrl.types import Message, Messages, Role

ROLES: tuple[Role, ...] = ("system", "user", "assistant")
END = "<|end|>"
MARKS = (END, *(f"<|{role}|>" for role in ROLES))
SPLIT = re.compile("(" + "|".join(map(re.escape, MARKS)) + ")")


class Mark(str):
    """A control token: no text can write it."""

    special = True


class Characters:
    """A tokenizer, as far as :class:`agentrl.chat.Chat` needs one: ids of marks first, then code points."""

    chat_template = "the conversation, each message behind a mark of its role"
    eos_token_id = None
    added_tokens_decoder: Mapping[int, Any] = MappingProxyType(dict(enumerate(map(Mark, MARKS))))

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """One id for each mark and each other character."""
        ids: list[int] = []
        for part in SPLIT.split(text):
            ids += [MARKS.index(part)] if part in MARKS else [len(MARKS) + ord(character) for character in part]
        return ids

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """The way back."""
        return "".join(MARKS[i] if i < len(MARKS) else chr(i - len(MARKS)) for i in ids)

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False, **_: Any
    ) -> str:
        """The conversation as text; a tool's answer has no mark here, so it goes out as a user's."""
        said = [f"<|{each['role']}|>{each['content']}{END}" for each in messages if each["role"] in ROLES]
        return "".join(said) + ("<|assistant|>" if add_generation_prompt else "")

    def messages(self, ids: Sequence[int]) -> Messages:
        """The conversation that a prompt was made of."""
        found, role = [], ROLES[0]
        for part in SPLIT.split(self.decode(ids)):
            if part in MARKS[1:]:
                role = ROLES[MARKS.index(part) - 1]
            elif part not in ("", END):
                found.append(Message(role, part))
        return tuple(found)

    def save_pretrained(self, folder: Path) -> None:
        """There is nothing to save."""


@dataclass(frozen=True)
class Endpoint:
    """The schema of conf/model/openai.yaml: a model whose weights are elsewhere. Who answers is engine=openai's."""

    path: str
    view: str
    action_tokens: int
    context_tokens: int

    def chat(self) -> Chat:
        """Conversations as characters."""
        return Chat(Characters(), self.path)

    def build(self, device: str, seed: int = 0) -> NoWeights:
        """A policy that can be measured alone."""
        return NoWeights(self.chat())

    def sketch(self) -> Any:
        """Raises ConfigError: there are no weights to count."""
        raise untrainable(self.path)

    def module(self, device: str, dtype: torch.dtype) -> Any:
        """Raises ConfigError: there are no weights."""
        raise ConfigError(f"model={self.path}: its weights are elsewhere; it plays with engine=openai alone")


@dataclass(frozen=True)
class NoWeights:
    """What a run knows of a policy that it can neither see nor move."""

    chat: Chat
    parameters_count: int = 0

    @property
    def place(self) -> NoWeights:
        """Where it lives; see :meth:`describe`."""
        return self

    def describe(self) -> str:
        """For people."""
        return "elsewhere"

    @property
    def module(self) -> Any:
        """Raises ConfigError: there is none."""
        raise untrainable(self.chat.name)

    def parameters(self) -> list[Any]:
        """None that could be trained."""
        return []


def untrainable(model: str) -> ConfigError:
    """Of something that wants weights of a model that has none here."""
    return ConfigError(f"model={model}: it has no weights here to train; measure it with agentrl eval, or take another")
