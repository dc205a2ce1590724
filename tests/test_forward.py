"""Sharing what rows begin with changes neither loss nor gradient, and is left where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrl import forward
from agentrl.batch import Work
from agentrl.critic import Critic
from agentrl.model import Policy
from agentrl.samples import collate, micro_groups, micro_rows, rows
from agentrl.tree import unique_tokens
from agentrl.types import Group
from tests.families import FAMILIES, pretrained, save_model
from tests.learning import learner, method, play, random_groups, turn

WINDOWS = {"gemma2": {"sliding_window": 64}}  # longer than the rows of these tests


@pytest.fixture(autouse=True)
def trees_always_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models this small would otherwise take padded rows."""
    monkeypatch.setattr(forward, "COPIES", 0.0)
    monkeypatch.setattr(forward, "CALLS", 0.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {f: save_model(f, tmp_path_factory.mktemp(f), **WINDOWS.get(f, {})) for f in FAMILIES}


def policy(path: Path, shared: bool = True, **changes: Any) -> Policy:
    made = pretrained(path, **changes).build("cpu")
    if not shared:
        made._trunk._longest = 0
    return made


def forked(seed: int, window: bool, size: int = 4) -> list[Group]:
    """Random groups in which each second play begins as the one before: forks in the middle of a turn and between."""
    found = []
    for g in random_groups(seed, size=size, window=window):
        plays = list(g.trajectories)
        for i in range(1, len(plays), 2):
            first = plays[i - 1].turns
            cut = replace(first[0], action_ids=(*first[0].action_ids[:-1], 3), logprobs=first[0].logprobs)
            plays[i] = replace(plays[i], turns=(first[0], *first[1:-1]) if len(first) > 1 else (cut,))
        found.append(replace(g, trajectories=tuple(plays)))
    return found


def learned(one: Policy, groups: list[Group], name: str, micro_tokens: int = 10**6, **changes: Any) -> tuple[Any, Any]:
    """(metrics, gradient of each trained weight) of one optimiser step that is kept from moving."""
    given = learner(one, micro_tokens=micro_tokens)  # type: ignore[arg-type]
    seen: list[list[torch.Tensor]] = []

    def look() -> None:
        seen.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in one.parameters()])

    given.hand.optimizer.step = look  # type: ignore[method-assign, assignment]
    metrics = given.learn(groups, method(name, **changes))
    return metrics, seen[0]


def require_equal(ours: Any, wanted: Any) -> None:
    assert ours[0]["learner/loss"] == pytest.approx(wanted[0]["learner/loss"], rel=1e-5, abs=1e-6)
    assert any(bool(b.any()) for b in wanted[1])
    for a, b in zip(ours[1], wanted[1], strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-7


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("window", [False, True])
def test_sharing_changes_neither_loss_nor_gradient(family: str, window: bool, folders: dict[str, Path]) -> None:
    groups = forked(1, window)
    kl: dict[str, Any] = {"kl_coef": 0.1, "entropy_coef": 0.1}
    plain = learned(policy(folders[family], shared=False), groups, "grpo", **kl)
    for micro_tokens in (10**6, 60):
        ours = learned(policy(folders[family]), groups, "grpo", micro_tokens, **kl)
        require_equal(ours, plain)
        assert ours[0]["learner/padding"] == 0.0
        assert ours[0]["learner/shared"] > plain[0]["learner/shared"]


@pytest.mark.parametrize("name", ["sft", "dapo", "vspo", "cispo", "ppo", "dpo"])
def test_sharing_changes_no_method(name: str, folders: dict[str, Path]) -> None:
    groups = forked(2, window=True, size=2 if name == "dpo" else 4)
    plain = learned(policy(folders["qwen3"], shared=False), groups, name)
    for micro_tokens in (10**6, 50):
        require_equal(learned(policy(folders["qwen3"]), groups, name, micro_tokens), plain)


@pytest.mark.parametrize("changes", [{"lora_rank": 2}, {"gradient_checkpointing": True}])
def test_sharing_goes_with_adapters_and_checkpointing(changes: dict[str, Any], folders: dict[str, Path]) -> None:
    groups = forked(3, window=False)
    plain = learned(policy(folders["llama3"], shared=False, **changes), groups, "grpo", kl_coef=0.1)
    require_equal(learned(policy(folders["llama3"], **changes), groups, "grpo", kl_coef=0.1), plain)


shared_rows = st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=12), min_size=1, max_size=8)


@given(given_rows=shared_rows, seed=st.integers(0, 2**20))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outputs_of_any_rows_are_those_of_padded_rows(
    given_rows: list[list[int]], seed: int, folders: dict[str, Path]
) -> None:
    width = max(map(len, given_rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in given_rows])
    mask = torch.arange(width) < torch.tensor([len(row) for row in given_rows])[:, None]
    loss = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.6)
    answers = []
    for one in (both(folders["qwen2.5"], True), both(folders["qwen2.5"], False)):
        critic = Critic(one.width, one.device, gradient=True, lr=0.0, betas=(0.9, 0.9), seed=0)
        critic.head[-1].weight.data.fill_(1.0)  # type: ignore[operator]
        answers.append(one.outputs(ids, mask, loss, 0.7, 5, critic))
    for name in ("logprobs", "entropy", "values"):
        torch.testing.assert_close(*(getattr(out, name) for out in answers), rtol=1e-5, atol=1e-5)
    nodes = unique_tokens(ids.numpy(), mask.sum(-1).numpy())
    assert answers[0].work == Work(nodes, min(nodes, ids.numel()))
    assert answers[1].work == Work(int(mask.sum()), ids.numel())


_BUILT: dict[tuple[Path, bool], Policy] = {}


def both(path: Path, shared: bool) -> Policy:
    return _BUILT.setdefault((path, shared), policy(path, shared))


def test_tokens_worked_by_hand(folders: dict[str, Path]) -> None:
    """Three plays: 4 + 3 tokens alike, then 1 + 1 that are not; the third forks after the prompt of 4."""
    prompt, one = (5, 6, 7, 8), policy(folders["qwen3"])
    plays = [play([turn(prompt, a)], r, member=m) for m, (a, r) in enumerate([((1, 2, 3, 4), 1), ((1, 2, 3, 9), 0)])]
    plays.append(play([turn(prompt, (9, 9))], 0.3, member=2))
    metrics, _ = learned(one, [Group(plays[0].task, tuple(plays))], "grpo")
    assert metrics["learner/shared"] == pytest.approx(1 - (8 + 1 + 2) / (8 + 8 + 6))
    assert metrics["learner/padding"] == 0.0
    plain, _ = learned(policy(folders["qwen3"], shared=False), [Group(plays[0].task, tuple(plays))], "grpo")
    assert plain["learner/shared"] == 0.0
    assert plain["learner/padding"] == pytest.approx(1 - 22 / 24)


@pytest.mark.parametrize("window", [False, True])
def test_micro_batches_hold_so_many_distinct_tokens_and_every_row_once(window: bool) -> None:
    given = method("sft")
    batch = collate(rows(forked(4, window), given.advantages), given.weights, False, torch.device("cpu"))
    ids, lengths = batch.input_ids.numpy(), batch.attention_mask.sum(-1).numpy()
    for budget in (1, 30, 80, 10**6):
        parts = micro_rows(batch, budget, shared=True)
        assert sorted(row for part in parts for row in part) == list(range(len(ids)))
        assert all(unique_tokens(ids[part], lengths[part]) <= budget or len(part) == 1 for part in parts)
        pairs = micro_groups(batch, budget, shared=True)
        assert sorted(row for part in pairs for row in part) == list(range(batch.rows))
        for part in pairs:
            distinct = sorted(set(batch.unique[part].tolist()))
            whole = len(set(batch.group[part].tolist())) == 1
            assert unique_tokens(ids[distinct], lengths[distinct]) <= budget or whole
    size = unique_tokens(ids, lengths)
    assert len(micro_rows(batch, size, shared=True)) == 1 < len(micro_rows(batch, size - 1, shared=True))


def test_the_same_bits_from_run_to_run(folders: dict[str, Path]) -> None:
    groups = forked(5, window=True)
    first, second = (learned(policy(folders["qwen3"]), groups, "grpo", 80)[1] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_in_16_bits_a_tree_is_as_exact_as_rows(folders: dict[str, Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (8, 24), generator=generator)
    ids[1:6, :15] = ids[0, :15]
    mask = torch.ones_like(ids, dtype=torch.bool)
    exact = policy(folders["llama3"]).outputs(ids, mask, mask, 1.0, 64).logprobs
    for dtype in ("mixed", "bfloat16"):
        gaps = [
            (policy(folders["llama3"], shared, dtype=dtype).outputs(ids, mask, mask, 1.0, 64).logprobs - exact).abs()
            for shared in (True, False)
        ]
        assert gaps[0].mean() <= 1.3 * gaps[1].mean()


# ---- where it cannot be


def test_rows_beyond_a_sliding_window_and_other_kernels_are_padded(tmp_path: Path, folders: dict[str, Path]) -> None:
    gemma = policy(save_model("gemma2", tmp_path))  # every other layer sees 16 tokens
    assert gemma.shares(16)
    assert not gemma.shares(17)
    assert not policy(folders["qwen3"], attention="eager").shares(2)
    assert policy(folders["qwen3"]).shares(256)
    ids = torch.ones(2, 20, dtype=torch.int64)
    out = gemma.outputs(ids, ids.bool(), ids.bool(), 1.0, 64)
    assert out.work == Work(40, 40)
    assert gemma.outputs(ids[:, :16], ids[:, :16].bool(), ids[:, :16].bool(), 1.0, 64).work == Work(16, 16)


def test_a_model_that_does_not_hand_the_tree_to_its_attention_is_found_out(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.qwen3 import modeling_qwen3

    decoder = modeling_qwen3.Qwen3DecoderLayer.forward

    def deaf(self: Any, *args: Any, **more: Any) -> Any:
        return decoder(self, *args, **{name: value for name, value in more.items() if name != "agentrl_tree"})

    monkeypatch.setattr(modeling_qwen3.Qwen3DecoderLayer, "forward", deaf)
    one = policy(folders["qwen3"])
    assert not one.shares(2)
    assert one.module.config._attn_implementation == "sdpa"


def test_a_frozen_copy_shares_too_and_a_saved_model_does_not_know(tmp_path: Path, folders: dict[str, Path]) -> None:
    one = policy(folders["qwen3"])
    assert one.clone_frozen().shares(100)
    one.save(tmp_path)
    assert "agentrl_tree" not in (tmp_path / "config.json").read_text()


def test_a_tree_that_saves_too_little_is_left(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    one = policy(folders["qwen3"])  # 32 wide
    monkeypatch.setattr(forward, "COPIES", 8.0)  # a quarter of each token
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    assert one.outputs(ids, mask, mask, 1.0, 64).work == Work(5, 5)
    ids[1, :2] = 6
    assert one.outputs(ids, mask, mask, 1.0, 64).work == Work(8, 8)
    monkeypatch.setattr(forward, "CALLS", 3000.0)  # three tokens a pass
    ids[1] = torch.tensor([1, 2, 3, 5])
    out = one.outputs(ids, mask, mask, 1.0, 64)
    assert out.work == Work(8, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("family", ["llama3", "qwen3"])
def test_a_gpu_shares_in_16_bits_and_gives_the_gradients_of_rows(family: str, folders: dict[str, Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (8, 24), generator=generator)
    ids[1:6, :15] = ids[0, :15]
    ids[2:4, :19] = ids[1, :19]
    mask = torch.ones_like(ids, dtype=torch.bool)
    given = ids.cuda(), mask.cuda(), mask.cuda(), 1.0, 64
    found = []
    for shared in (True, False):
        one = on_gpu(folders[family], shared)
        out = one.outputs(*given)
        out.logprobs.sum().backward()  # type: ignore[no-untyped-call]
        found.append((out, torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None])))
    (tree, ours), (rows, theirs) = found
    assert tree.work == Work(*(unique_tokens(ids.numpy(), mask.sum(-1).numpy()),) * 2)
    assert (tree.logprobs - rows.logprobs).abs().mean() < 0.02
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.99


def on_gpu(path: Path, shared: bool) -> Policy:
    made = pretrained(path, dtype="mixed").build("cuda")
    assert made.shares(24)
    if not shared:
        made._trunk._longest = 0
    return made
