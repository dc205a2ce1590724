"""Warm starts: made once, found by every run with equal settings, and where KL is measured from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agentrl import config, loop
from agentrl.errors import CheckpointError, ConfigError
from agentrl.explain import explain
from agentrl.model import Pretrained
from agentrl.run import training_run
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

WARM = ["warmstart=sft", "warmstart.steps=6", "warmstart.tasks_per_step=8", "eval.samples=1"]
LORA = ["model.lora_rank=4", "model.lora_targets=[q_proj,v_proj]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def warm_train(model: Path, folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    """A run of two steps, its warm start kept in ``folder``."""
    return toy_train(model, folder / name, *WARM, f"warmstart.folder={folder}/warm", "steps=2", *overrides)


def started(result: dict[str, Any]) -> Path:
    return Path(result["facts"]["warmstart"]["path"])


def test_made_once_and_found_by_another_method(model: Path, tmp_path: Path) -> None:
    first = warm_train(model, tmp_path, "grpo", "method=grpo")
    marks = {path: path.stat().st_mtime_ns for path in started(first).rglob("*")}
    second = warm_train(model, tmp_path, "vspo", "method=vspo")
    assert started(first) == started(second)
    assert marks == {path: path.stat().st_mtime_ns for path in started(first).rglob("*")}
    assert (first["facts"]["warmstart"]["found"], second["facts"]["warmstart"]["found"]) == (False, True)
    assert [path.name for path in (tmp_path / "warm").iterdir()] == [first["facts"]["warmstart"]["hash"]]
    assert first["eval"]["before"] == second["eval"]["before"]
    assert first["episodes"] == 16 * 8  # of the run alone: demonstrations are not counted
    assert f"{started(first).name}: made in" in (tmp_path / "grpo/notes.txt").read_text()
    assert f"{started(first).name}: found" in (tmp_path / "vspo/notes.txt").read_text()
    assert str(started(first)) in (started(first) / "config.yaml").read_text()


def test_equals_sft_alone_with_the_same_settings(model: Path, tmp_path: Path) -> None:
    alone = toy_train(model, tmp_path / "sft", "method=sft", "rollout.noise=0.5", "steps=6", "eval.samples=1")
    warm = warm_train(model, tmp_path, "grpo", "method=grpo")
    ours = (started(warm) / "model/model.safetensors").read_bytes()
    assert ours == (tmp_path / "sft/checkpoints/step_000006/model/model.safetensors").read_bytes()
    assert warm["eval"]["before"] == alone["eval"]["after"]


def test_what_changes_the_weights_changes_the_hash(model: Path, tmp_path: Path) -> None:
    def hash_of(*overrides: str, of: Path = model) -> str:
        cfg = toy_config(of, tmp_path, [*WARM, *overrides])
        return str(config.build(cfg.warmstart).forecast(cfg, config.build(cfg.env))["hash"])

    known = hash_of()
    others = ["seed=1", "learner.beta1=0.8", "context=history", "env.max_turns=1"]
    own = ["steps=4", "tasks_per_step=4", "lr=0.02", "noise=0.4", "only_success=true", "pool=3"]
    hashes = [hash_of(text) for text in (*others, *(f"warmstart.{text}" for text in own))]
    assert len({known, *hashes}) == 1 + len(hashes)
    same = ["method=dapo", "steps=30", "tasks_per_step=2", "log=console", "learner.old_logprobs=recompute"]
    same += ["learner.critic_lr=0.5", "learner.critic_gradient=true"]
    assert {hash_of(text) for text in (*same, f"warmstart.folder={tmp_path}")} == {known}
    shutil.copytree(model, tmp_path / "moved")
    assert hash_of(of=tmp_path / "moved") == known
    assert hash_of(of=save_toy_model(tmp_path / "other", seed=1)) != known


@pytest.mark.parametrize("adapters", [[], LORA], ids=["full", "lora"])
def test_kl_is_measured_from_the_warm_start_also_after_resuming(
    adapters: list[str], model: Path, tmp_path: Path
) -> None:
    words = ["method=grpo", "method.kl_coef=0.5", "steps=4", *adapters]
    whole = warm_train(model, tmp_path, "whole", *words)
    warm_train(model, tmp_path, "parts", *words, "checkpoint.every=2")
    shutil.rmtree(tmp_path / "parts/checkpoints/step_000004")
    resumed = training_run(_resumed(tmp_path / "parts"))
    resumed.close()
    anew = Pretrained(**_model_fields(tmp_path / "parts")).build("cpu")
    anew.restore(started(whole) / "model")
    assert _scores(resumed.learner.hand.reference) == _scores(anew) != _scores(resumed.policy)
    result = _resume(tmp_path / "parts")
    last = "checkpoints/step_000004/model"
    (name,) = [path.name for path in (tmp_path / "whole" / last).glob("*.safetensors")]
    ours, theirs = (load_file(tmp_path / run / last / name) for run in ("whole", "parts"))
    assert all(ours[key].equal(theirs[key]) for key in ours)
    assert result["facts"]["warmstart"]["hash"] == started(result).name


def test_a_resumed_run_misses_its_warm_start_only_for_kl(model: Path, tmp_path: Path) -> None:
    for coefficient in ("0.5", "0"):
        run = f"kl_{coefficient}"
        result = warm_train(model, tmp_path, run, "method=grpo", f"method.kl_coef={coefficient}")
        shutil.rmtree(started(result))
    with pytest.raises(CheckpointError, match="needs it back"):
        _resume(tmp_path / "kl_0.5", steps=3)
    assert _resume(tmp_path / "kl_0", steps=3)["steps"] == 3


def test_a_damaged_warm_start_is_not_used(model: Path, tmp_path: Path) -> None:
    weights = started(warm_train(model, tmp_path, "one", "method=grpo")) / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="delete it"):
        warm_train(model, tmp_path, "two", "method=grpo")


def test_the_slower_of_two_makers_uses_the_first_ones(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = loop.warm_up

    def overtaken(cfg: config.Config) -> None:
        slow(cfg)
        monkeypatch.setattr(loop, "warm_up", slow)
        warm_train(model, tmp_path, "fast", "method=grpo")

    monkeypatch.setattr(loop, "warm_up", overtaken)
    result = warm_train(model, tmp_path, "slow", "method=grpo")
    (only,) = (tmp_path / "warm").iterdir()
    assert started(result) == only
    assert json.loads((only / "config.yaml").read_text() and (only / "summary.json").read_text())["status"] == "done"


def test_an_interrupted_warm_start_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "one_batch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        warm_train(model, tmp_path, "run", "method=grpo")
    assert not list((tmp_path / "warm").iterdir())
    assert not (tmp_path / "run").exists()


def test_steps_of_a_warm_start_fill_whole_batches(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"try warmstart\.steps=8"):
        warm_train(model, tmp_path, "run", "method=grpo", "learner.minibatches=4", "steps=4")
    with pytest.raises(ConfigError, match="warmstart=none"):
        toy_config(model, tmp_path, ["warmstart=sft", "warmstart.steps=0"])


def test_explain_mentions_the_warm_start(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = explain(toy_config(model, tmp_path, [*WARM, f"warmstart.folder={tmp_path}/warm", "method=grpo"]))
    assert facts["warmstart"]["demonstrations"] == 48
    assert "6 steps on 48 demonstrations, to be made in" in capsys.readouterr().out


def _resumed(run: Path, **changes: Any) -> config.Config:
    return config.changed(config.load(run / "config.yaml"), {"resume": str(run), **changes})


def _resume(run: Path, **changes: Any) -> dict[str, Any]:
    return loop.train(_resumed(run, **changes))


def _model_fields(run: Path) -> dict[str, Any]:
    node = config.plain(config.load(run / "config.yaml"))["model"]
    return {key: value for key, value in node.items() if key != "_target_"}


def _scores(model: Any) -> list[float]:
    """Logprobs of some tokens by anything that scores."""
    ids = torch.tensor([[4, 1, 5, 2, 8, 1, 6]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    values: list[float] = model.outputs(ids, mask, mask, 1.0, 64).logprobs[0].tolist()
    return values
