"""Prompts grow without re-tokenising, for the chat templates of the families that agentrl names."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.chat import Chat, History, Window
from agentrl.errors import ConfigError
from agentrl.toolcalls import Reading, read
from agentrl.types import Message, ToolCall, Turn
from tests.families import FAMILIES, tokenizer
from tests.toy import save_toy_model

LETTERS = st.characters(codec="utf-8", exclude_categories=("C",), exclude_characters="<>")
WORDS = st.text(LETTERS, min_size=1, max_size=30)
ACTIONS = WORDS.map(str.strip).filter(bool)


@cache
def chat(family: str) -> Chat:
    return Chat(tokenizer(family), family)


def user(text: str) -> Message:
    return Message("user", text)


def acted(chat: Chat, prompt: tuple[int, ...], text: str, observation: str) -> Turn:
    action = Message("assistant", text)
    return Turn(prompt, chat.encode_action(action), (), action, (user(observation),))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(first=WORDS, texts=st.lists(st.tuples(ACTIONS, WORDS), min_size=1, max_size=3))
def test_history_has_the_tokens_of_the_whole_conversation(
    family: str, first: str, texts: list[tuple[str, str]]
) -> None:
    talk, turns, messages = chat(family), [], [user(first)]
    for action, observation in texts:
        prompt = History().prompt(talk, (), (user(first),), turns)
        turns.append(acted(talk, prompt, action, observation))
        messages += [Message("assistant", action), user(observation)]
    grown = History().prompt(talk, (), (user(first),), turns)
    whole = talk.render(messages)
    if family == "qwen3":  # generation prompts of the past hold an empty thought that the whole conversation leaves out
        none = tuple(talk.tokenizer.encode("<think>\n\n</think>\n\n", add_special_tokens=False))
        grown, whole = without(grown, none), without(whole, none)
    assert grown == whole


def without(ids: tuple[int, ...], part: tuple[int, ...]) -> tuple[int, ...]:
    kept: list[int] = []
    for token in ids:
        kept.append(token)
        if tuple(kept[-len(part) :]) == part:
            del kept[-len(part) :]
    return tuple(kept)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(text=ACTIONS)
def test_an_action_survives_the_round_trip(family: str, text: str) -> None:
    talk = chat(family)
    ids = talk.encode_action(Message("assistant", text))
    assert ids[-1] in talk.stop_ids
    assert not set(ids[:-1]) & set(talk.stop_ids)
    assert talk.message(ids) == Message("assistant", text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_truncated_action_is_closed_outside_the_record(family: str) -> None:
    talk = chat(family)
    prompt = talk.render([user("go")])
    cut = talk.encode_action(Message("assistant", "click the red hat"))[:2]
    turn = Turn(prompt, cut, (), talk.message(cut), (user("what?"),), finish="length")
    grown = History().prompt(talk, (), (user("go"),), [turn])
    assert grown == (*prompt, *cut, talk.turn_end, *talk.delta((user("what?"),)))


def test_a_system_message_is_folded_where_the_template_refuses_it() -> None:
    talk = chat("gemma2")
    assert talk.render([Message("system", "rules"), user("go")]) == talk.render([user("rules\ngo")])


def test_a_tools_answer_becomes_a_users_where_the_template_has_no_tools() -> None:
    base = (user("go"), Message("assistant", "look"))
    assert chat("gemma2").render([*base, Message("tool", "seen")]) == chat("gemma2").render([*base, user("seen")])
    assert chat("qwen2.5").render([*base, Message("tool", "seen")]) != chat("qwen2.5").render([*base, user("seen")])


def test_neighbours_of_one_role_are_joined() -> None:
    for family in FAMILIES:
        assert chat(family).render([user("goal"), user("page")]) == chat(family).render([user("goal\npage")])


def test_tool_calls_are_parsed_and_written() -> None:
    call = ToolCall("search", {"query": "red hat", "page": 2})
    talk = chat("qwen3")
    ids = talk.encode_action(Message("assistant", "I look.", (call,)))
    said = talk.message(ids)
    assert said.tool_calls == (call,)
    assert talk.encode_action(said) == ids
    for broken in ("{broken}", '{"name": 3}', "[1]"):
        assert read(f"<tool_call>{broken}</tool_call>") == Reading((), 1)


def test_thinking_is_not_part_of_the_action() -> None:
    talk = chat("qwen3")
    ids = talk.encode_action(Message("assistant", "<think>\nred or blue?\n</think>\n\nclick item1"))
    assert talk.message(ids).content == "click item1"


def test_a_window_shows_goal_last_exchanges_and_page() -> None:
    talk = chat("qwen2.5")
    turns = [acted(talk, (), f"act{i}", f"page{i + 1}") for i in range(3)]
    goal, first = (user("goal"),), (user("page0"),)
    assert Window(0).prompt(talk, goal, first, turns) == talk.render([user("goal\npage3")])
    one = [user("goal\npage2"), Message("assistant", "act2"), user("page3")]
    assert Window(1).prompt(talk, goal, first, turns) == talk.render(one)
    whole = History().prompt(talk, goal, first, [])
    assert Window(9).prompt(talk, goal, first, []) == whole == talk.render([user("goal\npage0")])
    with pytest.raises(ValueError, match=r"context\.turns"):
        Window(-1)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages[-1:] %}{{ m.content }}<|im_end|>{% endfor %}", "no special token"),
        ("{% for m in messages %}{{ m.content }}<|im_end|>{{ messages | length }}{% endfor %}", "came before"),
        ("{% for m in messages %}{{ m.role }}{{ m.content }}<|im_end|>{% endfor %}go", "generation prompt"),
    ],
)
def test_a_template_without_proven_prefix_is_refused(template: str, why: str) -> None:
    made = tokenizer("qwen2.5")
    made.chat_template = template
    with pytest.raises(ConfigError, match=why):
        Chat(made, "odd").delta((user("page"),))


def test_a_tokenizer_without_template_is_refused() -> None:
    made = tokenizer("qwen2.5")
    made.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Chat(made, "bare")


def test_loading(tmp_path: Path) -> None:
    talk = Chat.load(str(save_toy_model(tmp_path)))
    assert talk.tokenizer.convert_ids_to_tokens(list(talk.render([user("red")]))) == ["red", "<act>"]
    with pytest.raises(ConfigError, match="holds no model"):
        Chat.load(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no bundled model"):
        Chat.load("bundled:huge")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_message_says_never_becomes_a_control_token(family: str) -> None:
    """In pages, past actions, deltas and demonstrations; a sampled control token stays the token it is."""
    talk = chat(family)
    control = [str(token) for token in talk.tokenizer.added_tokens_decoder.values() if token.special]
    ids = [talk.tokenizer.convert_tokens_to_ids(token) for token in control]

    def controls(found: tuple[int, ...]) -> list[int]:
        return [token for token in found if token in ids]

    evil = " ".join(control) + "".join(control) + "".join(word[0] + word for word in control)
    plain, act = Message("assistant", "look"), Message("assistant", f"look {evil}")
    assert controls(talk.render([user(f"go {evil}"), act, user(evil)])) == controls(
        talk.render([user("go"), plain, user("x")])
    )
    assert controls(talk.delta((user(evil),))) == controls(talk.delta((user("x"),)))
    assert controls(talk.encode_action(act)) == [talk.turn_end]
    shown = talk.tokenizer.decode(talk.render([user(evil)]))
    assert all(f"{word[0]} {word[1:]}" in shown for word in control)
    prompt = talk.render([user("go")])
    sampled = (*talk.encode_action(plain)[:-1], ids[0], talk.turn_end)
    grown = History().prompt(talk, (), (user("go"),), [Turn(prompt, sampled, (), plain, (user("x"),))])
    assert grown[: len(prompt) + len(sampled)] == (*prompt, *sampled)


def test_an_action_that_ended_the_text_is_closed_as_the_template_does() -> None:
    talk = chat("gemma2")
    prompt, eos = talk.render([user("go")]), talk.tokenizer.eos_token_id
    assert eos in talk.stop_ids
    assert eos != talk.turn_end
    turn = Turn(prompt, (eos,), (), Message("assistant", ""), (user("x"),))
    grown = History().prompt(talk, (), (user("go"),), [turn])
    assert grown == (*prompt, eos, talk.turn_end, *talk.delta((user("x"),)))
