"""The command line as a person meets it: help, mistakes, sweeps, tools, tab completion."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentrl import cli
from agentrl.cli import main
from agentrl.commands import COMMANDS
from agentrl.errors import ConfigError, Interrupted
from agentrl.overrides import review

ROOT = Path(__file__).resolve().parents[1]

FAKE_ENV = """
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fake:
    agree: int

    def replay(self, golden):
        assert Path(golden).is_file()
        return {"cases": 3, "agree": self.agree, "first_difference": None}

    def bench(self, seconds):
        return {"steps_per_s": 10.0, "seconds": seconds}


@dataclass(frozen=True)
class Bare:
    pass
"""


def agentrl(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "agentrl", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, check=False)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line, in this process."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of YAML with two environments that need nothing."""
    (tmp_path / "fake_env.py").write_text(FAKE_ENV)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "fake.yaml").write_text("_target_: fake_env.Fake\nagree: 3\n")
    (tmp_path / "env" / "bare.yaml").write_text("_target_: fake_env.Bare\n")
    (tmp_path / "golden.jsonl").write_text("{}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fake_env", raising=False)
    return tmp_path


def test_three_mistakes_are_told_at_once() -> None:
    begin = time.perf_counter()
    done = agentrl("train", "method=vspoo", "method.clip_lov=0.1", "steps=many")
    seconds = time.perf_counter() - begin
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines() == [
        "agentrl: config: 3 problems:",
        "  method=vspoo: no such method; did you mean 'vspo'?",
        "  method.clip_lov: unknown; did you mean 'clip_low'?",
        "  steps: Value 'many' of type 'str' could not be converted to Integer",
    ]
    assert done.stdout == ""
    assert seconds < 10, "the answer took too long even for a busy machine"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["env", "--help"], ["train", "--cfg", "job"]])
def test_help_does_not_import_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom agentrl.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'transformers', 'wandb', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_lists_commands_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "--help")
    assert code == 0
    assert all(name in out and command.about in out for name, command in COMMANDS.items())
    code, out, _ = told(capsys, "train", "--help")
    assert code == 0
    methods = sorted(path.stem for path in (ROOT / "conf/method").glob("*.yaml"))
    assert {"dapo", "dpo", "grpo", "ppo", "sft", "vspo"} <= set(methods)
    assert all(name in out.partition("method: ")[2] for name in methods)
    assert "tasks_per_step: 16" in out


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("methd=grpo", "methd: unknown; did you mean 'method'?"),
        ("env=webshp", "env=webshp: no such env; did you mean 'webshop'?"),
        ("engine=vlm", "engine=vlm: no such engine; did you mean 'vllm'?"),
        ("env.veiw=text", "env.veiw: unknown; did you mean 'view'?"),
        ("seed.deep=1", "seed.deep: unknown; seed is a single value"),
        ("seed=-1", "seed: got -1, expected at least 0"),
        ("checkpoint.every=1.5", "checkpoint.every: Value '1.5' of type 'float' could not be converted to Integer"),
        ("device=tpu", "device: Invalid value 'tpu', expected one of [auto, cpu, cuda]"),
        ("+method.extra=1", "method.extra: unknown; known: "),
        ("steps=[1", "steps=[1: not an override; write key=value"),
        ("steps", "steps: not an override; write key=value"),
        ("method=grpo,vspo", "method=grpo,vspo: several choices are a sweep; add -m, or choose one"),
        ("seed=1,2", "seed=1,2: several values are a sweep; add -m, or quote the value"),
        ("+nothing=1", "+nothing=1: nothing reads nothing; "),
        ("model/size=big", "model/size: unknown group; did you mean 'model'?"),
    ],
)
def test_each_mistake_in_a_sentence(override: str, line: str) -> None:
    found = review("train", [override])
    assert len(found) == 1
    assert found[0].startswith(line)


def test_a_good_command_line_has_no_problem() -> None:
    assert review("train", ["method=grpo", "seed=3", "method.clip_high=0.3", "log=files", "hydra.run.dir=x"]) == []


def test_every_choice_of_a_sweep_is_reviewed() -> None:
    words = ["method=grpo,vspo,dappo", "seed=0,x,-2", "reward=glob(*)"]
    assert review("train", words, multirun=True) == [
        "method=dappo: no such method; did you mean 'dapo'?",
        "seed: Value 'x' of type 'str' could not be converted to Integer",
        "seed: got -2, expected at least 0",
    ]


def test_a_command_without_a_group_says_so() -> None:
    assert review("env_tool", ["method=grpo"]) == [
        "method=grpo: this command has no group method; its groups: env, judge"
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [(["trian"], "trian: no such command; did you mean 'train'?"), (["env", "replai"], "env replai: no such command")],
)
def test_unknown_commands(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, *words)
    assert code == 2
    assert err.startswith(f"agentrl: {line}")


@pytest.mark.parametrize(("agree", "expected"), [(3, 0), (2, 1)])
def test_replay_ends_in_one_json_line(
    agree: int, expected: int, fake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["env", "replay", "env=fake", f"env.agree={agree}", f"golden={fake / 'golden.jsonl'}"]
    code, out, err = told(capsys, *words, "--config-dir", str(fake))
    assert (code, err) == (expected, "")
    assert json.loads(out.splitlines()[-1]) == {"cases": 3, "agree": agree, "first_difference": None}


def test_bench_ends_in_one_json_line(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "env", "bench", "env=fake", "seconds=0.5", "--config-dir", str(fake))
    assert code == 0
    assert json.loads(out) == {"steps_per_s": 10.0, "seconds": 0.5}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["env", "replay", "env=fake"], "golden: missing; give golden=FILE"),
        (["env", "replay", "env=fake", "golden=nowhere"], "golden=nowhere: there is no such file"),
        (["env", "bench", "env=bare"], "env: Bare has no bench()"),
    ],
)
def test_tools_explain_what_is_missing(
    words: list[str], line: str, fake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = told(capsys, *words, "--config-dir", str(fake))
    assert code == 2
    assert err.startswith(f"agentrl: {line}")


def test_a_sweep_runs_every_job_and_keeps_the_worst_code(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["env", "replay", "-m", "env=fake", "env.agree=2,3", f"golden={fake / 'golden.jsonl'}"]
    code, out, _ = told(capsys, *words, f"hydra.sweep.dir={fake / 'sweep'}", "--config-dir", str(fake))
    assert code == 1
    assert out.count('"agree": ') == 2


def test_a_job_is_given_a_checked_and_resolved_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(cli, "_function", lambda _: seen.append)
    assert told(capsys, "train", f"run_dir={tmp_path / 'run'}", "method=grpo")[0] == 0
    assert seen[0].run_dir == str(tmp_path / "run")
    assert seen[0].choices.method == "grpo"
    assert "hydra" not in seen[0]


def test_a_run_keeps_the_command_line_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(cli, "_function", lambda _: lambda _cfg: seen.append(list(sys.argv)))
    before = list(sys.argv)
    words = ["train", f"run_dir={tmp_path / 'run'}", "seed=1"]
    assert told(capsys, *words)[0] == 0
    assert (seen, sys.argv) == ([["agentrl", *words]], before)


def test_flags_may_stand_among_the_overrides(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["env", "replay", "env=fake", "--config-dir", str(fake), "env.agree=3", f"golden={fake / 'golden.jsonl'}"]
    assert told(capsys, *words)[0] == 0
    code, _, err = told(capsys, "train", "seed=1", "--nothing")
    assert code == 2
    assert err == (
        "agentrl: --nothing: no such flag; settings are written key=value, flags are those of "
        "agentrl train --hydra-help\n"
    )


def test_python_files_beside_the_yaml_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "beside_yaml.py").write_text(FAKE_ENV)
    (tmp_path / "env" / "beside.yaml").write_text("_target_: beside_yaml.Fake\nagree: 3\n")
    command = ["env", "bench", "env=beside", "--config-dir", str(tmp_path)]
    assert agentrl(*command).returncode == 0
    (tmp_path / "beside_yaml.py").unlink()
    code, _, err = told(capsys, *command)
    assert code == 2
    assert "No module named 'beside_yaml'; install its package, or give its folder as --config-dir" in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("_target_: nowhere.World\nitems: [2\n", "no YAML: while parsing a flow sequence in"),
        ("items: 2\n", "env: names no class; begin its YAML with _target_: module.Class"),
    ],
)
def test_a_broken_yaml_of_ones_own_is_a_sentence(
    content: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text(content)
    code, _, err = told(capsys, "env", "check", "env=mine", "--config-dir", str(tmp_path))
    assert code == 2
    assert err.startswith(f"agentrl: {says}")
    assert "_target_" in err or f'"{tmp_path / "env" / "mine.yaml"}", line 3' in err


@pytest.mark.parametrize(("place", "folder"), [("mine/env/mine.yaml", "mine"), ("env/mine.yaml", ".")])
def test_a_forgotten_config_dir_is_named(
    place: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("_target_: mine.Mine\n")
    (line,) = review("train", ["env=mine"])
    assert line == f"env=mine: no such env; {place} is here: add --config-dir {folder}"


def test_a_folder_that_holds_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_function", lambda _: lambda _cfg: pytest.fail("ran"))
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    code, _, err = told(capsys, "train", f"run_dir={tmp_path}")
    assert code == 2
    assert err.startswith(f"agentrl: run_dir={tmp_path}: holds a run already; continue it with resume={tmp_path}")
    assert (tmp_path / "config.yaml").read_text() == "seed: 0\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("device: none here"), 2, "agentrl: device: none here\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/metrics.jsonl"),
            2,
            "agentrl: a/metrics.jsonl: No space left",
        ),
        (KeyboardInterrupt(), 130, "agentrl: interrupted\n"),
        (Interrupted("interrupted at step 2"), 130, "agentrl: interrupted at step 2\n"),
    ],
)
def test_a_run_that_never_began_leaves_a_sentence_and_no_folder(
    error: BaseException,
    code: int,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_cfg: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_function", lambda _: fail)
    got, _, err = told(capsys, "train", f"run_dir={tmp_path / 'run'}")
    assert got == code
    assert err.startswith(line)
    assert not (tmp_path / "run").exists()


def test_a_crash_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_function", lambda _: lambda _cfg: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", f"run_dir={tmp_path / 'run'}"])


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = told(capsys, "train", f"run_dir={tmp_path / 'file' / 'run'}")
    assert (code, out) == (2, "")
    assert err == f"agentrl: run_dir={tmp_path / 'file' / 'run'}: Not a directory; choose another folder\n"


def test_explaining_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_function", lambda _: lambda cfg: cfg)
    monkeypatch.chdir(tmp_path)
    assert told(capsys, "config", "explain", "seed=2")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_crash() -> None:
    command = f"{sys.executable} -m agentrl train --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.startswith("agentrl: RL for LLM agents")
    assert done.stderr == ""


def test_resuming_nothing_makes_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "train", f"resume={tmp_path / 'nothing'}")
    assert code == 2
    assert "nothing: there is no such folder" in err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("agentrl tr", "train"),
        ("agentrl env re", "replay"),
        ("agentrl env bench se", "seconds="),
        ("agentrl train log=w", "log=wandb"),
    ],
)
def test_tab_completion(line: str, expected: str) -> None:
    done = agentrl("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.stdout.split() == [expected]
