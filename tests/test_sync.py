"""The proof that new weights reached the engine: every way of not arriving stops the run in the same step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.digest import weights_digest
from agentrl.engine.torch_engine import Torch, TorchEngine
from agentrl.errors import ConfigError, EngineError
from agentrl.model import Policy
from agentrl.sync import Sync
from tests.test_model import nudge, pretrained
from tests.toy import save_toy_model

CANARIES = [(4, 1, 5, 2), (6, 1, 7)]


@pytest.fixture(params=[0, 4], ids=["full", "lora"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Policy, TorchEngine]:
    source = pretrained(save_toy_model(tmp_path), lora_rank=request.param)
    return source.build("cpu"), Torch("float32", 8).start(source, "cpu")


def push(policy: Policy, engine: TorchEngine, moved: bool | None = True, **changes: Any) -> dict[str, float]:
    sync = Sync(**{"canaries": 2, "tolerance": 1e-4, "tolerance_low": 0.35, **changes})
    return sync.push(policy, engine, 1, moved, sync.look(engine, CANARIES))


def test_weights_arrive_with_proof(pair: tuple[Policy, TorchEngine]) -> None:
    policy, engine = pair
    assert push(policy, engine, moved=False)["sync/canary_gap"] < 1e-5
    nudge(policy)
    assert push(policy, engine)["sync/canary_gap"] < 1e-5
    assert engine.version == 1
    assert engine.checksum() == weights_digest(policy.named_weights(), torch.float32)


def test_of_long_canaries_the_end_is_compared(pair: tuple[Policy, TorchEngine]) -> None:
    """What a task's plays have in common stands at their begin."""
    _, engine = pair
    seen = Sync(2, 1e-4, 0.35, canary_tokens=3).look(engine, [(4, 1, 5, 2), (6, 1), (5, 5)])
    assert seen.sequences == ((1, 5, 2), (6, 1))
    with pytest.raises(ConfigError, match=r"sync\.canary_tokens: got 1"):
        Sync(2, 1e-4, 0.35, canary_tokens=1)


def test_an_engine_that_drops_an_update_is_caught(
    pair: tuple[Policy, TorchEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, engine = pair
    push(policy, engine, moved=None)
    nudge(policy)
    monkeypatch.setattr(engine, "load", lambda *_: None)
    with pytest.raises(
        EngineError,
        match="another policy than the one that learns",
    ):
        push(policy, engine)


def test_one_lost_tensor_is_caught(pair: tuple[Policy, TorchEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    policy, engine = pair
    load = engine.load

    def forget(weights: Any, version: int) -> None:
        load([(n, torch.zeros_like(w) if "layers.1.self_attn.v" in n else w) for n, w in weights], version)

    monkeypatch.setattr(engine, "load", forget)
    with pytest.raises(EngineError, match=r"the learner in 'model\.layers\.1\.self_attn\.v_proj\.weight' \(checksums"):
        push(policy, engine, moved=None)


def test_a_step_that_should_have_moved_the_weights_is_not_proven_by_equal_ones(
    pair: tuple[Policy, TorchEngine],
) -> None:
    """Equal checksums of unchanged weights prove nothing when the optimiser says that it moved."""
    policy, engine = pair
    push(policy, engine, moved=None)
    with pytest.raises(EngineError, match="the optimiser moved the weights, yet the engine's checksum stayed"):
        push(policy, engine, moved=True)
    nudge(policy)
    with pytest.raises(EngineError, match="did not move the weights, yet the engine's checksum changed"):
        push(policy, engine, moved=False)


def test_equal_weights_computed_otherwise_are_caught(
    pair: tuple[Policy, TorchEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, engine = pair
    logprobs = engine.logprobs
    monkeypatch.setattr(engine, "logprobs", lambda sequences: [[x / 0.7 for x in row] for row in logprobs(sequences)])
    with pytest.raises(EngineError, match="compute the same weights differently"):
        push(policy, engine, moved=None)


def test_in_bfloat16_a_small_step_may_round_away(tmp_path: Path) -> None:
    source = pretrained(save_toy_model(tmp_path), lora_rank=4, dtype="bfloat16")
    policy, engine = source.build("cpu"), Torch("bfloat16", 8).start(source, "cpu")
    push(policy, engine, moved=None)
    for weight in policy.parameters():
        weight.data += 1e-9
    push(policy, engine, moved=True)
    nudge(policy)
    assert 0 < push(policy, engine, moved=True)["sync/canary_gap"] < 0.35
