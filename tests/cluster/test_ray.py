"""Engines as Ray actors: the bits of one engine, dead and silent ones replaced, nothing left behind."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

pytest.importorskip("ray", reason="Ray is not installed: pip install 'agentrl[ray]'")

from agentrl.cluster.pool import PoolEngine
from agentrl.cluster.ray import Ray, Seat, Stored
from agentrl.cluster.ray_join import join, require_ray
from agentrl.digest import weights_digest
from agentrl.engine.base import Request, Sampling
from agentrl.engine.torch_engine import Torch
from agentrl.errors import ConfigError, EngineError
from tests.test_model import nudge, pretrained
from tests.toy import save_toy_model
from tests.toy_run import toy_train

SAMPLING = Sampling(1.0, (2,))


def settings(**changes: Any) -> Ray:
    told = {"workers": 2, "part": 8, "start_s": 200.0, "deadline_s": 60.0, "replacements": 2}
    return Ray(**({"cpus": 0.5, "gpus": 0.0, "address": "", "transfer": "broadcast"} | told | changes))


def ray_processes() -> list[psutil.Process]:
    """Those that this process has started, actors and their helpers among them."""
    found = []
    for one in psutil.Process().children(recursive=True):
        words = " ".join(one.cmdline()) if one.status() != psutil.STATUS_ZOMBIE else ""
        if "ray" in words and "multiprocessing" not in words:  # whose command line holds the search path, Ray's too
            found.append(one)
    return found


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One local Ray for the file, joined as a run joins it."""
    found = require_ray()
    before = signal.getsignal(signal.SIGTERM)
    assert join(found, "")
    assert signal.getsignal(signal.SIGTERM) is before
    assert ray_processes()
    yield found
    found.shutdown(wait_for_processes=True)
    assert not ray_processes()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pretrained(save_toy_model(tmp_path_factory.mktemp("model")))


def requests(count: int, most: int) -> list[Request]:
    """Prompts of 3 to 40 of the toy's words, each with a seed of its own."""
    rng = random.Random(0)
    prompts = [tuple(rng.randrange(3, 7) for _ in range(rng.randint(3, 40))) for _ in range(count)]
    return [Request(prompt, 1000 + i, rng.randint(1, most)) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def engine(ray: Any, source: Any) -> Iterator[PoolEngine]:
    one = settings().start(Torch("float32", 512), source, "cpu")
    yield one
    one.close()
    assert ray.is_initialized()  # it was there before the engine


def pid(ray: Any, engine: PoolEngine, number: int) -> int:
    found: int = ray.get(engine._workers[number]._actor.pid.remote())  # type: ignore[attr-defined]
    return found


def test_two_actors_give_the_bits_of_one_engine(ray: Any, engine: PoolEngine, source: Any) -> None:
    """Before and after a push, with the proofs of the push."""
    alone, policy = Torch("float32", 8).start(source, "cpu"), source.build("cpu")
    asked = requests(60, 20)
    wanted = alone.generate(asked, SAMPLING)
    assert engine.generate(asked, SAMPLING) == wanted
    assert psutil.Process(pid(ray, engine, 0)).nice() == os.nice(0)
    nudge(policy)
    alone.load(policy.named_weights(), 1)
    engine.load(policy.named_weights(), 1)
    later = alone.generate(asked, SAMPLING)
    assert later != wanted
    assert (engine.version, engine.generate(asked, SAMPLING)) == (1, later)
    assert engine.checksum() == weights_digest(policy.named_weights(), torch.float32)
    sequences = [request.prompt_ids for request in asked[:3]]
    assert engine.logprobs(sequences) == alone.logprobs(sequences)


def test_lost_actors_are_replaced(
    ray: Any, engine: PoolEngine, source: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed, one hangs; requests and weights come again, and the one that hangs is ended."""
    asked, policy = requests(60, 20), source.build("cpu")
    nudge(policy)
    engine.load(policy.named_weights(), 2)
    wanted = engine.generate(asked, SAMPLING)
    monkeypatch.setattr(engine, "_settings", settings(deadline_s=15.0))
    stopped, killed = pid(ray, engine, 0), pid(ray, engine, 1)
    os.kill(stopped, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)
    assert engine.generate(asked, SAMPLING) == wanted
    assert engine.checksum() == weights_digest(policy.named_weights(), torch.float32)
    assert engine.replaced == 2
    told = capfd.readouterr().err
    assert "worker 0 did not answer 'generate' within 15 s" in told
    assert "worker 1 was lost by Ray (ActorDiedError: " in told
    assert "Some common causes" not in told
    assert not psutil.pid_exists(stopped) or psutil.Process(stopped).status() == psutil.STATUS_ZOMBIE


def test_what_goes_wrong_inside_is_told_once(engine: PoolEngine) -> None:
    with pytest.raises(EngineError, match="got a prompt of 0 tokens"):
        engine.generate([Request((), 0, 4)], SAMPLING)
    with pytest.raises(EngineError, match=r"failed with AttributeError(.|\n)*Traceback(.|\n)*cluster/base\.py"):
        engine._ask(0, "nothing")


def test_weights_of_every_kind_travel(ray: Any) -> None:
    """Half precision, which numpy does not know, a number without dimensions, an unusual layout."""
    sent = {
        "half": torch.arange(6).reshape(2, 3).to(torch.bfloat16),
        "one": torch.tensor(0.5),
        "turned": torch.randn(3, 5).T,
    }
    parcel = Stored.put(ray, sent)
    for name, tensor in parcel.open():
        assert tensor.dtype == sent[name].dtype
        assert torch.equal(tensor, sent[name])
        tensor += 1  # a copy of its own
    assert all(torch.equal(tensor, sent[name]) for name, tensor in parcel.open())


def test_mistakes_are_sentences(ray: Any, source: Any) -> None:
    for changes, told in (
        ({"workers": 0}, r"cluster\.workers: got 0"),
        ({"cpus": -1.0}, r"cluster\.cpus: got -1"),
        ({"gpus": 2.0}, r"cluster\.gpus: got 2, expected at most 1"),
    ):
        with pytest.raises(ConfigError, match=told):
            settings(**changes)
    with pytest.raises(ConfigError, match=r"2 workers of 0\.5 want 1, this machine has 0"):
        settings(gpus=0.5)._require_room(ray.cluster_resources() | {"GPU": 0.0})
    with pytest.raises(ConfigError, match=r"cluster\.gpus: got 0 with device=cuda"):
        settings().start(Torch("float32", 8), source, "cuda")
    with pytest.raises(EngineError, match=r"was not up within 2 s \(it wants 1000 core\(s\) and 0 GPU\(s\); free on"):
        settings(workers=1, cpus=1000.0, start_s=2.0).start(Torch("float32", 8), source, "cpu")
    kind, told = Seat(1).begin(["/nowhere"], pickle.dumps((Torch("float32", 8), None, "cpu")))
    assert kind == "error"
    assert "the worker could not start" in told
    sys.path.remove("/nowhere")
    elsewhere = b"cnobodys_plugin\nEngine\n."  # a pickle that names a class which this machine lacks
    assert Seat(1).begin([], elsewhere)[1].endswith("'nobodys_plugin'; install it on every node")


def test_a_run_with_actors_equals_one_without(
    engine: PoolEngine, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Final weights, bit for bit. The run is given the actors that are there: starting two more takes seconds."""
    words = ["method=grpo", "steps=3", "tasks_per_step=8", "eval.before=false"]
    one = toy_train(Path(source.path), tmp_path / "one", *words, "engine.max_batch=8")
    monkeypatch.setattr(Ray, "start", lambda *_: engine)
    monkeypatch.setattr(engine, "close", lambda: None)
    two = toy_train(Path(source.path), tmp_path / "two", *words, "cluster=ray", "cluster.part=8")
    assert engine.version == 3
    assert one["eval"] == two["eval"]
    weights = [
        (tmp_path / name / "checkpoints/step_000003/model/model.safetensors").read_bytes() for name in ("one", "two")
    ]
    assert weights[0] == weights[1]
