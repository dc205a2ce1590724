"""The stand-in engine plays its texts in the model's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agentrl.chat import Chat
from agentrl.digest import weights_digest
from agentrl.engine.base import Request, Sampling
from agentrl.engine.scripted import Scripted, ScriptedEngine
from agentrl.errors import EngineError
from agentrl.types import Message
from tests.families import save_model, tokenizer
from tests.test_model import pretrained


def test_it_plays_what_the_seed_picks(tmp_path: Path) -> None:
    source = pretrained(save_model("qwen2.5", tmp_path))
    engine = Scripted(["click the red hat", "search"]).start(source, "cpu")
    answers = engine.generate([Request((1, 2), seed, 40) for seed in range(3)], Sampling())
    talk = source.chat()
    said = [talk.message(answer.ids).content for answer in answers]
    assert said == ["click the red hat", "search", "click the red hat"]
    assert answers[0].finish == "stop"
    assert answers[0].logprobs == (0.0,) * len(answers[0].ids)
    with pytest.raises(ValueError, match="empty list"):
        Scripted([])


def test_it_plays_a_function_and_cuts_at_the_budget() -> None:
    talk = Chat(tokenizer("llama3"))
    engine = ScriptedEngine(talk, lambda request: "x" * len(request.prompt_ids))
    answer = engine.generate([Request((1, 2, 3), 0, 2)], Sampling())[0]
    whole = talk.encode_action(Message("assistant", "xxx"))
    assert (answer.ids, answer.finish) == (whole[:2], "length")


def test_it_takes_note_of_weights_and_scores_nothing() -> None:
    engine = ScriptedEngine(Chat(tokenizer("llama3")), lambda _: "x")
    weights = [("a", torch.ones(3))]
    engine.load(iter(weights), 4)
    assert (engine.version, engine.checksum()) == (4, weights_digest(weights, torch.float32))
    with pytest.raises(EngineError, match="cannot score"):
        engine.logprobs([(1, 2)])
