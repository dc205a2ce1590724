"""Policies: loading the formats of real families, exact logprobs, weights by checkpoint name, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrl.device import resolve_device
from agentrl.digest import weights_digest
from agentrl.errors import CheckpointError, ConfigError, ShapeError
from agentrl.model import Policy, Pretrained
from tests import families
from tests.families import FAMILIES, save_model


def pretrained(path: Path | str, **changes: Any) -> Pretrained:
    more = {"dtype": "auto", "attention": "eager", "lora_alpha": 8, "lora_targets": ["q_proj", "v_proj", "down_proj"]}
    return families.pretrained(path, **more | changes)


def policy(path: Path | str, **changes: Any) -> Policy:
    return pretrained(path, **changes).build("cpu", seed=0)


def rows(vocabulary: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random ids, a right-padded attention mask and a loss mask, [4, 20]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (4, 20), generator=generator)
    attention = torch.arange(20)[None] < torch.tensor([20, 13, 7, 19])[:, None]
    return ids, attention, attention & (torch.rand(4, 20, generator=generator) < 0.5)


def nudge(policy: Policy) -> None:
    """Move every trained weight, as learning would."""
    generator = torch.Generator().manual_seed(1)
    for weight in policy.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_outputs_are_those_of_the_whole_model(family: str, temperature: float, tmp_path: Path) -> None:
    learner = policy(save_model(family, tmp_path))
    ids, attention, loss = rows(len(learner.chat.tokenizer))
    out = learner.outputs(ids, attention, loss, temperature, chunk_tokens=5)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    logp = torch.log_softmax(plain(ids, attention_mask=attention.long()).logits / temperature, -1)
    expected = torch.zeros(4, 20)
    expected[:, 1:] = logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    entropy = torch.zeros(4, 20)
    entropy[:, 1:] = -(logp.exp() * logp).sum(-1)[:, :-1]
    loss[:, 0] = False
    assert torch.allclose(out.logprobs, expected * loss, atol=1e-5)
    assert torch.allclose(out.entropy, entropy * loss, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_chunks_and_checkpointing_change_neither_value_nor_gradient(checkpointing: bool, tmp_path: Path) -> None:
    path = save_model("gemma2", tmp_path)
    grads = []
    for chunk, recompute in ((1000, False), (3, checkpointing)):
        learner = policy(path, gradient_checkpointing=recompute)
        learner.train()
        ids, attention, loss = rows(len(learner.chat.tokenizer))
        out = learner.outputs(ids, attention, loss, 1.3, chunk)
        (out.logprobs.sum() + 0.1 * out.entropy.sum()).backward()
        grads.append([weight.grad for weight in learner.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(*grads, strict=True))


def test_environment_tokens_and_padding_do_not_reach_the_answer(tmp_path: Path) -> None:
    learner = policy(save_model("qwen2.5", tmp_path))
    ids, attention, loss = rows(len(learner.chat.tokenizer))
    before = learner.outputs(ids, attention, loss, 1.0, 64)
    after = learner.outputs(torch.where(attention, ids, 7), attention, loss, 1.0, 64)
    assert torch.equal(before.logprobs, after.logprobs)
    with pytest.raises(ShapeError, match="padded on the right"):
        learner.outputs(ids, attention.flip(1), loss, 1.0, 64)
    with pytest.raises(ShapeError, match="equal in shape"):
        learner.outputs(ids, attention[:, 1:], loss, 1.0, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_merges_on_the_fly_and_keeps_its_reference(family: str, tmp_path: Path) -> None:
    path = save_model(family, tmp_path / "base")
    learner = policy(path, lora_rank=4)
    ids, attention, loss = rows(len(learner.chat.tokenizer))
    base = learner.outputs(ids, attention, loss, 1.0, 64)
    reference = learner.reference()
    nudge(learner)
    moved = learner.outputs(ids, attention, loss, 1.0, 64)
    assert not torch.allclose(base.logprobs, moved.logprobs, atol=1e-3)
    assert torch.equal(reference.outputs(ids, attention, loss, 1.0, 64).logprobs, base.logprobs)
    later = learner.reference()
    nudge(learner)
    assert torch.equal(later.outputs(ids, attention, loss, 1.0, 64).logprobs, moved.logprobs)
    moved = learner.outputs(ids, attention, loss, 1.0, 64)
    merged = policy(path)
    names = dict(merged.module.named_parameters())
    weights = list(learner.named_weights())
    assert [name for name, _ in weights] == list(names)
    for name, tensor in weights:
        names[name].data.copy_(tensor)
    assert torch.allclose(merged.outputs(ids, attention, loss, 1.0, 64).logprobs, moved.logprobs, atol=1e-5)


def test_a_full_reference_stays(tmp_path: Path) -> None:
    learner = policy(save_model("llama3", tmp_path))
    ids, attention, loss = rows(len(learner.chat.tokenizer))
    before = learner.outputs(ids, attention, loss, 1.0, 64).logprobs
    reference = learner.reference()
    nudge(learner)
    kept = reference.outputs(ids, attention, loss, 1.0, 64).logprobs
    assert torch.equal(kept, before)
    assert not kept.requires_grad


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_folders_load_in_transformers_and_restore_exactly(family: str, tmp_path: Path) -> None:
    path = save_model(family, tmp_path / "base")
    learner = policy(path)
    nudge(learner)
    learner.save(tmp_path / "saved")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    pairs = zip(theirs.parameters(), learner.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == learner.chat.tokenizer.chat_template
    fresh = policy(path)
    fresh.restore(tmp_path / "saved")
    assert weights_digest(fresh.named_weights(), torch.float32) == weights_digest(
        learner.named_weights(), torch.float32
    )


def test_saved_adapters_load_in_peft_and_in_agentrl(tmp_path: Path) -> None:
    path = save_model("qwen2.5", tmp_path / "base")
    learner = policy(path, lora_rank=4)
    nudge(learner)
    learner.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter_model.safetensors").is_file()
    expected = weights_digest(learner.named_weights(), torch.float32)
    theirs = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32).merge_and_unload()
    ours = dict(learner.named_weights())
    assert all(torch.allclose(ours[name], weight, atol=1e-6) for name, weight in theirs.named_parameters())
    restored = policy(path, lora_rank=4)
    restored.restore(tmp_path / "saved")
    assert weights_digest(restored.named_weights(), torch.float32) == expected
    opened = policy(tmp_path / "saved", lora_rank=4)
    assert weights_digest(opened.named_weights(), torch.float32) == expected
    assert sum(p.numel() for p in opened.parameters()) == sum(p.numel() for p in learner.parameters())
    module = pretrained(tmp_path / "saved").module("cpu", torch.float32)
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in learner.named_weights()]
    with pytest.raises(CheckpointError, match="does not fit"):
        policy(path).restore(tmp_path / "saved")


def test_new_adapters_depend_on_the_seed_alone(tmp_path: Path) -> None:
    source = pretrained(save_model("qwen3", tmp_path), lora_rank=2)
    torch.manual_seed(5)
    first = [w.clone() for w in source.build("cpu", seed=1).parameters()]
    again = source.build("cpu", seed=1).parameters()
    other = source.build("cpu", seed=2).parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_logprobs_of_sequences(tmp_path: Path) -> None:
    learner = policy(save_model("qwen2.5", tmp_path))
    sequences = [(1, 5, 9, 20), (3, 4)]
    found = learner.logprobs(sequences, 0.7)
    assert [len(row) for row in found] == [3, 1]
    logits = learner.module(torch.tensor([sequences[0]])).logits[0] / 0.7
    assert found[0] == pytest.approx(torch.log_softmax(logits, -1)[[0, 1, 2], [5, 9, 20]].tolist(), abs=1e-5)


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model"):
        policy(tmp_path / "none")
    with pytest.raises(ConfigError, match="neither a folder"):
        policy("outputs/a/b/model")
    with pytest.raises(ValueError, match=r"model\.dtype"):
        pretrained(tmp_path, dtype="float16")
    with pytest.raises(ValueError, match=r"model\.lora_rank"):
        pretrained(tmp_path, lora_rank=4, lora_targets=[])
    path = save_model("qwen2.5", tmp_path)
    (tmp_path / "run" / "checkpoints" / "step_000002" / "model").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds no model .* one of its checkpoints: .*step_000002/model"):
        policy(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model\.lora_targets"):
        policy(path, lora_rank=4, lora_targets=["nonsense"])
    weights = load_file(path / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights .* 'model\.norm\.weight'"):
        policy(path)
    (path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"no model could be loaded"):
        policy(path)


def test_devices_and_dtypes(tmp_path: Path) -> None:
    place = pretrained(tmp_path).place("cpu")
    assert place.describe() == "cpu, float32"
    assert pretrained(tmp_path, dtype="mixed").place("cpu").describe() == "cpu, float32 weights, bfloat16 compute"
    with pytest.raises(ConfigError, match="expected auto, cpu"):
        resolve_device("tpu9")
    if not torch.cuda.is_available():
        assert resolve_device("auto").type == "cpu"
        with pytest.raises(ConfigError, match="0 GPU"):
            resolve_device("cuda")


def test_low_precision(tmp_path: Path) -> None:
    path = save_model("qwen2.5", tmp_path)
    exact = policy(path)
    ids, attention, loss = rows(len(exact.chat.tokenizer))
    expected = exact.outputs(ids, attention, loss, 1.0, 64).logprobs.detach()
    for dtype in ("bfloat16", "mixed"):
        learner = policy(path, dtype=dtype)
        found = learner.outputs(ids, attention, loss, 1.0, 64).logprobs.detach()
        assert learner.compute_dtype == torch.bfloat16
        assert found.dtype == torch.float32
        assert 0 < float((found - expected).abs().max()) < 0.1


def test_the_digest_sees_every_bit_and_no_order() -> None:
    weights = [("a", torch.randn(50, 40)), ("b", torch.randn(7))]
    whole = weights_digest(weights, torch.float32)
    assert weights_digest(reversed(weights), torch.float32) == whole
    for index in (0, 777, 1999):
        flipped = weights[0][1].clone()
        flipped.view(torch.int32).view(-1)[index] ^= 1
        assert weights_digest([("a", flipped), weights[1]], torch.float32) != whole
    swapped = weights[0][1].clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert weights_digest([("a", swapped), weights[1]], torch.float32) != whole
    assert weights_digest([("a", weights[0][1].T), weights[1]], torch.float32) != whole
    assert weights_digest(weights, torch.bfloat16) != whole
