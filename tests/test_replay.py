"""agentrl replay: the learner learns the same from the same, and says so when it does not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from agentrl import checkpoint, config
from agentrl.errors import ConfigError, DataError
from agentrl.kept import Kept, forget, keep, load, path_of, steps_kept
from agentrl.replay import replay
from tests.test_cli import told
from tests.toy import save_toy_model
from tests.toy_run import toy_train

QUICK = ("eval.before=false", "eval.tasks=1", "eval.samples=1", "tasks_per_step=4", "checkpoint.batches=true")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight optimiser steps in four batches, with a critic; checkpoints of steps 4 and 8."""
    folder = tmp_path_factory.mktemp("run") / "ppo"
    words = ["method=ppo", "steps=8", "learner.minibatches=2", "learner.schedule=linear", "checkpoint.every=4"]
    toy_train(model, folder, *words, *QUICK, "checkpoint.keep=0")
    return folder


def again(run: Path, step: int | None = None) -> dict[str, object]:
    return replay(config.compose("replay", [f"run={run}", *([f"step={step}"] if step else [])]))


def test_every_batch_is_learned_from_again_bit_for_bit(run: Path) -> None:
    assert steps_kept(run) == [2, 4, 6, 8]
    assert again(run) == {"equal": True, "from": 4, "steps": [6, 8], "differ": {}}
    assert again(run, 4) == {"equal": True, "from": 0, "steps": [2, 4], "differ": {}}
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (line,) = [line for line in logged if line["step"] == 6 and "learner/loss" in line]
    kept = load(run, 6)
    assert kept.version == 4
    assert kept.metrics.items() <= line.items()


@pytest.mark.parametrize(
    "words", ["grpo method.kl_coef=0.1 model.lora_rank=4 model.lora_targets=[q_proj]", "vspo reward=env", "dpo"]
)
def test_references_adapters_and_weighted_groups(words: str, model: Path, tmp_path: Path) -> None:
    warm = ["warmstart=sft", "warmstart.steps=2", "warmstart.tasks_per_step=2", f"warmstart.folder={tmp_path}/warm"]
    toy_train(model, tmp_path / "run", *f"method={words} steps=3 checkpoint.every=2".split(), *QUICK, *warm)
    assert again(tmp_path / "run", 3) == {"equal": True, "from": 2, "steps": [3], "differ": {}}
    assert steps_kept(tmp_path / "run") == [3]  # of the two checkpoints that are kept, 2 is the older one


@pytest.mark.parametrize(
    ("saved", "keep", "left"), [((4,), 2, [2, 4]), ((2, 4), 2, [4]), ((4,), 1, []), ((4,), 0, [2, 4])]
)
def test_the_start_counts_as_a_checkpoint(saved: tuple[int, ...], keep: int, left: list[int], tmp_path: Path) -> None:
    """A finished run without checkpoints on the way keeps its batches back to the start."""
    for step in saved:
        (tmp_path / "checkpoints" / f"step_{step:06d}").mkdir(parents=True)
    for step in (2, 4):
        path_of(tmp_path, step).parent.mkdir(exist_ok=True)
        path_of(tmp_path, step).touch()
    forget(tmp_path, keep)
    assert steps_kept(tmp_path) == left


def test_a_changed_record_is_noticed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = load(run, 8)
    group, rest = kept.groups[0], kept.groups[1:]
    plays = tuple(dataclasses.replace(play, reward=play.reward + 1 / 1024) for play in group.trajectories)
    keep(run, dataclasses.replace(kept, groups=[dataclasses.replace(group, trajectories=plays), *rest]))
    code, out, _ = told(capsys, "replay", str(run), "step=8")
    assert code == 1
    assert "step 6: equal; weights and" in out
    assert "step 8: DIFFERENT; learner/" in out
    assert "weights: was" in out
    keep(run, kept)
    assert told(capsys, "replay", f"run={run}")[0] == 0


def test_a_refused_batch_is_refused_again(model: Path, tmp_path: Path) -> None:
    toy_train(model, tmp_path, "method=grpo", "steps=2", "checkpoint.every=1", *QUICK)
    kept = load(tmp_path, 2)
    play = kept.groups[0].trajectories[0]
    turn = dataclasses.replace(play.turns[0], logprobs=tuple(float("nan") for _ in play.turns[0].logprobs))
    broken = dataclasses.replace(play, turns=(turn, *play.turns[1:]), reward=play.reward + 1.0)
    group = dataclasses.replace(kept.groups[0], trajectories=(broken, *kept.groups[0].trajectories[1:]))
    groups = [group, *kept.groups[1:]]
    words = again_of(tmp_path, Kept(2, 1, groups))["error"][1]
    assert "expected finite numbers" in words
    keep(tmp_path, Kept(2, 1, groups, error=words))
    assert again(tmp_path, 2)["equal"]


def again_of(run: Path, kept: Kept) -> dict[str, tuple[str, str]]:
    keep(run, kept)
    differ = again(run, kept.step)["differ"]
    assert isinstance(differ, dict)
    found: dict[str, tuple[str, str]] = differ[kept.step]
    return found


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"step=3: .* keeps no batch of this step; it has 2 to 8"):
        again(run, 3)
    lost = path_of(run, 2).read_bytes()
    path_of(run, 2).unlink()
    with pytest.raises(ConfigError, match=r"step_000002.* is missing, between the start and this step"):
        again(run, 4)
    path_of(run, 2).write_bytes(lost[:-20])
    with pytest.raises(DataError, match="cannot be read as a kept batch"):
        again(run, 4)
    path_of(run, 2).write_bytes(lost)
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"keeps no batches; a run keeps them with checkpoint\.batches=true"):
        again(tmp_path)
    with pytest.raises(ConfigError, match="got no run"):
        replay(config.compose("replay", []))


def test_only_what_can_be_replayed_is_kept(model: Path, tmp_path: Path) -> None:
    toy_train(model, tmp_path, "method=grpo", "steps=4", "checkpoint.every=1", "checkpoint.keep=2", *QUICK)
    assert checkpoint.steps_saved(tmp_path) == [4, 3]
    assert steps_kept(tmp_path) == [4]
