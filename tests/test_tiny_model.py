"""The bundled tiny model: its tokenizer is exact, its files are small, and it was never shown what panels hold."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrl.envs.webshop import WebShop
from agentrl.envs.webshop.compact import actions, goal_text, observe, to_action
from agentrl.envs.webshop.panels import goal_of
from agentrl.envs.webshop.shopper import decide
from agentrl.envs.webshop.words import grammatical

ROOT = Path(__file__).parents[1]
TINY = ROOT / "agentrl" / "assets" / "tiny"
sys.path.insert(0, str(ROOT / "scripts"))
tiny_text = pytest.importorskip("tiny_text")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()


def test_the_files_are_small_and_in_bf16(model, tokenizer):
    weights = TINY / "model.safetensors"
    assert 0.8e6 < weights.stat().st_size < 4e6
    assert model.config.dtype in (torch.bfloat16, torch.float32)
    assert len(tokenizer) == model.config.vocab_size <= 2048
    assert 4e5 < sum(p.numel() for p in model.parameters()) < 2e6


@pytest.mark.parametrize(
    "text", ["want red hat\nhome\n", "Ünïcode ✓ two  spaces\n\ttab $35.00 12345?", "SELECT a, b FROM t;"]
)
def test_every_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_every_word_of_the_compact_view_is_one_token(tokenizer):
    env, rng = WebShop(products=800), random.Random(0)
    for task in env.tasks("train")[:20]:
        episode = env.start(task)
        for _ in range(8):
            text = f"{goal_text(episode.goal_record)}\n{observe(episode.session, env.shop)}\n"
            assert len(tokenizer.encode(text)) == len(text.split()) + 2
            assert len(text.split()) < 90
            offered = actions(episode.session, env.shop)
            assert all(2 <= len(tokenizer.encode(action)) <= 7 for action in offered)
            if not offered:
                break
            episode.session.step(rng.choice(["click[< prev]", *faithful(episode, offered)]))


def faithful(episode, offered):
    return [action for text in offered if (action := to_action(episode.session, episode.shop, text))]


def test_prompts_grow_by_what_was_sampled(tokenizer):
    talk = [{"role": "user", "content": "want red hat"}, {"role": "user", "content": "home"}]
    first = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    action = tokenizer.encode("search red hat<end>")
    talk += [{"role": "assistant", "content": "search red hat"}, {"role": "user", "content": "results 1 for red hat"}]
    second = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert second[: len(first) + len(action)] == first + action
    assert tokenizer.eos_token_id == action[-1]
    assert tokenizer.decode(first) == "want red hat\nhome\n<act>"


def test_pre_training_shops_hold_nothing_that_the_bundled_shop_could_sell_or_be_asked_for():
    rng = random.Random(1)
    for _ in range(3000):
        want, view = tiny_text.situation(rng)
        assert not grammatical(want.words)
        for row in view.rows:
            assert not grammatical(row.words)


def test_no_goal_line_of_the_pre_training_text_stands_in_a_panel():
    rng, env = random.Random(2), WebShop(products=2000)
    panels = {goal_text(goal_of(task)) for split in ("train", "val", "test") for task in env.tasks(split)}
    lines = {tiny_text.draw(tiny_text.Mix(0.7, 4, (0.5,)), rng).prompt.split("\n")[0] for _ in range(3000)}
    assert any(line.startswith("want ") for line in lines)
    assert not lines & panels


def test_it_reads_but_shops_badly(model, tokenizer):
    """The gate: the careful action is likely, not certain, on fabricated pages."""
    rng, right = random.Random(5), []
    with torch.no_grad():
        while len(right) < 60:
            want, view = tiny_text.situation(rng)
            action = decide(want, view, 0.0, rng)
            if view.kind != "results" or "item" not in action:
                continue
            row = view.rows[int(action[-1]) - 1]
            if not want.fits(row.words, row.price):
                continue
            prompt = tokenizer.encode(f"{want.text()}\n{view.text()}\n<act>")
            answer = tokenizer.encode(action + "<end>")
            logprobs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
            right.append(sum(logprobs[i, t].item() for i, t in zip(places, answer, strict=True)))
    mean = torch.tensor(right).exp().mean().item()
    assert 0.45 < mean < 0.9
