"""A short storm on every environment, and proof that the harness sees what it looks for."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import build, compose
from agentrl.envs.base import Step
from agentrl.types import Message, Split, Task
from tests.toy import Colours, ColoursEpisode
from tests.worlds import WORLDS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import fuzz_env
from fuzz_env import Settings, fuzz

ACTIONS = 400


def storm(env: Any, folder: Path, actions: int = ACTIONS, **settings: Any) -> fuzz_env.Report:
    secret = folder / "secret.txt"
    secret.write_text(fuzz_env.SECRET)
    return fuzz(env, Settings(actions=actions, slow=0.0, **settings), str(secret), str(folder / "canary.txt"))


@pytest.mark.parametrize("view", ["text", "compact"])
@pytest.mark.parametrize("name", WORLDS)
def test_nothing_breaks(name: str, view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = build(compose("env_tool", [f"env={name}", f"model.view={view}"]).env)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    report = storm(env, tmp_path)
    env.close()
    assert report.ok, report.to_json()
    assert report.actions == ACTIONS
    assert 0 < report.parsed < ACTIONS
    assert list(work.iterdir()) == []


class Bad(ColoursEpisode):
    """Behaves, until an action holds a quote."""

    def step(self, action: Message) -> Step:
        step = super().step(action)
        return self.answer(step, action.content) if "'" in action.content else step

    def answer(self, step: Step, text: str) -> Step:
        raise NotImplementedError


class Crashing(Bad):
    def answer(self, step: Step, text: str) -> Step:
        raise ZeroDivisionError("a quote")


class Sleeping(Bad):
    def answer(self, step: Step, text: str) -> Step:
        time.sleep(0.1)
        return step


class Hanging(Bad):
    def answer(self, step: Step, text: str) -> Step:
        while True:
            time.sleep(0.01)


class Telling(Bad):
    def answer(self, step: Step, text: str) -> Step:
        path = next((word.strip("'\")];") for word in text.split("'") if word.endswith("secret.txt")), None)
        return Step((Message("user", Path(path).read_text()),)) if path else step


class Writing(Bad):
    def answer(self, step: Step, text: str) -> Step:
        for word in text.split("'"):
            if word.endswith("canary.txt"):
                Path(word).write_text("x")
        return step


class Infinite(Bad):
    def answer(self, step: Step, text: str) -> Step:
        return Step(step.observation, float("nan"), step.done)


class Hoarding(Bad):
    hoard: list[bytes] = []  # noqa: RUF012

    def answer(self, step: Step, text: str) -> Step:
        self.hoard.append(os.urandom(2**20))
        return step


class Remembering(Bad):
    """One episode's action changes what another one answers."""

    seen: list[str] = []  # noqa: RUF012

    def answer(self, step: Step, text: str) -> Step:
        self.seen.append(text)
        return step

    @property
    def observation(self) -> tuple[Message, ...]:
        return (Message("user", str(len(self.seen))),)


class Amnesiac(Bad):
    def snapshot(self) -> Any:
        return (self.task, self.fails, 0, 0)


@dataclass(frozen=True)
class Planted(Colours):
    episode: type[ColoursEpisode] = ColoursEpisode

    def start(self, task: Task) -> ColoursEpisode:
        return self.episode(task, False)

    def restore(self, state: Any) -> ColoursEpisode:
        return self.episode(*state)

    def tasks(self, split: Split) -> Any:
        return super().tasks(split)


@pytest.mark.parametrize(
    ("episode", "kind", "words"),
    [
        (Crashing, "crashes", "ZeroDivisionError: a quote"),
        (Sleeping, "slow", "0.1 s: "),
        (Hanging, "slow", "stopped after"),
        (Telling, "leaks", "the secret file was read"),
        (Writing, "left_behind", "canary.txt was written"),
        (Infinite, "bad_steps", "Out of range float values"),
        (Remembering, "leaks", "plays otherwise after the storm"),
        (Amnesiac, "forks", "'"),
    ],
)
def test_planted_faults_are_found(episode: type[ColoursEpisode], kind: str, words: str, tmp_path: Path) -> None:
    limit = {Sleeping: 0.05, Hanging: 0.02}.get(episode, 10.0)
    count = 60 if limit < 1 else 3 * ACTIONS
    report = storm(Planted(episode=episode), tmp_path, count, limit_s=limit)
    found = getattr(report, kind)
    assert not report.ok
    assert any(words in line for line in found), report.to_json()


def test_growth_is_found(tmp_path: Path) -> None:
    report = storm(Planted(episode=Hoarding), tmp_path, growth_mib=5.0)
    Hoarding.hoard.clear()
    assert not report.ok
    assert report.growth_mib > 5.0


def test_a_good_environment_passes(tmp_path: Path) -> None:
    report = storm(Planted(), tmp_path)
    assert report.ok, report.to_json()


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert fuzz_env.main(["env=long_qa", "env.size=500", "actions=50", "seed=3", "slow=0"]) == 0
    assert '"ok": true, "actions": 50' in capsys.readouterr().out
