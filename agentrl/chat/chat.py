"""Messages to tokens and back: the only place that knows chat templates.

Tokens are the record of an episode, so nothing here ever re-tokenises what a policy sampled. A new prompt is either
rendered whole (:meth:`Chat.render`), or grown from the tokens at hand by what the template puts between two actions
(:meth:`Chat.delta`). The latter is read off the template itself, with a conversation that holds a marker in the place
of the action, and is refused where the template gives no prefix that can be proven.

What a message says never becomes a control token: where its text spells one out (a page that holds ``<|im_end|>``), a
space goes behind the first character (``< |im_end|>``). Only templates write control tokens, only policies sample them.

Tools are offered (``tools``: JSON text of a list of schemas, "" for none) as the template has it, where it takes tools;
else a system message states them with the ``<tool_call>`` convention. Calls are written as the template writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from agentrl.bundled import locate
from agentrl.errors import ConfigError
from agentrl.hub import require_reachable
from agentrl.toolcalls import CLOSE, OPEN, as_json, read, write
from agentrl.types import Message, Role, ToolCall

MARK = "markerxq"  # stands for an action in probing conversations; plain letters, so that no template changes it
THINKING = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)
NO_THOUGHT = re.compile(r"<think>\s*</think>\s*")  # what a template shows where thinking is off
CALL = {"name": MARK, "arguments": {"key": "value"}}  # a call in probing conversations
TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {"name": MARK, "description": "d", "parameters": {"type": "object", "properties": {}}},
        }
    ]
)
TOLD = """You may call these tools, one JSON schema a line:
{schemas}
To call one, write {open}{{"name": "<its name>", "arguments": {{<its arguments>}}}}{close}; several may follow.
What they answer comes with the next message."""
CACHED = 16384  # rendered prompts, deltas and decoded actions remembered: members of a group share most of them

Plain = tuple[tuple[Role, str], ...]  # hashable (role, content) pairs


class Chat:
    """The chat format of one tokenizer.

    ``thinking`` is handed to templates that know it (Qwen3); others ignore it. ``name`` is how errors call the
    tokenizer.
    """

    def __init__(self, tokenizer: Any, name: str = "tokenizer", thinking: bool = False) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.thinking = thinking
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                f"chat: {name} has no chat template, so conversations cannot become prompts; use an "
                "instruction-tuned model or add a template to its tokenizer"
            )
        self._control = _pattern(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._takes_system = self._shows((("system", MARK), ("user", "x")))
        self._takes_tool = self._shows((("user", "x"), ("assistant", "y"), ("tool", MARK)))
        self._takes_tools = self._shows((("user", "x"),), TOOLS)
        self._render = lru_cache(CACHED)(self._render_plain)
        self._delta = lru_cache(CACHED)(self._delta_plain)
        self._message = lru_cache(CACHED)(self._read)

    @classmethod
    def load(cls, path: str, thinking: bool = False) -> Chat:
        """The chat format of a model folder, a hub name or a bundled model. Raises ConfigError where there is none."""
        from transformers import AutoTokenizer

        require_reachable(locate(path))
        try:
            tokenizer = AutoTokenizer.from_pretrained(locate(path))
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"model.path: no tokenizer could be loaded from '{path}' ({_first_line(error)}); give a folder in "
                "Hugging Face layout or a hub name that is reachable"
            ) from error
        return cls(tokenizer, path, thinking)

    def render(self, messages: Sequence[Message], tools: str = "") -> tuple[int, ...]:
        """Prompt ids of a conversation in which ``tools`` are offered, the generation prompt included.

        Neighbours of one role are joined by a line break. A system message goes into the first user message where the
        template takes none, a tool's answer becomes a user message likewise.
        """
        if tools and not self._takes_tools:
            schemas = "\n".join(json.dumps(schema, ensure_ascii=False) for schema in json.loads(tools))
            told = Message("system", TOLD.format(schemas=schemas, open=OPEN, close=CLOSE))
            return self._render(self._plain((*_systems(messages), told, *messages[len(_systems(messages)) :])), "")
        return self._render(self._plain(messages), tools)

    def delta(self, observation: Sequence[Message], tools: str = "") -> tuple[int, ...]:
        """Ids that follow an action (which ends in its stop token), up to and with the next generation prompt.

        ``prompt + action + delta`` is the next prompt. Raises ConfigError where the template rewrites what stands
        before.
        """
        return self._delta(self._plain(observation), tools if self._takes_tools else "")

    @cached_property
    def turn_end(self) -> int:
        """The token that the template puts behind an action."""
        return self._ending[0]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an action: the template's end of turn, and the tokenizer's end of text."""
        eos = self.tokenizer.eos_token_id
        return (self.turn_end,) if eos is None or eos == self.turn_end else (self.turn_end, int(eos))

    def message(self, action_ids: Sequence[int]) -> Message:
        """What the sampled tokens say, without stop token and thinking; calls of tools are read (``toolcalls``)."""
        return self._message(tuple(action_ids))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself, for people; "" where it has none (parts of a character, unknown ids).

        A decoder may drop the space that a token begins with: it is put back.
        """
        known = len(self.tokenizer)
        return [self._piece(i) if 0 <= i < known else "" for i in ids]

    def _piece(self, token: int) -> str:
        text: str = self.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        spaced = str(self.tokenizer.convert_ids_to_tokens(token)).startswith("\u2581") and not text.startswith(" ")
        return "" if "\N{REPLACEMENT CHARACTER}" in text else f" {text}" if spaced else text

    def encode_action(self, message: Message) -> tuple[int, ...]:
        """Ids of a demonstrated action as a policy would have sampled them, the stop token included."""
        return (*self._encode(self._inert(self.said(message))), self.turn_end)

    def said(self, message: Message) -> str:
        """The whole text of a message: calls that its content does not spell out follow it, in the template's form."""
        if not message.tool_calls or read(message.content).calls == message.tool_calls:
            return message.content
        calls = "\n".join(self._written(call) for call in message.tool_calls)
        return f"{message.content}\n{calls}" if message.content else calls

    def _plain(self, messages: Sequence[Message]) -> Plain:
        """(role, content) pairs in roles that the template takes, neighbours of one role joined."""
        pairs: list[tuple[Role, str]] = []
        for message in messages:
            role, content = message.role, self.said(message)
            if (role == "system" and not self._takes_system) or (role == "tool" and not self._takes_tool):
                role = "user"
            if pairs and pairs[-1][0] == role != "tool":
                pairs[-1] = (role, f"{pairs[-1][1]}\n{content}")
            else:
                pairs.append((role, content))
        return tuple(pairs)

    def _render_plain(self, conversation: Plain, tools: str) -> tuple[int, ...]:
        return self._encode(self._text(conversation, tools))

    def _delta_plain(self, observation: Plain, tools: str) -> tuple[int, ...]:
        end_text = self._grown_ending
        text = self._text((("user", "x"), ("assistant", MARK), *observation), tools)
        return self._encode(text.partition(MARK)[2][len(end_text) :])

    def _written(self, call: ToolCall) -> str:
        """A call as the template writes one; in ``<tool_call>`` tags where that cannot be had or not be read."""
        if self._writes_calls and (text := self._native(as_json(call))) is not None and read(text).calls == (call,):
            return text
        return write((call,))

    @cached_property
    def _writes_calls(self) -> bool:
        return MARK in (self._native(CALL) or "")

    def _native(self, call: dict[str, Any]) -> str | None:
        """What the template puts in the place of a content when a message holds this call; None where that fails."""
        from jinja2 import TemplateError

        one = {"type": "function", "function": call}
        opening = {"role": "user", "content": "x"}
        try:
            plain = self._template([opening, {"role": "assistant", "content": MARK}], TOOLS, False)
            text = self._template([opening, {"role": "assistant", "content": "", "tool_calls": [one]}], TOOLS, False)
        except (TemplateError, TypeError):
            return None
        before, _, after = plain.rpartition(MARK)
        if not text.startswith(before) or not text.endswith(after) or len(text) < len(before) + len(after):
            return None
        return text[len(before) : len(text) - len(after)].strip()

    @cached_property
    def _ending(self) -> tuple[int, str]:
        """(turn-end id, text from the end of an action's content up to and with that token)."""
        _, found, after = self._text((("user", "x"), ("assistant", MARK), ("user", "z"))).partition(MARK)
        end = self._first_special(after) if found else None
        if end is None:
            raise ConfigError(
                f"chat: with the chat template of {self.name} no special token ends an assistant's message; engines "
                "would not know where to stop: use another template"
            )
        return end

    @cached_property
    def _grown_ending(self) -> str:
        """Text that ends an action, after proving that prompts of this template can grow token by token."""
        end_text = self._ending[1]
        text = self._text((("user", "x"), ("assistant", MARK), ("user", "z")))
        longer = self._text((("user", "x"), ("assistant", "y"), ("user", "z"), ("assistant", MARK), ("user", "z")))
        before, _, after = text.partition(MARK)
        if longer.partition(MARK)[2] != after:
            raise self._no_prefix("what follows an action depends on what came before it")
        if (*self._encode(before + MARK + end_text), *self._encode(after[len(end_text) :])) != self._encode(text):
            raise self._no_prefix("its tokenizer merges text across the end of a message")
        opening = self._text((("user", "x"),))
        if self._encode(NO_THOUGHT.sub("", before)) != self._encode(NO_THOUGHT.sub("", opening)):
            raise self._no_prefix("its generation prompt is not what stands before a past action")
        return end_text

    def _first_special(self, text: str) -> tuple[int, str] | None:
        """Id of the first special token of ``text`` and the text up to and with it."""
        special = {str(token): int(index) for index, token in self.tokenizer.added_tokens_decoder.items()}
        hits = [(text.index(token), token) for token in special if token in text]
        if not hits:
            return None
        start, token = min(hits, key=lambda hit: (hit[0], -len(hit[1])))
        return special[token], text[: start + len(token)]

    def _no_prefix(self, why: str) -> ConfigError:
        return ConfigError(
            f"chat: prompts cannot be grown token by token with the chat template of {self.name}: {why}; use "
            "context=window, or another template"
        )

    def _shows(self, conversation: Plain, tools: str = "") -> bool:
        """Does the template take this conversation with these tools and show the marker?"""
        from jinja2 import TemplateError

        try:
            return MARK in self._text(conversation, tools)
        except TemplateError:
            return False

    def _text(self, conversation: Plain, tools: str = "") -> str:
        messages = [{"role": role, "content": self._inert(content)} for role, content in conversation]
        return self._template(messages, tools, True)

    def _template(self, messages: list[dict[str, Any]], tools: str, generation: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tools=json.loads(self._inert(tools)) if tools else None,
            tokenize=False,
            add_generation_prompt=generation,
            enable_thinking=self.thinking,
        )
        return text

    def _inert(self, content: str) -> str:
        """The content with a space inside whatever its tokenizer would read as a control token."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", content)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _read(self, action_ids: tuple[int, ...]) -> Message:
        ids = action_ids[:-1] if action_ids and action_ids[-1] in self.stop_ids else action_ids
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        content = THINKING.sub("", text)
        return Message("assistant", content, read(content).calls)


def _pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches any of these texts, the longest first; nothing at all when there are none."""
    longest = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")


def tools_text(schemas: Sequence[Mapping[str, Any]]) -> str:
    """Tools as :class:`Chat` takes them: JSON text of a list of schemas (see ``envs.base.offered``)."""
    return json.dumps([dict(schema) for schema in schemas], ensure_ascii=False) if schemas else ""


def _systems(messages: Sequence[Message]) -> Sequence[Message]:
    """The system messages a conversation begins with."""
    count = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    return messages[:count]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
