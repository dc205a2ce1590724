"""Throw hostile actions at an environment and see that nothing breaks, hangs, leaks or is written.

    python scripts/fuzz_env.py env=webshop actions=100000 seed=0
    python scripts/fuzz_env.py env=intercode_sql env.data=FOLDER actions=20000 slow=0.001

Several episodes are open at once. Told at the end, as one JSON line (exit code 1 unless ``ok``):

* crashes: exceptions of any call, with the action;    * slow: actions that took longer than ``limit_s`` seconds;
* forks: a restored snapshot answered otherwise;       * bad steps: rewards or infos that are no numbers or no JSON;
* leaks: reference episodes played before and after the storm that differ, or a secret file's text in an observation;
* left behind: files in the working, home or temporary folder (all three are new folders), processes, open files;
* growth_mib: resident memory at the end above that after the first tenth, at most ``growth_mib``.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile import Hostile

from agentrl.config import build, compose
from agentrl.envs.base import Env, Episode, Step, offered
from agentrl.envs.check import said
from agentrl.types import Task

OPEN = 4  # episodes at once
FORKED = 0.05  # share of actions before which a snapshot is taken and restored
AFTER_END = 2  # actions played after the end of an episode
KEPT = 20  # examples of each kind in the report
SECRET = "the-secret-of-the-fuzz-harness"


@dataclass(frozen=True)
class Settings:
    """What the command line gives beside Hydra overrides."""

    actions: int = 100_000
    seed: int = 0
    limit_s: float = 10.0  # for one action
    growth_mib: float = 400.0
    slow: float = 0.0005  # share of actions meant to take for ever


@dataclass
class Report:
    """What was found; empty lists are good news."""

    actions: int = 0
    episodes: int = 0
    parsed: int = 0
    crashes: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    forks: list[str] = field(default_factory=list)
    bad_steps: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    worst_s: float = 0.0
    seconds: float = 0.0
    growth_mib: float = 0.0
    most_growth_mib: float = 0.0

    @property
    def ok(self) -> bool:
        found = (self.crashes, self.slow, self.forks, self.bad_steps, self.leaks, self.left_behind)
        return not any(found) and self.growth_mib <= self.most_growth_mib

    def to_json(self) -> str:
        return json.dumps({"ok": self.ok, **self.__dict__}, ensure_ascii=True)


class Hang(Exception):
    """Raised by the alarm inside an action that takes far too long."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise Hang in this thread after ``seconds``."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(env: Env, settings: Settings, secret: str, canary: str) -> Report:
    """The storm on one environment. ``secret`` must not be read, ``canary`` not be written (paths)."""
    report = Report(most_growth_mib=settings.growth_mib)
    rng = random.Random(f"fuzz/{settings.seed}")
    hostile = Hostile(rng, secret, canary, settings.slow)
    tasks = [task for split in ("train", "val", "test") for task in env.tasks(split)]  # type: ignore[arg-type]
    references = rng.sample(tasks, min(3, len(tasks)))
    before = [_reference(env, task) for task in references]
    storm = _Storm(env, tasks, rng, hostile, report, settings.limit_s)
    warm = max(settings.actions // 10, 1)
    rss = 0.0
    begin = time.monotonic()
    for number in range(settings.actions):
        storm.act(number % OPEN)
        if number == warm:
            rss = _rss_mib()
    report.seconds = round(time.monotonic() - begin, 1)
    gc.collect()
    report.growth_mib = round(_rss_mib() - rss, 1)
    for task, expected in zip(references, before, strict=True):
        if _reference(env, task) != expected:
            _note(report.leaks, f"task {task.id}: plays otherwise after the storm than before it")
    if Path(canary).exists():
        report.left_behind.append(f"{canary} was written")
    return report


class _Storm:
    """Some open episodes, and hostile actions on each in turn."""

    def __init__(
        self,
        env: Env,
        tasks: Sequence[Task],
        rng: random.Random,
        hostile: Hostile,
        report: Report,
        limit_s: float,
    ) -> None:
        self.env, self.tasks, self.rng, self.hostile, self.report, self.limit_s = (
            env,
            tasks,
            rng,
            hostile,
            report,
            limit_s,
        )
        self.most = int(getattr(env, "max_turns", 10)) + AFTER_END
        self.episodes: list[Episode | None] = [None] * OPEN
        self.left = [0] * OPEN  # actions until the episode is closed

    def act(self, place: int) -> None:
        """One action on one of the open episodes; a new one where it is over."""
        action = ""
        begin = time.perf_counter()
        try:
            with alarm(3 * self.limit_s):
                episode = self.episodes[place] or self._open(place)
                action = self.hostile.draw(list(episode.actions()), offered(episode))
                begin = time.perf_counter()
                self._step(place, episode, action)
        except Hang:
            _note(self.report.slow, f"stopped after {3 * self.limit_s:g} s: {_shown(action)}")
            self.episodes[place] = None
        except Exception as error:  # what we are looking for
            _note(self.report.crashes, f"{type(error).__name__}: {str(error)[:200]}: {_shown(action)}")
            self.episodes[place] = None
        spent = time.perf_counter() - begin
        self.report.worst_s = round(max(self.report.worst_s, spent), 3)
        if spent > self.limit_s:
            _note(self.report.slow, f"{spent:.1f} s: {_shown(action)}")
        self.report.actions += 1

    def _open(self, place: int) -> Episode:
        episode = self.env.start(self.rng.choice(self.tasks))
        self.episodes[place] = episode
        self.left[place] = self.rng.randint(1, self.most)
        self.report.episodes += 1
        return episode

    def _step(self, place: int, episode: Episode, action: str) -> None:
        message = said(action)
        fork = None
        if self.rng.random() < FORKED:
            fork = self.env.restore(pickle.loads(pickle.dumps(episode.snapshot())))
        step = episode.step(message)
        self._inspect(step, action)
        if fork is not None:
            if fork.step(message) != step:
                _note(self.report.forks, _shown(action))
            fork.close()
        self.report.parsed += step.parsed
        self.left[place] = min(self.left[place] - 1, AFTER_END) if step.done else self.left[place] - 1
        if self.left[place] <= 0:
            episode.close()
            self.episodes[place] = None

    def _inspect(self, step: Step, action: str) -> None:
        shown = "".join(message.content for message in step.observation)
        if SECRET in shown and SECRET not in action:
            _note(self.report.leaks, f"the secret file was read: {_shown(action)}")
        try:
            json.dumps([dict(step.info), step.reward], allow_nan=False)
        except (TypeError, ValueError) as error:
            _note(self.report.bad_steps, f"{error}: {_shown(action)}")


def _reference(env: Env, task: Task) -> list[Any]:
    """What an episode of valid actions answers, from first to last."""
    rng = random.Random(f"reference/{task.id}")
    episode = env.start(task)
    seen: list[Any] = [episode.goal, episode.observation]
    for _ in range(int(getattr(env, "max_turns", 10))):
        actions = list(episode.actions())
        step = episode.step(said(rng.choice(actions) if actions else ""))
        seen += [actions, step]
        if step.done:
            break
    episode.close()
    return seen


def _note(found: list[str], text: str) -> None:
    if len(found) < KEPT and text not in found:
        found.append(text)


def _shown(action: str) -> str:
    return ascii(action[:160]) + (f" ... {len(action)} characters" if len(action) > 160 else "")


def _rss_mib() -> float:
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _children() -> list[str]:
    """Ids of processes that this one started and that are still there."""
    return [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def _files(folders: Sequence[Path]) -> set[str]:
    return {str(path) for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts}


def main(words: Sequence[str]) -> int:
    """One storm by command line. Gives the exit code."""
    fields = {name: type(getattr(Settings(), name)) for name in Settings.__dataclass_fields__}
    given = dict(word.split("=", 1) for word in words if word.split("=", 1)[0] in fields)
    settings = Settings(**{name: fields[name](value) for name, value in given.items()})
    overrides = [word for word in words if word.split("=", 1)[0] not in fields]
    cfg = compose("env_tool", overrides)
    before = set(_children())
    with tempfile.TemporaryDirectory(prefix="fuzz_") as root:
        folders = [Path(root) / name for name in ("work", "home", "tmp")]
        for folder in folders:
            folder.mkdir()
        secret, canary = Path(root) / "secret.txt", Path(root) / "canary.txt"
        secret.write_text(SECRET)
        paths = {
            name: value for name, value in cfg.env.items() if isinstance(value, str) and value and Path(value).exists()
        }
        for name, value in paths.items():  # relative to where the command was typed
            cfg.env[name] = str(Path(value).resolve())
        os.chdir(folders[0])
        os.environ.update(HOME=str(folders[1]), TMPDIR=str(folders[2]))
        tempfile.tempdir = None
        env: Env = build(cfg.env)
        report = fuzz(env, settings, str(secret), str(canary))
        env.close()
        report.left_behind += sorted(_files(folders))[:KEPT]
        time.sleep(0.1)
        report.left_behind += [f"process {pid}" for pid in _children() if pid not in before][:KEPT]
        os.chdir("/")
        print(report.to_json(), flush=True)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
