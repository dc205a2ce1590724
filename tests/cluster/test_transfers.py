"""Weights on their way to workers: shared memory and broadcasts bring the same bits as the way through the host, lost
workers break nothing, and what does not fit is refused before it is touched."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrl.cluster.broadcast import Broadcasting
from agentrl.cluster.buckets import packed
from agentrl.cluster.files import Files
from agentrl.cluster.pool import PoolEngine
from agentrl.cluster.processes import Fork, Processes
from agentrl.digest import weights_digest
from agentrl.engine.torch_engine import Torch
from agentrl.errors import ConfigError, EngineError
from tests.cluster.test_processes import SAMPLING, clumsy, started
from tests.engine.test_torch_engine import requests
from tests.families import save_model
from tests.test_model import nudge, pretrained

WAYS = ("shared", "broadcast")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pretrained(save_model("qwen3", tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets so small that the model needs many."""
    monkeypatch.setattr(packed, "__defaults__", (1 << 14,))


def holds(engine: PoolEngine, policy: Any) -> bool:
    return engine.checksum() == weights_digest(policy.named_weights(), torch.float32)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=12),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(1, 200),
)
def test_buckets_hold_what_was_put_in(shapes: list[list[int]], dtype: torch.dtype, limit: int) -> None:
    """Copies, in order, in the wanted dtype; none larger than the limit, unless one tensor is."""
    given = [(f"w{number}", torch.randn(shape)) for number, shape in enumerate(shapes)]
    buckets = packed(given, dtype, limit)
    found = list(buckets.tensors())
    assert [name for name, _ in found] == [name for name, _ in given]
    for (_, ours), (_, theirs) in zip(found, given, strict=True):
        assert torch.equal(ours, theirs.to(dtype))
        assert not theirs.numel() or ours.data_ptr() != theirs.data_ptr()
    for layout, flat in zip(buckets.layouts, buckets.flat, strict=True):
        assert flat.shape == (layout.size,)
        assert flat.nbytes <= limit or len(layout.names) == 1


@pytest.mark.parametrize("way", WAYS)
def test_the_bits_of_the_host_and_a_lost_worker(way: str, source: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Two pushes; what the learner does to its weights afterwards is its own; a new worker gets the weights in use, and
    takes part in the next push; weights of another model are refused."""
    policy, asked = source.build("cpu"), requests(40, 20)
    alone = Torch("float32", 8).start(source, "cpu")
    with started(source, transfer=way) as engine:
        for version in (1, 2):
            nudge(policy)
            engine.load(policy.named_weights(), version)
            alone.load(policy.named_weights(), version)
            assert holds(engine, policy)
            assert engine.generate(asked, SAMPLING) == alone.generate(asked, SAMPLING)
        nudge(policy)
        os.kill(engine._workers[0].pid, signal.SIGKILL)
        assert engine.generate(asked, SAMPLING) == alone.generate(asked, SAMPLING)
        assert engine.replaced == 1
        now = list(policy.named_weights())
        engine.load(now, 3)
        assert holds(engine, policy)
        assert engine.replaced == 1
        with pytest.raises(EngineError, match=r"weight 'model\.norm\.weight' came with shape"):
            engine.load(((name, weight[:-1] if name == "model.norm.weight" else weight) for name, weight in now), 4)
    assert "worker 0 was ended by signal 9 (SIGKILL); a new one takes its place" in capfd.readouterr().err


@pytest.mark.parametrize(("what", "told"), [("die", "SIGKILL"), ("hang", "did not answer 'load' within 4 s")])
def test_a_worker_that_is_lost_in_the_middle_of_its_weights(
    what: str, told: str, source: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody goes on with half of them: all have the new weights, and the next push is sent again."""
    policy, each = source.build("cpu"), clumsy(tmp_path, f"{what} midway")
    with started(source, each, transfer="broadcast", deadline_s=4.0) as engine:
        for version in (1, 2):
            nudge(policy)
            engine.load(policy.named_weights(), version)
            assert not Path(each.once).exists()
            assert (engine.version, holds(engine, policy)) == (version, True)
            lost = engine.replaced
            assert 1 <= lost <= 2
    assert told in capfd.readouterr().err
    assert lost == engine.replaced


def test_several_that_come_late_are_packed_for_once() -> None:
    """Those who were in a broken broadcast are replaced side by side."""

    class Slow(Files):
        packs = 0

        def pack(self, *given: Any) -> Any:
            self.packs += 1
            time.sleep(0.2)
            return super().pack(*given)

    slow = Slow()
    sender = Broadcasting("127.0.0.1", 3, "cpu", slow)
    try:
        sent = sender.pack([("w", torch.ones(4))], torch.float32, 1)
        with ThreadPoolExecutor(3) as threads:
            found = [future.result() for future in [threads.submit(sent.late) for _ in range(3)]]
        assert slow.packs == 1
        for parcel in found:
            assert torch.equal(dict(parcel.open())["w"], torch.ones(4))
    finally:
        sender.close()


def test_devices_that_do_not_allow_it() -> None:
    for way, devices, learner, told in (
        ("shared", ["cuda:0", "cpu"], "cpu", r"worker 0 computes on cuda:0 and the learner on cpu; .*host"),
        ("shared", ["cuda:0", "cuda:1"], "cuda", r"worker 1 computes on cuda:1 and the learner on cuda:0"),
        ("broadcast", ["cuda:0", "cuda:1"], "cuda", r"the learner \(cuda:0\) and the workers \(cuda:0, cuda:1\)"),
        ("broadcast", ["cuda:1", "cuda:1"], "cuda", r"have not a GPU each; .*host"),
        ("broadcast", ["cuda:0", "cpu"], "cpu", r"the learner computes on cpu and the workers on cuda:0, cpu"),
    ):
        fork = object.__new__(Fork)
        fork._settings = Processes(2, 8, 1.0, 1.0, 0, 1, devices, way)
        with pytest.raises(ConfigError, match=told):
            fork._transfer(way, torch.device(learner))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("way", WAYS)
def test_on_gpus(way: str, source: Any) -> None:
    """CUDA IPC on one GPU, NCCL between several: pushes, a lost worker, equal sums of the weights."""
    if way == "broadcast" and torch.cuda.device_count() < 3:
        pytest.skip("NCCL wants a GPU for each member: three of them")
    devices = ["cuda:0", "cuda:0"] if way == "shared" else ["cuda:1", "cuda:2"]
    policy = source.build("cuda")
    settings = Processes(2, 8, 200.0, 60.0, 2, 1, devices, way)
    engine = settings.start(Torch("float32", 512), source, "cuda")
    try:
        for version in (1, 2, 3):
            nudge(policy)
            engine.load(policy.named_weights(), version)
            assert holds(engine, policy)
            if version == 2:
                os.kill(engine._workers[0].pid, signal.SIGKILL)  # type: ignore[attr-defined]
                assert holds(engine, policy)
        assert engine.replaced == 1
    finally:
        engine.close()
