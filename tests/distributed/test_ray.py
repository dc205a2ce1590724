"""Learners that are Ray actors: the update of one process, an end in words when one is lost, nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'agentrl[ray]'")

from agentrl.cluster.ray import Ray
from agentrl.cluster.ray_hands import GLOO, Actors, Wants, over_network_of
from agentrl.cluster.ray_join import _hidden_gpu, join, require_ray
from agentrl.distributed.leader import Leader
from agentrl.distributed.member import serve
from agentrl.distributed.parallel import Data
from agentrl.errors import ConfigError, TeamError
from agentrl.model import Pretrained
from tests.distributed import test_team
from tests.distributed.test_team import Broken, learner, near, taught
from tests.learning import method, random_groups

pretrained = test_team.pretrained  # the fixture
TWO = Data(2, 120.0, 30.0)


def cluster(**changes: Any) -> Ray:
    told = {"workers": 1, "part": 8, "start_s": 200.0, "deadline_s": 60.0, "replacements": 0, "cpus": 0.5, "gpus": 0.0}
    return Ray(**({"address": "", "transfer": "host"} | told | changes))


def hands() -> list[psutil.Process]:
    """Processes of this one's Ray in which a learner lives."""
    found = []
    for one in psutil.Process().children(recursive=True):
        if one.status() != psutil.STATUS_ZOMBIE and "ray::Hand" in " ".join(one.cmdline()):
            found.append(one)
    return found


def require_none_left() -> None:
    deadline = time.monotonic() + 30.0
    while hands() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not hands()


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One local Ray for the file."""
    found = require_ray()
    assert join(found, "")
    yield found
    found.shutdown(wait_for_processes=True)


def test_an_actor_learns_what_one_process_learns_and_tells_what_fails(
    ray: Any, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster: cores are reserved, addresses are the node's own."""
    monkeypatch.setenv(GLOO, "")
    monkeypatch.delenv(GLOO)
    team = TWO.start(serve, "cpu", cluster(address="auto"))
    assert isinstance(team, Leader)
    try:
        assert os.environ[GLOO]
        assert len(hands()) == 1
        ours, wanted = learner(pretrained, TWO, team, micro_tokens=40), learner(pretrained)
        given = taught(ours, "grpo", 2), taught(wanted, "grpo", 2)
        for name in ("learner/loss", "learner/grad_norm", "learner/kl_ref"):
            assert given[0][name] == pytest.approx(given[1][name], rel=1e-4, abs=1e-6)
        near(ours, wanted)
        plain = method("grpo")
        broken = Broken(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
        told = r"process 1 of the learner failed in learner.gradient with ZeroDivisionError: by hand\nTraceback"
        with pytest.raises(TeamError, match=told):
            ours.learn(random_groups(0), broken)
    finally:
        team.close()
    require_none_left()
    assert ray.is_initialized()  # it was there before the team


@pytest.mark.usefixtures("ray")
def test_a_lost_actor_ends_the_run_in_words(pretrained: Pretrained) -> None:
    """On a Ray of this machine."""
    team = TWO.start(serve, "cpu", cluster())
    try:
        one = learner(pretrained, TWO, team)
        (actor,) = hands()
        os.kill(actor.pid, signal.SIGKILL)
        told = r"process 1 of the learner was lost by Ray \(ActorDiedError: .*resume="
        with pytest.raises(TeamError, match=told) as error:
            one.learn(random_groups(0), method("grpo"))
        assert "Some common causes" not in str(error.value)
    finally:
        team.close()
    require_none_left()


def fails(given: Any) -> None:
    """The life of a process that does not come up."""
    raise LookupError(f"no {given} here")


def test_one_that_does_not_come_up_is_told(ray: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TeamError, match=r"process 1 failed with LookupError: no Place.*see what it says above"):
        TWO.start(fails, "cpu", cluster())
    told = capfd.readouterr().err
    assert "in fails" in told  # the traceback
    few = Actors(ray, False, False, Wants(1, 1000.0, 0.0))
    try:
        few.hire(serve, [None])
        assert few.end(1, 0.1) == ""
        assert few.help().startswith("1 actor(s) want 1000 core(s) and 0 GPU(s) each, free on the Ray cluster are now")
    finally:
        few.kill()
    require_none_left()


def test_mistakes_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GLOO, "")
    monkeypatch.delenv(GLOO)
    over_network_of("127.0.0.1")
    assert os.environ[GLOO] == "lo"
    with pytest.raises(ConfigError, match=r"parallel.processes: got 0.*of many machines; say how many"):
        Data(0, 1.0, 1.0).start(serve, "cpu", cluster(address="auto"))
    with pytest.raises(ConfigError, match=r"1 workers of 1 and 3 actor\(s\) of the learner want 4, this machine has 3"):
        cluster(gpus=1.0)._require_room({"CPU": 8.0, "GPU": 3.0}, 3)


def test_a_ray_of_this_machine_does_not_see_the_gpu_of_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    for before, inside in ((None, "1,2"), ("4,5", "5"), ("7", "")):
        if before is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        with _hidden_gpu():
            assert os.environ["CUDA_VISIBLE_DEVICES"] == inside
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_run_with_actors_for_engine_and_learner(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a person types; it learns what a run of one process learns, and its actors go without a word of Ray's."""
    from tests.distributed.test_run import SMALL, same
    from tests.toy import save_toy_model
    from tests.toy_run import toy_train

    model = save_toy_model(tmp_path / "toy")
    toy_train(model, tmp_path / "one", *SMALL)
    words = ("parallel=data", "parallel.processes=2", "cluster=ray", "cluster.workers=1")
    toy_train(model, tmp_path / "two", *SMALL, *words)
    same(tmp_path / "two", tmp_path / "one")
    require_none_left()
    assert "raylet" not in "".join(capfd.readouterr())
