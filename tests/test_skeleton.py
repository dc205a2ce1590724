"""What `agentrl new` writes works as it stands, and as a stranger's package: nothing of agentrl is edited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentrl.cli import main
from agentrl.skeleton import write

KINDS = {"env": "far_shop", "method": "far_method", "reward": "far_reward"}


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_their_own_tests_pass(tmp_path: Path) -> None:
    for kind, name in KINDS.items():
        write(kind, name, tmp_path / name)
    tests = [str(tmp_path / name / f"test_{name}.py") for name in KINDS.values()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_an_installed_package_trains_through_the_command_line(tmp_path: Path) -> None:
    """The three as one package with an entry point, found by its metadata as an installed one is."""
    package = tmp_path / "site" / "far"
    for kind, name in KINDS.items():
        write(kind, name, tmp_path / name)
        config = (
            (tmp_path / name / kind / f"{name}.yaml").read_text().replace(f"_target_: {name}", f"_target_: far.{name}")
        )
        place = package / "conf" / kind
        place.mkdir(parents=True)
        (place / f"{name}.yaml").write_text(config)
        (place / "__init__.py").write_text("")
        (package / f"{name}.py").write_text((tmp_path / name / f"{name}.py").read_text())
    for folder in (package, package / "conf"):
        (folder / "__init__.py").write_text("")
    info = tmp_path / "site" / "far-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agentrl.conf]\nfar = far.conf\n")
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).resolve().parents[1])])
    words = ["env=far_shop", "method=far_method", "reward=far_reward", "steps=2", "tasks_per_step=2", "log=files"]
    more = ["rollout.group_size=2", "eval.tasks=4", "run_dir=run", "env.items=2"]
    done = subprocess.run(
        [sys.executable, "-m", "agentrl", "train", *words, *more],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (result["status"], result["method"], result["env"]) == ("done", "far_method", "far_shop")
    first = json.loads((tmp_path / "run" / "trajectories.jsonl").read_text().splitlines()[0])
    assert first["reward_parts"]["turns"] == pytest.approx(-0.02 * len(first["turns"]))


def test_a_bare_word_is_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "new", "env", "far_shop", f"folder={tmp_path / 'mine'}")
    assert code == 0
    assert f"wrote {tmp_path / 'mine' / 'far_shop.py'}" in out
    assert "class FarShop:" in (tmp_path / "mine" / "far_shop.py").read_text()
    code, _, err = told(capsys, "new", "env", "far_shop", f"folder={tmp_path / 'mine'}")
    assert code == 2
    assert "exists and is not empty" in err


def test_a_second_time_the_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Python looks into the folder at hand (``python -m agentrl``), the folder is no module that has the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert told(capsys, "new", "env", "far_shop")[0] == 0
    assert "folder=far_shop: exists and is not empty" in told(capsys, "new", "env", "far_shop")[2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "a name is missing; say agentrl new env NAME"),
        (("My-World",), "expected a lower-case letter"),
        (("class",), "expected a lower-case letter"),
        (("webshop",), "new env webshop: there is one of this name already in agentrl; take another"),
        (("json",), "Python has a module of this name already"),
    ],
)
def test_names_that_cannot_be_one(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "new", "env", *words)
    assert code == 2
    assert says in err
