"""The memory plan, worked by hand for Qwen3-0.6B; its shape comes from config.json alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agentrl.explain import explain, shape_of
from agentrl.memory import GIB, MIB, RESERVE, Learning, Serving, Shape, plan
from tests.families import tokenizer
from tests.test_model import pretrained
from tests.toy import save_toy_model
from tests.toy_run import toy_config

#: config.json of huggingface.co/Qwen/Qwen3-0.6B, what of it decides the shape.
QWEN = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "hidden_size": 1024,
    "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
    "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": True,
}  # fmt: skip
#: embedding; per layer query, key and value, output, three of the feed-forward, norms of 1024 and 128; last norm.
LAYER = 1024 * 2048 + 2 * 1024 * 1024 + 2048 * 1024 + 3 * 1024 * 3072 + 2 * 1024 + 2 * 128
WEIGHTS = 151936 * 1024 + 28 * LAYER + 1024
SHAPE = Shape(28, 1024, 3072, 8, 128, 151936, WEIGHTS, 0)
MIXED = Learning(4, 2, checkpointing=True, micro_tokens=16384, chunk_tokens=2048, reference=True)
HALF = Serving(2, 0, 0.5, 256, 4096)


def test_the_shape_comes_from_the_config_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    tokenizer("qwen3").save_pretrained(tmp_path)
    assert WEIGHTS == 596_049_920  # as the model's page has it
    assert shape_of(pretrained(tmp_path)) == SHAPE
    adapted = shape_of(pretrained(tmp_path, lora_rank=16))  # query, value, down
    assert adapted == replace(SHAPE, adapter=28 * 16 * ((1024 + 2048) + (1024 + 1024) + (3072 + 1024)))


def test_the_learners_bytes_by_hand() -> None:
    assert MIXED.parts(SHAPE) == {
        "weights": 4 * WEIGHTS,
        "optimiser": 8 * WEIGHTS,
        "reference": 4 * WEIGHTS,
        "gradients": 4 * WEIGHTS,
        "casts": 2 * WEIGHTS,
        "activations": 16384 * (10 * 1024 + 3 * 3072 + 28 * 1024) * 2,
        "logits": 3 * 2048 * 151936 * 4,
    }
    adapter = 28 * 16 * 9216
    lora = Learning(2, 2, checkpointing=False, micro_tokens=100, chunk_tokens=2048, reference=True)
    assert lora.parts(replace(SHAPE, adapter=adapter)) == {
        "weights": 2 * WEIGHTS + 4 * adapter,
        "optimiser": 8 * adapter,
        "reference": 4 * adapter,
        "gradients": 4 * adapter,
        "casts": 0,
        "activations": 100 * 28 * (11 * 1024 + 3 * 3072) * 2,
        "logits": 3 * 100 * 151936 * 4,
    }


def test_the_cache_in_tokens_by_hand() -> None:
    """Keys and values of a token of Qwen3-0.6B take 2 x 28 x 8 x 128 x 2 bytes = 112 KiB."""
    assert HALF.tokens(SHAPE, 112 * 1024 * 5 + 1) == 5
    parts = HALF.parts(SHAPE, 80 * GIB)
    work = 3 * 256 * 151936 * 4 + 16384 * (10 * 1024 + 3 * 3072) * 2
    assert parts == {"weights": 2 * WEIGHTS, "work": work, "cache": 40 * GIB - 2 * WEIGHTS - work}
    found = plan(SHAPE, MIXED, HALF, 80 * GIB, 128, sleep=False)
    assert found.tokens == parts["cache"] // (112 * 1024)
    assert found.at_once == found.tokens // 4096
    assert plan(SHAPE, MIXED, replace(HALF, cache=448 * MIB), 80 * GIB, 128, False).at_once == 1


def test_what_lies_there_at_the_same_time() -> None:
    found = plan(SHAPE, MIXED, HALF, 80 * GIB, 128, sleep=False)
    learner = sum(MIXED.parts(SHAPE).values())
    assert found.resident == 16 * WEIGHTS
    assert found.awake == pytest.approx(learner + 40 * GIB + RESERVE, abs=2)
    assert found.asleep == pytest.approx(16 * WEIGHTS + 40 * GIB + RESERVE, abs=2)  # sampling takes more than learning
    assert found.fits
    assert found.advice() == ""
    assert "engine.sleep=false: fits" in found.words()[2]


@pytest.mark.parametrize(
    ("gib", "learning", "serving", "sleep", "words"),
    [
        (30, {}, {}, False, "engine.sleep=true: then it fits"),
        (18, {"reference": False}, {"share": 0.6}, True, "lower engine.gpu_memory"),
        (12, {}, {"cache": GIB}, True, "model.lora_rank=16"),
        (20, {"reference": False, "chunk_tokens": 16384}, {"cache": GIB}, True, "a lower learner.chunk_tokens"),
        (24, {"checkpointing": False}, {"cache": GIB}, True, "model.gradient_checkpointing=true"),
        (80, {}, {"share": 0.02}, False, "raise engine.gpu_memory"),
        (80, {}, {"cache": GIB // 8}, False, "not one episode of full length"),
    ],
)
def test_the_knob_is_that_of_the_largest_part(
    gib: int, learning: dict[str, object], serving: dict[str, object], sleep: bool, words: str
) -> None:
    changed = replace(MIXED, **learning), replace(HALF, **serving)  # type: ignore[arg-type]
    found = plan(SHAPE, *changed, gib * GIB, 128, sleep)
    assert words in found.advice()
    assert found.words()[-1].strip() == found.advice()


def test_explain_plans_for_a_gpu_that_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["engine=vllm", "explain.gpu_gib=80"]
    found = explain(toy_config(save_toy_model(tmp_path / "model"), tmp_path, words))["gpu"]
    assert found.gpu == 80 * GIB
    assert found.fits
    assert "of 80 GiB" in capsys.readouterr().out
