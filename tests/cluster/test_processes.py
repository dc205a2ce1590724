"""Engines in processes of their own: equal bits for any number of them, lost ones replaced, stale ones caught."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl import config
from agentrl.cluster.pool import PoolEngine
from agentrl.cluster.processes import Processes, _name_of
from agentrl.digest import Digest, weights_digest
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.torch_engine import Torch, TorchEngine
from agentrl.errors import ConfigError, EngineError
from agentrl.sync import Sync
from tests.engine.test_torch_engine import STOPS, requests
from tests.families import save_model
from tests.test_model import nudge, pretrained
from tests.toy import save_toy_model
from tests.toy_run import toy_train

SAMPLING = Sampling(1.0, STOPS)


@dataclass(frozen=True)
class Clumsy:
    """A torch engine that does something wrong once: the first worker to take the token at ``once`` does ``what`` (with
    ``midway`` in the middle of its weights); or every time (``stuck``)."""

    once: str
    what: str

    def start(self, source: Any, device: str) -> ClumsyEngine:
        return ClumsyEngine(source.module(device, torch.float32), self)


class ClumsyEngine(TorchEngine):
    def __init__(self, module: Any, about: Clumsy) -> None:
        super().__init__(module, 8)
        self._about = about

    def _mine(self, *whats: str) -> bool:
        if self._about.what not in whats:
            return False
        try:
            Path(self._about.once).unlink()
        except FileNotFoundError:
            return False
        return True

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        if self._about.what == "stuck" or self._mine("die", "hang", "raise"):
            self._fail()
        return super().generate(requests, sampling)

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        if self._mine("skip"):
            self._version = version
            return
        if self._mine("die midway", "hang midway"):
            next(iter(weights))
            self._fail()
        super().load(weights, version)

    def _fail(self) -> None:
        what = self._about.what.split()[0]
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raise":
            raise ZeroDivisionError("by hand")
        time.sleep(60)

    def checksum(self) -> Digest:
        if self._about.what == "skip":
            return None  # type: ignore[return-value]  # an engine whose weights cannot be read back
        return super().checksum()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pretrained(save_model("qwen3", tmp_path_factory.mktemp("model")))


@contextmanager
def started(source: Any, each: Any = None, workers: int = 2, **changes: Any) -> Iterator[PoolEngine]:
    settings = {"part": 8, "threads": 1, "devices": [], "start_s": 120.0, "deadline_s": 60.0, "replacements": 2}
    settings |= {"transfer": "host"}
    engine = Processes(workers=workers, **(settings | changes)).start(each or Torch("float32", 512), source, "cpu")
    try:
        yield engine
    finally:
        engine.close()


def clumsy(tmp_path: Path, what: str) -> Clumsy:
    token = tmp_path / "once"
    token.touch()
    return Clumsy(str(token), what)


def test_equal_bits_for_any_number_of_workers(source: Any) -> None:
    """As the engine in this process that serves parts of the same size, before and after a push."""
    alone, policy = Torch("float32", 8).start(source, "cpu"), source.build("cpu")
    asked = requests(60, 20)
    wanted = alone.generate(asked, SAMPLING)
    nudge(policy)
    alone.load(policy.named_weights(), 1)
    later = alone.generate(asked, SAMPLING)
    assert wanted != later
    for number in (1, 2):
        with started(source, workers=number) as engine:
            assert engine.generate(asked, SAMPLING) == wanted
            engine.load(policy.named_weights(), 1)
            assert (engine.version, engine.generate(asked, SAMPLING)) == (1, later)
            assert engine.checksum() == weights_digest(policy.named_weights(), torch.float32)
            sequences = [request.prompt_ids for request in asked[:3]]
            assert engine.logprobs(sequences) == alone.logprobs(sequences)
            assert engine.generate([], SAMPLING) == []
            assert engine.replaced == 0


def test_a_killed_worker_is_replaced_and_nothing_is_lost(source: Any, capfd: pytest.CaptureFixture[str]) -> None:
    policy, asked = source.build("cpu"), requests(60, 20)
    with started(source) as engine:
        nudge(policy)
        engine.load(policy.named_weights(), 1)
        wanted = engine.generate(asked, SAMPLING)
        os.kill(engine._workers[1].pid, signal.SIGKILL)
        assert engine.generate(asked, SAMPLING) == wanted
        assert engine.replaced == 1
        assert engine.checksum() == weights_digest(policy.named_weights(), torch.float32)
    assert "worker 1 was ended by signal 9 (SIGKILL); a new one takes its place" in capfd.readouterr().err


@pytest.mark.parametrize(("what", "told"), [("die", "SIGKILL"), ("hang", "did not answer 'generate' within 3 s")])
def test_a_worker_that_is_lost_in_the_middle(
    what: str, told: str, source: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = requests(40, 20)
    wanted = Torch("float32", 8).start(source, "cpu").generate(asked, SAMPLING)
    with started(source, clumsy(tmp_path, what), deadline_s=3.0) as engine:
        assert engine.generate(asked, SAMPLING) == wanted
        assert engine.replaced == 1
    assert told in capfd.readouterr().err


def test_workers_that_cannot_go_on_end_the_run(source: Any, tmp_path: Path) -> None:
    """A crash of our own is told with the worker's traceback; losses in a row end with a sentence about the knobs."""
    with (
        started(source, clumsy(tmp_path, "raise")) as engine,
        pytest.raises(EngineError, match=r"ZeroDivisionError: by hand\n(.|\n)*test_processes\.py"),
    ):
        engine.generate(requests(4, 2), SAMPLING)
    with (
        started(source, clumsy(tmp_path, "stuck"), deadline_s=0.3, workers=1) as engine,
        pytest.raises(EngineError, match=r"replaced 2 times in a row.*cluster\.deadline_s"),
    ):
        engine.generate(requests(4, 2), SAMPLING)


def test_a_skipped_push_is_caught(source: Any, tmp_path: Path) -> None:
    """One of two workers keeps its old weights, and its weights cannot be read back: the canaries tell."""
    policy = source.build("cpu")
    with started(source, clumsy(tmp_path, "skip")) as engine:
        nudge(policy)
        sync = Sync(2, 1e-4, 0.05)
        seen = sync.look(engine, [(1, 2, 3, 4)])
        with pytest.raises(EngineError, match="workers 1 and 0 disagree by"):
            sync.push(policy, engine, 1, True, seen)


def test_workers_with_other_weights_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the tensors in which they differ."""
    pool = object.__new__(PoolEngine)
    pool._version = 3
    one = {"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(4)}
    found = [
        weights_digest(weights.items()) for weights in (one, one, {**one, "b": torch.zeros(3), "c": torch.ones(5)})
    ]
    monkeypatch.setattr(pool, "_all", lambda _: found)
    with pytest.raises(EngineError, match=r"worker 2 .* than worker 0 in 'b' and 1 other tensor.s. at version 3"):
        pool.checksum()
    found.pop()
    assert pool.checksum() == found[0]


def test_mistakes_are_sentences(source: Any) -> None:
    with started(source, workers=1) as engine, pytest.raises(EngineError, match="got a prompt of 0 tokens"):
        engine.generate([Request((), 0, 4)], SAMPLING)
    with pytest.raises(EngineError, match="the worker could not start"):
        Processes(1, 8, 120.0, 60.0, 0, 1, [], "host").start(Torch("float32", 8), None, "cpu")
    for changes, told in (
        ({"workers": 0}, r"cluster\.workers: got 0"),
        ({"devices": ["cuda:0"]}, r"cluster\.devices: got 1 for 2 workers"),
        ({"deadline_s": 0.0}, r"cluster\.deadline_s"),
        ({"transfer": "pigeon"}, r"cluster\.transfer: got 'pigeon', expected one of host, shared, broadcast"),
    ):
        base = {"workers": 2, "part": 8, "threads": 1, "devices": [], "start_s": 1.0, "deadline_s": 1.0}
        base |= {"transfer": "host"}
        with pytest.raises(ConfigError, match=told):
            Processes(**({"replacements": 0} | base | changes))


def test_a_gpu_is_the_one_that_the_run_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under CUDA_VISIBLE_DEVICES=2,5 cuda:1 is the machine's GPU 5."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert _name_of("cuda:1") == "5"
    for wrong in ("cuda:2", "cuda:one"):
        with pytest.raises(ConfigError, match=rf"cluster\.devices: got '{wrong}', but this machine shows 2 GPU"):
            _name_of(wrong)


def test_what_is_told_of_places() -> None:
    """As `config explain` and the first lines of a run say it."""
    told = {
        "here": "this process",
        "processes": "2 process(es) of this machine, parts of 64 requests",
        "ray": "2 actor(s) of 1 core(s) and 0 GPU(s) on a Ray of this machine, parts of 64 requests",
    }
    for choice, words in told.items():
        assert config.build(config.compose("train", [f"cluster={choice}"]).cluster).describe() == words
    cfg = config.compose("train", ["cluster=processes", "cluster.devices=[cuda:1,cuda:2]"])
    assert "on cuda:1, cuda:2" in config.build(cfg.cluster).describe()


def test_workers_end_with_the_engine(source: Any) -> None:
    with started(source) as engine:
        pids = [worker.pid for worker in engine._workers]
        folder = engine._agency.transfer.folder
        engine.load(source.build("cpu").named_weights(), 1)
        engine.load(source.build("cpu").named_weights(), 2)
        assert [path.name for path in folder.iterdir()] == ["2.pt"]
    assert not folder.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_run_with_workers_equals_one_without(tmp_path: Path) -> None:
    """Metrics and final weights, bit for bit."""
    model = save_toy_model(tmp_path / "model")
    words = ["method=grpo", "steps=4", "tasks_per_step=8"]
    one = toy_train(model, tmp_path / "one", *words, "engine=torch", "engine.max_batch=16")
    two = toy_train(model, tmp_path / "two", *words, "cluster=processes", "cluster.part=16")
    assert one["eval"] == two["eval"]
    weights = [
        (tmp_path / name / "checkpoints/step_000004/model/model.safetensors").read_bytes() for name in ("one", "two")
    ]
    assert weights[0] == weights[1]
