"""Chat messages and tools of the verifiers package as ours, and our actions as its own.

Up to 0.1.9 a message is a dict in OpenAI's form, later an object with the same fields whose calls are flat (``id``,
``name``, ``arguments`` as JSON text). Which of the two an environment speaks is seen from its prompt.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from agentrl import toolcalls
from agentrl.errors import EnvError
from agentrl.types import Message, Messages, Role, ToolCall

ROLES = {role: role for role in get_args(Role)} | {"developer": "system"}


def field(thing: Any, name: str) -> Any:
    """A field of a dict or object; None where it has none."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def ours(messages: Any) -> Messages:
    """Messages as ours. Raises EnvError for what is no chat, no text or of an unknown role."""
    if isinstance(messages, str) or any(field(message, "role") == "text" for message in messages):
        raise EnvError("env=verifiers: the prompt is a text to complete; expected an environment that chats")
    return tuple(_our(message) for message in messages)


def _our(message: Any) -> Message:
    role = ROLES.get(str(field(message, "role")))
    if role is None:
        raise EnvError(f"env=verifiers: a message of role {field(message, 'role')!r}; expected {', '.join(ROLES)}")
    calls = tuple(_call(call) for call in field(message, "tool_calls") or ())
    return Message(role, _text(field(message, "content")), calls)


def _text(content: Any) -> str:
    """The text of a content, which may be in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [(field(part, "type"), field(part, "text")) for part in content]
    if any(kind != "text" or not isinstance(text, str) for kind, text in parts):
        raise EnvError(f"env=verifiers: a message holds {', '.join(str(k) for k, _ in parts)}; expected text alone")
    return "\n".join(str(text) for _, text in parts)


def _call(call: Any) -> ToolCall:
    inner = field(call, "function") or call
    arguments = field(inner, "arguments")
    return ToolCall(str(field(inner, "name")), json.loads(arguments) if isinstance(arguments, str) else arguments or {})


def theirs(action: Message, prompt: Sequence[Any], number: int, with_tools: bool) -> Any:
    """What the policy said as a message of the kind of ``prompt``; ``number`` of the turn makes the calls' ids.

    Without tools on offer the text is handed over as it is: JSON and tags in it are the environment's business.
    """
    calls = (toolcalls.read(action.content).calls or action.tool_calls) if with_tools else ()
    text = action.content
    if calls:
        text = text.partition(toolcalls.OPEN)[0].strip() if toolcalls.OPEN in text else ""
    plain = [
        (f"call_{number}_{place}", call.name, json.dumps(dict(call.arguments))) for place, call in enumerate(calls)
    ]
    if prompt and not isinstance(prompt[0], Mapping):
        kinds = vars(sys.modules[type(prompt[0]).__module__])
        flat = [kinds["ToolCall"](id=name, name=tool, arguments=given) for name, tool, given in plain]
        return kinds["AssistantMessage"](content=text, tool_calls=flat or None)
    said: dict[str, Any] = {"role": "assistant", "content": text}
    nested = [
        {"id": name, "type": "function", "function": {"name": tool, "arguments": given}} for name, tool, given in plain
    ]
    return said | ({"tool_calls": nested} if nested else {})


def tools(state: Any) -> list[dict[str, Any]]:
    """The tools of a rollout as ``envs.base.offered`` wants them."""
    found = []
    for tool in field(state, "oai_tools") or field(state, "tool_defs") or ():
        inner = field(tool, "function") or tool
        empty = {"type": "object", "properties": {}}
        function = {
            "name": str(field(inner, "name")),
            "description": field(inner, "description") or "",
            "parameters": field(inner, "parameters") or empty,
        }
        found.append({"type": "function", "function": function})
    return found
