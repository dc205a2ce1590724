"""What every environment in conf/env promises: the contract, and a compact view that a tiny model can read."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import agentrl.envs
from agentrl.config import build, compose
from agentrl.envs.base import Env, offered
from agentrl.envs.check import check_env
from agentrl.types import Messages
from tests.worlds import WORLDS

TOKENIZER = Path(agentrl.envs.__file__).parents[1] / "assets" / "tiny" / "tokenizer.json"
MOST_TOKENS = 160  # of one compact observation
SPARE = 64  # tokens that the tiny model's vocabulary keeps free for words of new environments


@cache
def environment(name: str, view: str) -> Env:
    env: Env = build(compose("env_tool", [f"env={name}", f"model.view={view}"]).env)
    return env


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


@cache
def spare_words() -> frozenset[str]:
    """Words for which spare tokens are kept: the ``COMPACT_WORDS`` of all environments and what they share."""
    import agentrl.encyclopedia

    packages = (agentrl.envs, agentrl.encyclopedia)
    listed = [getattr(module, "COMPACT_WORDS", ()) for package in packages for module in modules(package)]
    return frozenset(word for words in listed for word in words)


@cache
def vocabulary() -> frozenset[str]:
    return frozenset(json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"])


def unknown(text: str, first_known: bool) -> set[str]:
    """Words of a compact text that are no single token; the first of an action must be one at the start of a line.

    Numbers are known, too: those that are no token are spelled digit by digit.
    """
    words = text.split(" ")
    bad = {word for word in words if not known(word) and not number(word)}
    return bad | ({words[0]} if first_known and words[0] not in vocabulary() else set())


def known(word: str) -> bool:
    return f"\u0120{word}" in vocabulary() or word in spare_words()


def number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 4


def test_there_are_environments() -> None:
    assert "webshop" in WORLDS


@pytest.mark.parametrize("view", ["text", "compact"])
@pytest.mark.parametrize("name", WORLDS)
def test_keeps_the_contract(name: str, view: str) -> None:
    assert check_env(environment(name, view), tasks=4 if view == "text" else 2) == []


@pytest.mark.parametrize("name", WORLDS)
def test_a_compact_view_is_short_and_made_of_known_words(name: str) -> None:
    env = environment(name, "compact")
    strange: set[str] = set()
    for split in ("train", "val", "test"):
        for number, task in enumerate(env.tasks(split)[:15]):
            expert, episode = env.expert(0.4, number), env.start(task)
            goal, observation = episode.goal, episode.observation
            assert not offered(episode), "tools are written out in words for a tiny model"
            for _ in range(10):
                assert tokens(goal) + tokens(observation) <= MOST_TOKENS
                action = expert(episode)
                strange |= unknown(action.content, True)
                for message in (*goal, *observation):
                    strange |= unknown(message.content, False)
                step = episode.step(action)
                observation = step.observation
                if step.done:
                    break
    assert not strange


def tokens(messages: Messages) -> int:
    """At most: a word is one token, a number that is none is one for its space and for each digit."""
    words = [word for message in messages for word in (*message.content.split(" "), "end")]
    return sum(1 if known(word) or not number(word) else 1 + len(word) for word in words)


def test_spare_words_fit() -> None:
    assert len(spare_words()) <= SPARE
    assert not {word for word in spare_words() if f"\u0120{word}" in vocabulary() and word in vocabulary()}
