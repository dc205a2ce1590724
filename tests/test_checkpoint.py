"""Checkpoints: what goes in comes out, bit for bit; what was damaged is refused and the one before it is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from agentrl.checkpoint import Checkpoints, clear, folder_of, folders, latest, load
from agentrl.errors import CheckpointError
from agentrl.nests import flatten, unflatten


def save_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def trained() -> torch.optim.AdamW:
    """An optimiser that has moved, with its usual mixture of tensors, numbers, tuples and integer keys."""
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    optimizer = torch.optim.AdamW(weights, lr=0.1, betas=(0.9, 0.95))
    for _ in range(3):
        sum((w**2).sum() for w in weights).backward()
        optimizer.step()
    return optimizer


def save(run: Path, step: int, keep: int = 0) -> Path:
    parts = {"learner": {"optimizer": trained().state_dict(), "step": step}, "run": {"episodes": 12, "past": []}}
    return Checkpoints(every=1, keep=keep).save(run, step, parts, save_model)


def test_an_optimizer_survives_exactly(tmp_path: Path) -> None:
    before = trained().state_dict()
    folder = Checkpoints(every=0, keep=0).save(tmp_path, 3, {"optimizer": before}, save_model)
    after = load(folder).parts["optimizer"]
    assert after["state"].keys() == {0, 1}
    for index, state in before["state"].items():
        for name, value in state.items():
            assert torch.equal(after["state"][index][name], value)
            assert after["state"][index][name].dtype == value.dtype
    assert after["param_groups"][0]["params"] == [0, 1]
    fresh = trained()
    fresh.load_state_dict(after)
    assert fresh.param_groups[0]["lr"] == 0.1


def test_flatten_and_unflatten_are_inverse() -> None:
    tensor = torch.arange(3)
    nest = {"a": [tensor, {"b": 1.5, "c": None}], 7: "word", "flag": True}
    tensors, rest = flatten(nest)
    json.dumps(rest)
    back = unflatten(tensors, rest)
    assert torch.equal(back["a"][0], tensor)
    assert back["a"][1] == {"b": 1.5, "c": None}
    assert (back[7], back["flag"]) == ("word", True)
    with pytest.raises(TypeError, match=r"checkpoint: x\.0 is a object"):
        flatten({"x": [object()]})


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    tensor = torch.arange(4.0)
    folder = Checkpoints(every=0, keep=0).save(tmp_path, 0, {"p": {"a": tensor, "b": tensor[:2]}}, save_model)
    assert torch.equal(load(folder).parts["p"]["b"], tensor[:2])


def test_layout_has_no_pickle(tmp_path: Path) -> None:
    folder = save(tmp_path, 40)
    assert folder == folder_of(tmp_path, 40) == tmp_path / "checkpoints" / "step_000040"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"learner.json", "learner.safetensors", "run.json", "model/config.json", "manifest.json"}
    assert load(folder).model == folder / "model"


def test_old_checkpoints_are_dropped(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=2)
    assert [folder.name for folder in folders(tmp_path)] == ["step_000003", "step_000002"]


def test_a_damaged_newer_one_does_not_push_out_the_good_ones(tmp_path: Path) -> None:
    """The run went on from step 1, since 5 does not verify; a checkpoint of step 2 must not be dropped for it."""
    save(tmp_path, 1)
    (save(tmp_path, 5) / "learner.safetensors").unlink()
    assert latest(tmp_path, lambda _: None).step == 1
    save(tmp_path, 2, keep=1)
    assert latest(tmp_path, lambda _: None).step == 2


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    """A checkpoint that had stepped aside comes back, unless its successor is there; drafts and dropped ones go."""
    for step in (1, 2):
        folder = save(tmp_path, step)
        shutil.copytree(folder, folder.with_name(f".old_{folder.name}"))
    for name in (".draft_x", ".drop_step_000001"):
        (tmp_path / "checkpoints" / name).mkdir()
    shutil.rmtree(folder_of(tmp_path, 2))
    assert clear(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_000001", "step_000002"]
    assert load(folder_of(tmp_path, 2)).step == 2
    assert not clear(tmp_path / "nothing")


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    assert load(folder_of(tmp_path, 1)).step == 1


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Checkpoints(every=1, keep=0).save(tmp_path, 1, {}, fail)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("name", ["learner.safetensors", "run.json", "model/config.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_damage_is_noticed_and_the_previous_one_taken(tmp_path: Path, name: str, harm: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=path.name):
        load(folder_of(tmp_path, 2))
    notes: list[str] = []
    assert latest(tmp_path, notes.append).step == 1
    assert len(notes) == 1
    assert path.name in notes[0]


def test_another_format_is_refused(tmp_path: Path) -> None:
    manifest = save(tmp_path, 1) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(CheckpointError, match="format 9, this version reads format 1"):
        load(folder_of(tmp_path, 1))


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no usable checkpoint"):
        latest(tmp_path, print)


def test_when_a_checkpoint_is_due() -> None:
    assert [step for step in range(7) if Checkpoints(every=3, keep=0).due(step)] == [3, 6]
    assert [step for step in range(0, 21, 2) if Checkpoints(every=5, keep=0).due(step, 2)] == [6, 10, 16, 20]
    assert not any(Checkpoints(every=0, keep=0).due(step) for step in range(7))
    with pytest.raises(ValueError, match=r"checkpoint\.every: got -1"):
        Checkpoints(every=-1, keep=0)
