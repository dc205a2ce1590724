"""``agentrl train -m``: one resumable set of processes, its folders, its table, its failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentrl import sweep_table
from agentrl.overrides import combinations
from tests.sweeps import stub
from tests.test_cli import ROOT, told

GRID = ("method=grpo,vspo", "env=webshop,tool_planning", "seed=0,1,2", "steps=2")


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.install(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)


def swept(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    return told(capsys, "train", "-m", *words)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def begin(*words: str, **env: str) -> subprocess.Popen[str]:
    """The sweep in a process of its own, which is the real one; its children are the stand-in."""
    code = (
        f"import os, sys; stub = os.environ['PYTHONPATH']; sys.path.insert(0, {str(ROOT)!r}); "
        f"from agentrl.cli import main; main({['train', '-m', *words]!r})"
    )
    command = [sys.executable, "-P", "-c", code]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env}, start_new_session=True
    )


def test_every_combination_runs_once_in_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = swept(capsys, *GRID, "workers=2")
    assert code == 0, err
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert folder.name.rpartition("-")[0] == "method_env_seed"
    runs = sorted(path.parent for path in folder.glob("*/summary.json"))
    assert len(runs) == 12
    assert {path.name.rpartition("-")[0] for path in runs} >= {"vspo_webshop_seed0", "grpo_tool_planning_seed2"}
    (seen,) = stub.begun(next(path for path in runs if path.name.startswith("vspo_webshop_seed1")))
    assert seen["argv"][:5] == ["train", "method=vspo", "env=webshop", "seed=1", "steps=2"]
    assert (seen["WANDB_RUN_GROUP"], seen["WANDB_TAGS"], seen["OMP_NUM_THREADS"]) == ("vspo webshop", folder.name, "1")
    assert "0 of them done already" in out
    assert f"agentrl report {folder}\n" in out

    code, out, _ = swept(capsys, *GRID, "workers=1")  # how many run at a time is no part of what they are
    assert (code, "12 runs, 12 of them done already" in out) == (0, True)
    assert all(len(stub.begun(run)) == 1 for run in runs)
    rows = json.loads((folder / "sweep.json").read_text())["rows"]
    assert list(rows) == ["grpo webshop", "grpo tool_planning", "vspo webshop", "vspo tool_planning"]
    # tasks t0..t3 succeed in turn, shifted by the seed: each seed's mean is 1/2, so the seeds do not differ, and the
    # tasks' means over seeds are 1/3, 2/3, 1/3, 2/3 with standard deviation sqrt(1/27)
    assert rows["vspo webshop"]["sampled"]["mean"] == pytest.approx(0.5)
    assert rows["vspo webshop"]["sampled"]["half"] == pytest.approx(1.959964 * (1 / 27) ** 0.5 / 4**0.5, rel=1e-5)
    assert (rows["vspo webshop"]["runs"], rows["vspo webshop"]["done"], rows["vspo webshop"]["cpu_s"]) == (3, 3, 2.0)
    assert "0.500 ± 0.189" in out


def test_ctrl_c_saves_and_the_same_command_makes_only_what_is_missing(tmp_path: Path) -> None:
    gate, folder = tmp_path / "gate", tmp_path / "runs"
    words = ("method=grpo,vspo", "seed=0,1", "workers=2", f"run_dir={folder}")
    process = begin(*words, STUB_GATE=str(gate))
    wait_for(lambda: len(list(folder.glob("*/ready"))) == 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the runs in progress save and end" in out
    assert "the same command goes on" in err
    stopped = {path.parent.name for path in folder.glob("*/ready")}
    assert len(stopped) == 2
    assert not list(folder.glob("*/summary.json"))

    gate.touch()
    again = begin(*words, STUB_GATE=str(gate))
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    for run in (path.parent for path in folder.glob("*/summary.json")):
        calls = stub.begun(run)
        resumed = [call["argv"] for call in calls if call["argv"][1].startswith("resume=")]
        assert (len(calls), len(resumed)) == ((2, 1) if run.name in stopped else (1, 0))
    assert len(list(folder.glob("*/summary.json"))) == 4


def test_a_killed_sweep_leaves_runs_that_the_next_one_waits_for(tmp_path: Path) -> None:
    """No two processes ever work in one folder."""
    gate, folder = tmp_path / "gate", tmp_path / "runs"
    words = ("method=grpo", "seed=0,1", "workers=2", f"run_dir={folder}")
    first = begin(*words, STUB_GATE=str(gate))
    wait_for(lambda: len(list(folder.glob("*/ready"))) == 2)
    first.kill()
    first.communicate()
    second = begin(*words, STUB_GATE=str(gate))
    assert second.stdout is not None
    lines = [second.stdout.readline() for _ in range(4)]
    assert sum("another process has this run in hand" in line for line in lines) == 2, lines
    gate.touch()
    assert second.wait(60) == 0
    assert [len(stub.begun(path.parent)) for path in folder.glob("*/summary.json")] == [1, 1]
    second.communicate()


def test_failures_are_told_together_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUB_FAILS", "tool_planning")
    words = ("env=webshop,tool_planning", "seed=0,1", f"run_dir={tmp_path / 'runs'}")
    code, out, _ = swept(capsys, *words)
    assert code == 1
    told_lines = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert len(told_lines) == 2
    assert "tool_planning seed0: exit code 1: agentrl: env: this world is broken; mend it" in told_lines[0]
    assert "2 of 4 runs failed; the same command tries them again" in out
    assert "2/2" in out
    assert "0/2" in out
    monkeypatch.delenv("STUB_FAILS")
    code, out, _ = swept(capsys, *words)
    assert (code, "4 runs, 2 of them done already" in out) == (0, True)


def test_a_search_compares_trials_by_the_mean_over_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "method: grid\nmetric: {name: after/sampled_success, goal: maximize}\nname: mine\n"
        "parameters: {learner.lr: {values: [0.1, 0.3, 0.9]}, steps: {value: 2}}\n"
    )
    code, out, err = swept(capsys, f"sweep_file={space}", "seed=0,1")
    assert code == 0, err
    assert "best after/sampled_success: 1 with learner.lr=0.3 steps=2" in out
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    kept = json.loads((folder / "sweep.json").read_text())
    assert [round(value, 6) for value in kept["values"]] == [0.8, 1.0, 0.4]
    assert len(kept["runs"]) == 6


def test_a_search_by_optuna_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    text = "method: bayes\nrun_cap: {cap}\nparameters: {{learner.lr: {{min: 0.0, max: 1.0, distribution: uniform}}}}\n"
    space = tmp_path / "space.yaml"
    folder = f"run_dir={tmp_path / 'runs'}"
    space.write_text(text.format(cap=3))
    assert swept(capsys, f"sweep_file={space}", folder, "workers=1")[0] == 0
    first = json.loads((tmp_path / "runs" / "sweep.json").read_text())["trials"]
    space.write_text(text.format(cap=5))
    assert swept(capsys, f"sweep_file={space}", folder, "workers=1")[0] == 0
    kept = json.loads((tmp_path / "runs" / "sweep.json").read_text())
    assert kept["trials"][:3] == first
    assert len({trial["learner.lr"] for trial in kept["trials"]}) == 5
    assert kept["best"]["value"] == max(kept["values"])
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == 5


def test_gpus_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    words = ("seed=0,1,2,3,4,5", "gpus=2", f"run_dir={tmp_path / 'runs'}")
    code, out, err = swept(capsys, *words)
    assert (code, "; 2 at a time" in out) == (0, True), err
    seen = [stub.begun(path.parent)[0]["CUDA_VISIBLE_DEVICES"] for path in (tmp_path / "runs").glob("*/summary.json")]
    assert set(seen) <= {"4", "5"}
    code, _, err = swept(capsys, *words[:1], "gpus=4", words[2])
    assert (code, "shows only 3; take gpus=3" in err) == (2, True), err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["method=grpo,vspoo", "worker=2", "launcher=locl", "seed=x"],
            ["did you mean 'vspo'?", "worker: unknown", "did you mean 'local'?", "could not be converted to Integer"],
        ),
        (["learner.lr=interval(0.1,0.2)"], ["a range has no end of values", "sweep=NAME"]),
        (["resume=somewhere"], ["resume: of a single run"]),
        (["hydra/launcher=joblib", "seed=0,1"], ["choose launcher="]),
        (["gpus=1", "launcher.gpus_per_run=2"], ["expected at most gpus=1"]),
        (["sweep_file=nowhere.yaml"], ["there is no such file"]),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    words: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = swept(capsys, *words)
    assert code == 2
    assert all(text in err for text in expected), err
    assert not (tmp_path / "outputs").exists()


def test_dry_run_prints_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = swept(capsys, "seed=0,1", "reward=binary", "dry_run=true")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 2)
    assert lines[0].startswith("agentrl train seed=0 reward=binary run_dir=")
    assert not (tmp_path / "outputs").exists()


def test_combinations_vary_the_last_word_fastest() -> None:
    found = combinations(["method=a,b", "steps=3", "learner.lr=1e-3,2e-3"])
    assert [cell.words for cell in found] == [
        ("method=a", "steps=3", "learner.lr=0.001"),
        ("method=a", "steps=3", "learner.lr=0.002"),
        ("method=b", "steps=3", "learner.lr=0.001"),
        ("method=b", "steps=3", "learner.lr=0.002"),
    ]
    assert found[1].varied == (("method", "a"), ("learner.lr", "0.002"))


def test_runs_that_are_not_done_are_not_measured(tmp_path: Path) -> None:
    rows = sweep_table.measured([("a", tmp_path / "x", False), ("a", tmp_path / "y", False)])
    assert (rows["a"]["runs"], rows["a"]["done"], rows["a"]["episodes"]) == (2, 0, None)
    assert sweep_table.as_json(rows)["a"]["sampled"] == {"mean": None, "half": None}


MAKER = """
import sys, time
from pathlib import Path
from agentrl.alone import turn

path = Path(sys.argv[1])
with turn(path, "it"):
    if not path.exists():
        time.sleep(0.5)
        print("made")
        path.touch()
"""


def test_two_that_want_the_same_warm_start_take_turns(tmp_path: Path) -> None:
    """The one makes it, the other waits and finds it; no lock is left."""
    command = [sys.executable, "-c", MAKER, str(tmp_path / "made" / "warm")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    said = "".join(each.communicate(timeout=60)[0] for each in both)
    assert said.count("made\n") == 1
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["warm"]
