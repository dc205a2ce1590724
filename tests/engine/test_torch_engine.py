"""The sampler: exact logprobs, independence of batch mates, versioned weights."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agentrl.digest import weights_digest
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.draw import choose, uniforms
from agentrl.engine.lean import LeanForward, _parts
from agentrl.engine.plain import PlainForward
from agentrl.engine.torch_engine import Torch, TorchEngine
from agentrl.errors import EngineError
from agentrl.model import Policy, Pretrained
from tests.families import FAMILIES, save_model
from tests.test_model import nudge, pretrained

STOPS = tuple(range(100))


def requests(count: int, prompts: int, seed: int = 0, longest: int = 30, max_tokens: int = 12) -> list[Request]:
    """Requests over a few prompts of mixed lengths, with mixed budgets."""
    rng = random.Random(seed)
    texts = [tuple(rng.randrange(260) for _ in range(rng.randint(1, longest))) for _ in range(prompts)]
    return [Request(rng.choice(texts), rng.getrandbits(63), rng.randint(1, max_tokens)) for _ in range(count)]


def engine_and_policy(family: str, folder: Path, **changes: int) -> tuple[TorchEngine, Policy, Pretrained]:
    source = pretrained(save_model(family, folder, **changes))
    return Torch("float32", 64).start(source, "cpu"), source.build("cpu"), source


def learner_logprobs(policy: Policy, request: Request, completion: Completion, temperature: float) -> list[float]:
    """What ``Policy.outputs`` says of a completion."""
    ids = torch.tensor([request.prompt_ids + completion.ids])
    mask = torch.arange(ids.shape[1])[None] >= len(request.prompt_ids)
    out = policy.outputs(ids, torch.ones_like(mask), mask, temperature, 64)
    return out.logprobs[mask].tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.3])
def test_engine_logprobs_are_the_learners(family: str, temperature: float, tmp_path: Path) -> None:
    engine, policy, _ = engine_and_policy(family, tmp_path)
    asked = requests(40, 9)
    answers = engine.generate(asked, Sampling(temperature, STOPS))
    for request, answer in zip(asked, answers, strict=True):
        assert answer.logprobs == pytest.approx(learner_logprobs(policy, request, answer, temperature), abs=1e-5)
        assert len(answer.ids) <= request.max_tokens
        assert not set(answer.ids[:-1]) & set(STOPS)
        assert (answer.finish == "stop") == (answer.ids[-1] in STOPS)
        assert answer.finish == "stop" or len(answer.ids) == request.max_tokens
    sequences = [request.prompt_ids + answer.ids for request, answer in zip(asked, answers, strict=True)]
    theirs, ours = engine.logprobs(sequences), policy.logprobs(sequences, 1.0)
    assert max(abs(a - b) for x, y in zip(theirs, ours, strict=True) for a, b in zip(x, y, strict=True)) < 1e-5


@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_a_completion_does_not_depend_on_its_batch_mates(family: str, tmp_path: Path) -> None:
    engine, _, source = engine_and_policy(family, tmp_path)
    asked, sampling = requests(30, 8), Sampling(1.0, STOPS)
    together = engine.generate(asked, sampling)
    alone = [engine.generate([request], sampling)[0] for request in asked]
    shuffled = engine.generate(asked[::-1], sampling)[::-1]
    small = Torch("float32", 7).start(source, "cpu").generate(asked, sampling)
    for other in (alone, shuffled, small):
        assert [answer.ids for answer in other] == [answer.ids for answer in together]
    again = engine.generate([replace(request, seed=request.seed + 1) for request in asked], sampling)
    assert [answer.ids for answer in again] != [answer.ids for answer in together]


def test_greedy_follows_the_most_likely_token(tmp_path: Path) -> None:
    engine, policy, _ = engine_and_policy("qwen2.5", tmp_path)
    request = Request((5, 6, 7), 0, 10)
    answer = engine.generate([request], Sampling(0.0, ()))[0]
    ids = torch.tensor([request.prompt_ids + answer.ids])
    assert policy.module(ids).logits[0, 2:-1].argmax(-1).tolist() == list(answer.ids)
    assert answer.finish == "length"


def test_samples_follow_the_distribution(tmp_path: Path) -> None:
    engine, policy, _ = engine_and_policy("qwen2.5", tmp_path, initializer_range=0.6)
    prompt, count = (9, 30, 2), 4000
    answers = engine.generate([Request(prompt, seed, 1) for seed in range(count)], Sampling(0.7, ()))
    probabilities = torch.softmax(policy.module(torch.tensor([prompt])).logits[0, -1] / 0.7, -1).detach().numpy()
    seen = np.bincount([answer.ids[0] for answer in answers], minlength=len(probabilities)) / count
    assert np.abs(seen - probabilities).max() < 4 * 0.5 / count**0.5


def test_new_weights_are_used_under_their_version(tmp_path: Path) -> None:
    engine, policy, _ = engine_and_policy("qwen2.5", tmp_path)
    before = engine.checksum()
    assert before == weights_digest(policy.named_weights(), torch.float32)
    nudge(policy)
    engine.load(policy.named_weights(), 3)
    assert engine.version == 3
    assert engine.checksum() == weights_digest(policy.named_weights(), torch.float32) != before
    asked = requests(10, 3)
    for request, answer in zip(asked, engine.generate(asked, Sampling(1.0, STOPS)), strict=True):
        assert answer.version == 3
        assert answer.logprobs == pytest.approx(learner_logprobs(policy, request, answer, 1.0), abs=1e-5)


def test_the_engine_keeps_its_own_copy(tmp_path: Path) -> None:
    for family in FAMILIES:
        engine, policy, _ = engine_and_policy(family, tmp_path / family)
        policy_before = weights_digest(policy.named_weights(), torch.float32)
        engine.load([(name, torch.zeros_like(weight)) for name, weight in policy.named_weights()], 1)
        assert weights_digest(policy.named_weights(), torch.float32) == policy_before


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    engine, policy, _ = engine_and_policy("llama3", tmp_path)
    weights = list(policy.named_weights())
    with pytest.raises(EngineError, match="did not come"):
        engine.load(weights[:-1], 1)
    with pytest.raises(EngineError, match="unknown"):
        engine.load([*weights, ("model.extra", torch.zeros(1))], 1)
    with pytest.raises(EngineError, match="expected"):
        engine.load([(weights[0][0], weights[0][1][:-1])], 1)
    assert engine.version == 0


def test_requests_that_cannot_be_served_are_refused(tmp_path: Path) -> None:
    engine, _, _ = engine_and_policy("qwen2.5", tmp_path)
    sampling = Sampling(1.0, ())
    assert engine.generate([], sampling) == []
    assert engine.logprobs([]) == []
    for request, message in (
        (Request((), 0, 4), "prompt of 0 tokens"),
        (Request((1,), 0, 0), "max_tokens=0"),
        (Request((1,) * 250, 0, 7), "context of 256"),
        (Request((1, 100_000), 0, 4), "vocabulary"),
    ):
        with pytest.raises(EngineError, match=message):
            engine.generate([request], sampling)
    assert len(engine.generate([Request((1,) * 250, 0, 6)], sampling)[0].ids) == 6
    for settings, message in ((("int4", 8), "dtype"), (("auto", 0), "max_batch")):
        with pytest.raises(ValueError, match=message):
            Torch(*settings)


def test_the_lean_forward_serves_what_it_can_prove(tmp_path: Path) -> None:
    forwards = {family: engine_and_policy(family, tmp_path / family)[0]._forward for family in FAMILIES}
    assert isinstance(forwards.pop("gemma2"), PlainForward)
    assert all(isinstance(forward, LeanForward) for forward in forwards.values())


def test_scaled_rotary_angles(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    engine, policy, _ = engine_and_policy("llama3", tmp_path, rope_parameters=scaling)  # type: ignore[arg-type]
    for request, answer in zip(asked := requests(6, 3), engine.generate(asked, Sampling(1.0, STOPS)), strict=True):
        assert answer.logprobs == pytest.approx(learner_logprobs(policy, request, answer, 1.0), abs=1e-5)


def test_biases_of_attention(tmp_path: Path) -> None:
    engine, policy, _ = engine_and_policy("llama3", tmp_path, attention_bias=True)
    assert isinstance(engine._forward, LeanForward)
    nudge(policy)
    engine.load(policy.named_weights(), 1)
    for request, answer in zip(asked := requests(6, 3), engine.generate(asked, Sampling(1.0, STOPS)), strict=True):
        assert answer.logprobs == pytest.approx(learner_logprobs(policy, request, answer, 1.0), abs=1e-5)


def test_low_precision_stays_near(tmp_path: Path) -> None:
    source = pretrained(save_model("qwen3", tmp_path))
    engine, policy = Torch("bfloat16", 64).start(source, "cpu"), source.build("cpu")
    assert engine.dtype == torch.bfloat16
    assert engine.checksum() == weights_digest(policy.named_weights(), torch.bfloat16)
    asked = requests(10, 3)
    for request, answer in zip(asked, engine.generate(asked, Sampling(1.0, STOPS)), strict=True):
        assert answer.logprobs == pytest.approx(learner_logprobs(policy, request, answer, 1.0), abs=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("family", FAMILIES)
def test_engine_and_learner_agree_on_a_gpu(family: str, tmp_path: Path) -> None:
    source = pretrained(save_model(family, tmp_path))
    for engine_dtype, model_dtype, tolerance in (("float32", "float32", 1e-3), ("bfloat16", "mixed", 0.1)):
        engine = Torch(engine_dtype, 64).start(source, "cuda")
        policy = replace(source, dtype=model_dtype).build("cuda")
        nudge_on(policy)
        engine.load(policy.named_weights(), 1)
        assert engine.checksum() == weights_digest(policy.named_weights(), engine.dtype)
        asked = requests(40, 9)
        for request, answer in zip(asked, engine.generate(asked, Sampling(1.0, STOPS)), strict=True):
            ids = request.prompt_ids + answer.ids
            found = policy.logprobs([ids], 1.0)[0][len(request.prompt_ids) - 1 :]
            assert answer.logprobs == pytest.approx(found, abs=tolerance)


def nudge_on(policy: Policy) -> None:
    """Move the weights on their device."""
    for weight in policy.parameters():
        weight.data += 0.01 * torch.randn_like(weight)


def test_uniforms_are_a_function_of_seed_and_place() -> None:
    many = uniforms([7, 2**63 - 1, 7], 5)
    assert np.array_equal(many[0], many[2])
    assert np.array_equal(uniforms([7], 3)[0], many[0, :3])
    # SplitMix64 from seed 0 starts with 0xE220A8397B1DCDAF (the reference implementation's first output).
    assert uniforms([0], 1)[0, 0] == (0xE220A8397B1DCDAF >> 11) / 2**53
    wide = uniforms(range(20_000), 2)
    assert abs(wide.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(wide[:, 0], wide[:, 1])[0, 1]) < 0.03


def test_choosing_by_inverse_cdf() -> None:
    logits = torch.log(torch.tensor([[0.0, 0.25, 0.0, 0.75]])).expand(4, 4)
    ids, logprobs = choose(logits, 1.0, torch.tensor([0.0, 0.2499, 0.2501, 1 - 2**-53], dtype=torch.float64))
    assert ids.tolist() == [1, 1, 3, 3]
    assert logprobs.exp().tolist() == pytest.approx([0.25, 0.25, 0.75, 0.75])


def test_prefill_parts_cover_all_prompts() -> None:
    assert _parts([2, 2, 2, 2, 10], 6) == [slice(0, 3), slice(3, 4), slice(4, 5)]
    assert _parts([50], 6) == [slice(0, 1)]


def test_prefill_parts_hold_little_padding() -> None:
    """Of 160 tokens ten may be padding: eight rows of ten may be padded to eleven, eleven rows may not."""
    assert _parts([10] * 8 + [11] * 4 + [40], 160) == [slice(0, 12), slice(12, 13)]
    assert _parts([10] * 11 + [11], 160) == [slice(0, 11), slice(11, 12)]
