"""No silent hang: what stands still ends with a sentence, a file, an exit code, and no process left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentrl import watchdog
from agentrl.checkpoint import latest
from agentrl.keeper import descendants
from agentrl.watchdog import EXIT_CODE, Watchdog
from tests.toy import save_toy_model
from tests.toy_run import toy_overrides

ROOT = Path(__file__).resolve().parents[1]
LIGHT = """
import os, re, subprocess, sys, threading, time
from pathlib import Path
from agentrl.watchdog import Watchdog, beat, patience, queue, scratch, show_stacks
with Watchdog({quiet}).over(Path("run")):
{body}
print("came to its end")
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    seconds: float
    told: str  # hang.txt; empty without one


def hang_file(folder: Path) -> str:
    path = folder / "run" / "hang.txt"
    return path.read_text() if path.exists() else ""


def begin(folder: Path, body: str, quiet: float = 1.0) -> subprocess.Popen[str]:
    """A small process under a watchdog; the module needs nothing but Python."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    words = [sys.executable, "-c", LIGHT.format(quiet=quiet, body=lines)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], folder: Path) -> Ended:
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err, time.monotonic() - start, hang_file(folder))


def test_silence_ends_with_a_sentence_and_the_stacks(tmp_path: Path) -> None:
    body = """
scratch(Path("weights")); os.mkdir("weights")
beat("learner", "a micro-batch of batch", "6")
beat("environment", "a step of task", "shop/7")
def sleeping_step(): time.sleep(1000)
with queue("parts", lambda: "3 of 5 wait"):
    sleeping_step()
"""
    end = ended(begin(tmp_path, body), tmp_path)
    assert end.code == EXIT_CODE == 3
    first = next(line for line in end.err.splitlines() if line)
    assert re.match(
        r"agentrl: environment: nothing has happened for 1\.?\d* s since this began: a step of task shop/7;", first
    )
    assert "watchdog.quiet_s (now 1)" in first
    assert first.endswith(str(tmp_path / "run" / "hang.txt"))
    assert end.told.startswith(first)
    assert "in sleeping_step" in end.told
    assert "parts: 3 of 5 wait" in end.told
    assert "learner: a micro-batch of batch 6" in end.told or "s ago  environment" in end.told
    assert not (tmp_path / "weights").exists()
    assert "came to its end" not in end.out


@pytest.mark.skipif(sys.platform != "linux", reason="the keeper reads /proc")
def test_code_that_holds_the_interpreter(tmp_path: Path) -> None:
    body = """
beat("environment", "a step of task", "shop/8")
time.sleep(0.3)
def astray(): re.match(r"(a+)+$", "a" * 64 + "b")
astray()
"""
    end = ended(begin(tmp_path, body), tmp_path)
    assert end.code == -signal.SIGKILL
    assert "agentrl: environment: the interpreter is held by match (" in end.err
    assert "called by astray" in end.err
    assert "in astray" in end.told


@pytest.mark.parametrize(
    ("body", "quiet"),
    [
        ("for _ in range(6): beat('engine', 'a step'); time.sleep(0.4)", 1.0),
        ("with patience('setup', 'loading', 30.0): time.sleep(2.5)", 1.0),
        ("time.sleep(1.5)", 0.0),
    ],
    ids=["signs of life", "patience", "no watchdog"],
)
def test_what_goes_on_is_left_alone(body: str, quiet: float, tmp_path: Path) -> None:
    end = ended(begin(tmp_path, body, quiet), tmp_path)
    assert (end.code, end.out, end.err, end.told) == (0, "came to its end\n", "", "")


def test_a_patience_ends(tmp_path: Path) -> None:
    body = """
with patience("setup", "loading", 2.0):
    time.sleep(1.5)
time.sleep(1000)
"""
    end = ended(begin(tmp_path, body), tmp_path)
    assert end.code == 3
    assert "setup: nothing has happened for 1" in end.err
    assert "after loading" in end.err


def test_what_fails_again_and_again_makes_no_progress(tmp_path: Path) -> None:
    body = """
with patience("judge", "asking", 0.5):
    while True:
        try:
            with queue("tries", lambda: 1):
                time.sleep(0.3); raise OSError
        except OSError:
            pass
"""
    assert ended(begin(tmp_path, body), tmp_path).code == 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_child_processes_tell_their_stacks_and_are_killed(tmp_path: Path) -> None:
    child = "import time; from agentrl.watchdog import show_stacks; show_stacks(); " + (
        "exec('def in_the_child(): print(1, flush=True); time.sleep(1000)'); in_the_child()"
    )
    body = f"""
one = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
one.stdout.read(1)
two = subprocess.Popen(["sleep", "1000"])
print(one.pid, two.pid, flush=True)
beat("engine", "waiting")
time.sleep(1000)
"""
    end = ended(begin(tmp_path, body), tmp_path)
    assert end.code == 3
    assert "in in_the_child" in end.told
    assert "sleep 1000" in end.told
    assert not left({int(pid) for pid in end.out.split()})


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_time_in_which_the_process_is_stopped_does_not_count(tmp_path: Path) -> None:
    process = begin(tmp_path, "print('on', flush=True)\ntime.sleep(1.0)", quiet=2.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(6.0)  # beyond quiet_s and the keeper's margin
    process.send_signal(signal.SIGCONT)
    end = ended(process, tmp_path)
    assert (end.code, end.told) == (0, "")


def test_ctrl_c_is_left_to_the_run(tmp_path: Path) -> None:
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests\n"
    process = begin(tmp_path, heard + "print('on', flush=True)\ntime.sleep(1000)", quiet=30.0)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGINT)
    end = ended(process, tmp_path)
    assert "KeyboardInterrupt" in end.err
    assert end.told == ""
    assert end.seconds < 20


def test_a_judge_that_accepts_and_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = f"""
from agentrl.judges import ChatClient
from agentrl.types import Message
url = "http://127.0.0.1:{server.getsockname()[1]}/v1"
client = ChatClient(url, "judge-7b", timeout_s=0.4, retries=50, backoff_s=0.01)
client.complete((Message("user", "is it right?"),))
"""
        end = ended(begin(tmp_path, body, quiet=1.5), tmp_path)
    assert end.code == 3
    assert "agentrl: judge: nothing has happened for" in end.err
    assert "asking judge-7b at http://127.0.0.1" in end.err
    assert "in _post" in end.told or "in _persist" in end.told


def test_a_watch_inside_a_watch(tmp_path: Path) -> None:
    """A warm start is a run inside a run; the outer watch goes on when the inner one ends."""
    with Watchdog(30.0).over(tmp_path):
        outer = watchdog._watch
        with Watchdog(30.0).over(tmp_path / "inside"):
            assert watchdog._watch is not outer
        assert watchdog._watch is outer
    assert watchdog._watch is None


def test_settings() -> None:
    with pytest.raises(ValueError, match=r"watchdog.quiet_s: got -1, expected seconds, or 0"):
        Watchdog(-1.0)


HANGING = '''
"""Parts that never come back, once a batch has been learned from."""
import time
from dataclasses import dataclass
from typing import Any

import torch

from agentrl.engine.torch_engine import TorchEngine
from agentrl.methods.grpo import GRPO
from tests.toy import Colours, ColoursEpisode


def for_ever() -> None:
    time.sleep(10_000)


@dataclass(frozen=True)
class Env(Colours):
    def start(self, task):
        return Episode(task, False)


class Episode(ColoursEpisode):
    def step(self, action):
        if self.task.split == "val":  # the evaluation after the first batch
            for_ever()
        return super().step(action)


@dataclass(frozen=True)
class Engine:
    def start(self, source: Any, device: str):
        return Hanging(source.module(device, torch.float32), 64)


class Hanging(TorchEngine):
    def generate(self, requests, sampling):
        if self.version:
            for_ever()
        return super().generate(requests, sampling)


@dataclass(frozen=True)
class Method(GRPO):
    def objective(self, batch, out):
        for_ever()
'''
CASES = {  # what hangs -> its words, and what the sentence says
    "env": (
        ["+env=hanging", "eval.every=1", "eval.val_tasks=2", "cluster=processes", "cluster.workers=1"],
        "environment: nothing has happened for .*: a step of task val-0; an environment has to come back",
    ),
    "engine": (["+env=colours", "engine=hanging"], "engine: nothing has happened for .*: sampling actions; plays:"),
    "method": (["+env=colours", "method=hanging"], "learner: nothing has happened for .*: a micro-batch of batch 1"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", CASES)
def test_a_real_run_that_hangs(what: str, model: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for name, text in {
        "hanging.py": HANGING,
        "env/hanging.yaml": "_target_: hanging.Env\nmax_turns: 2\nfails: false\n",
        "env/colours.yaml": "_target_: tests.toy.Colours\nmax_turns: 2\nfails: false\n",
        "engine/hanging.yaml": "_target_: hanging.Engine\n",
        "method/hanging.yaml": "defaults: [grpo, _self_]\n_target_: hanging.Method\n",
    }.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    words, told = CASES[what]
    run = tmp_path / "run"
    given = [word for word in toy_overrides(model, run) if word != "env=colours"]
    more = ["method=grpo", "steps=3", "checkpoint.every=1", "eval.tasks=2", "eval.samples=1", "watchdog.quiet_s=3"]
    more = [word for word in more if not (word == "method=grpo" and what == "method")]
    chosen = [word.lstrip("+") for word in words]
    command = [sys.executable, "-m", "agentrl", "train", "--config-dir", str(mine), *given, *more, *chosen]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    below: set[int] = set()
    while process.poll() is None:
        below |= {child.pid for child in descendants(process.pid)}
        time.sleep(0.2)
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.returncode == EXIT_CODE, err
    assert re.search(f"^agentrl: {told}", err, re.MULTILINE), err
    assert "in for_ever" in (run / "hang.txt").read_text()
    assert not left(below)
    assert not list(Path("/dev/shm").glob(f"agentrl-weights-{process.pid}-*"))
    if what == "env":
        assert "threads of child process" in (run / "hang.txt").read_text()
    if what == "engine":
        assert f"continue with: agentrl train resume={run}" in err
        assert latest(run, print).step == 1


def left(pids: set[int]) -> set[int]:
    """Those that are still there; what was killed may take a moment to die on a busy machine."""
    deadline = time.monotonic() + 20.0
    while (alive := {pid for pid in pids if running(pid)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
