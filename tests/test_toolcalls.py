"""Calls are read in every family's form; what cannot be read is counted, never raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.toolcalls import MOST, Reading, python_call, read, write
from agentrl.types import ToolCall

OSLO = ToolCall("weather", {"city": "Oslo"})
BODY = '{"name": "weather", "arguments": {"city": "Oslo"}}'
LLAMA = '{"name": "weather", "parameters": {"city": "Oslo"}}'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{BODY}\n</tool_call>",
        f"I look.\n<tool_call>{BODY}</tool_call> and so on",
        LLAMA,
        f"<|python_tag|>{LLAMA}",
        f"[{LLAMA}]",
        f"Here:\n{LLAMA}",
        '{"type": "function", "function": "weather", "parameters": {"city": "Oslo"}}',
        '{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}}',
        '```tool_code\nweather(city="Oslo")\n```',
        '```tool_code\nprint(default_api.weather(city="Oslo"))\n```',
        f"```json\n{LLAMA}\n```",
        f"```tool_call\n{BODY}\n```",
    ],
)
def test_one_call_in_every_form(text: str) -> None:
    assert read(text) == Reading((OSLO,), 0)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{BODY}</tool_call>\n<tool_call>{BODY}</tool_call>",
        f"{LLAMA}; {LLAMA}",
        f"{LLAMA}\n{LLAMA}",
        f"[{LLAMA}, {LLAMA}]",
        "```tool_code\n[weather(city='Oslo'), weather(city='Oslo')]\n```",
        "```tool_code\nweather(city='Oslo')\nweather(city='Oslo')\n```",
    ],
)
def test_several_calls_in_one_message(text: str) -> None:
    assert read(text) == Reading((OSLO, OSLO), 0)


@pytest.mark.parametrize(
    ("text", "calls", "malformed"),
    [
        ("<tool_call>{broken}</tool_call>", 0, 1),
        (f"<tool_call>{BODY}", 0, 1),  # cut before its end
        (f"<tool_call>{BODY}</tool_call><tool_call>", 1, 1),
        ('<tool_call>{"name": 3}</tool_call>', 0, 1),
        ('<tool_call>{"name": ""}</tool_call>', 0, 1),
        ('<tool_call>{"name": "f", "arguments": [1]}</tool_call>', 0, 1),
        ('<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>', 0, 1),
        ('<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>', 0, 1),
        ('<tool_call>{"name": "f", "arguments": {"x": "\\ud800"}}</tool_call>', 0, 1),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", 0, 1),
        ('<tool_call>{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}</tool_call>", 0, 1),
        ('{"name": "f", "parameters": {"x": }}', 0, 1),
        ("```tool_code\nf(\n```", 0, 1),
        ("```tool_code\nf(x=open('a'))\n```", 0, 1),
        ("```tool_code\nf(**{})\n```", 0, 1),
        ("plain text, no call", 0, 0),
        ('He said {"hello": 1}.', 0, 0),
        ("```python\nprint(1)\n```", 0, 0),
        ("```json\n[1, 2]\n```", 0, 0),
    ],
)
def test_what_cannot_be_read_is_counted(text: str, calls: int, malformed: int) -> None:
    found = read(text)
    assert (len(found.calls), found.malformed) == (calls, malformed)


def test_a_closing_tag_inside_an_argument_ends_nothing() -> None:
    call = ToolCall("note", {"text": "}</tool_call>{", "more": {"a": [1, {"b": "}"}]}})
    assert read(write((call, OSLO))) == Reading((call, OSLO), 0)


@settings(max_examples=150, deadline=None)
@given(name=st.text(min_size=1, max_size=10), arguments=st.dictionaries(st.text(max_size=6), VALUES, max_size=3))
def test_what_is_written_is_read_again(name: str, arguments: dict[str, Any]) -> None:
    call = ToolCall(name, json.loads(json.dumps(arguments)))
    assert read(write((call,))) == Reading((call,), 0)


PIECES = ["<tool_call>", "</tool_call>", "```tool_code\n", "```", "{", "}", "[", '"name":', '"f"', "f(", ")",
          "<|python_tag|>", ",", ";", "\n", "\x00", "\ud7ff", "(" * 200, "-" * 300,
          "1" * 50, "lambda x:", "print("]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=25).map("".join))
def test_nothing_is_raised(text: str) -> None:
    found = read(text)
    assert found.malformed >= 0
    json.dumps([dict(call.arguments) for call in found.calls], allow_nan=False).encode()


def test_a_flood_of_calls_is_cut() -> None:
    for text in (f"<tool_call>{BODY}</tool_call>" * 1000, f"{LLAMA}\n" * 1000):
        found = read(text)
        assert (len(found.calls), found.malformed) == (MOST, 1)
    assert read("<tool_call>" * 1000).malformed == MOST + 1


def test_deep_python_is_no_call() -> None:
    assert read("```tool_code\n" + "-" * 50_000 + "1\n```").calls == ()
    assert read("```tool_code\n" + "f(" * 5000 + "\n```").calls == ()
    assert python_call(None) is None
