"""A sweep: ``agentrl train -m WORDS``, every combination of the words' values as one resumable set of runs::

    outputs/sweeps/method_env_seed-1a2b3c4d/      named by what varies, and the hash of all words
        sweep.json                                the command, the trials, what came out
        vspo_webshop_seed0-5e6f7a8b/              a run's folder, named by its values and the hash of its words
        vspo_webshop_seed0-5e6f7a8b.log           what its process said

Each run is a process with the command line that a person would type. The same command line finds the same folder:
finished runs are left alone, interrupted ones go on from their checkpoint, failed ones are tried again.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.config import Config
from agentrl.errors import ConfigError
from agentrl.hashes import short_hash, slug
from agentrl.launch.base import Failed, beginning, finished, run_missing, started
from agentrl.log.files import read_json, read_lines, write_json
from agentrl.overrides import Combination, combinations
from agentrl.search import Grid, Params, Search, Trial, words
from agentrl.sweep_table import as_json, measured, show

OWN = ("resume", "run_dir")  # words that a sweep sets for its runs


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what it is called, its arm (all that varies but the seed), its words, its folder."""

    name: str
    arm: str
    command: str
    words: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def done(self) -> bool:
        return finished(self.folder)

    @property
    def env(self) -> dict[str, str]:
        """Where Weights & Biases shows the run, unless the person said it: seeds of an arm in one group, the sweep as a
        tag."""
        said = {"WANDB_RUN_GROUP": self.arm, "WANDB_TAGS": self.folder.parent.name[:64]}
        return {name: value for name, value in said.items() if name not in os.environ}

    @property
    def line(self) -> list[str]:
        """The arguments of ``agentrl``."""
        return [self.command, *self.words, f"run_dir={self.folder}"]

    def next(self) -> list[str] | None:
        """Begin, or go on; nothing when the run is done."""
        return None if self.done else beginning(self.folder, self.line)


def run(cfg: Config) -> dict[str, Any]:
    """``agentrl train -m``. Raises ConfigError for words that do not compose, Interrupted after Ctrl-C."""
    space = space_of(cfg)
    where = config.config_dir()
    cells = combinations(list(cfg.extra), where)
    if given := {word.partition("=")[0].lstrip("+~") for word in cells[0].words} & set(OWN):
        raise ConfigError(f"{', '.join(sorted(given))}: of a single run; leave it out, the same -m command goes on")
    folder = folder_of(cfg, [key for key, _ in cells[0].varied])
    flags = ["--config-dir", str(where)] if where else []
    if cfg.dry_run:
        jobs = [job for params in space.next([], len(cells)) for job in jobs_of(cfg, folder, params, cells)]
        print("\n".join(shlex.join(["agentrl", *job.line, *flags]) for job in jobs))
        return {"failed": [], "code": 0}
    print(f"sweep folder: {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    trials, jobs, failed = _carried_out(cfg, space, cells, folder, flags)
    return _told(cfg, space, folder, trials, jobs, failed)


def _carried_out(
    cfg: Config, space: Grid | Search, cells: Sequence[Combination], folder: Path, flags: Sequence[str]
) -> tuple[list[Trial], list[Job], list[Failed]]:
    """All trials: those that an earlier call wrote down, then what the search asks for."""
    trials: list[Trial] = []
    jobs: list[Job] = []
    failed: list[Failed] = []
    with started(config.build(cfg.launcher), folder, flags, os.cpu_count() or 1) as runner:
        room = max(1, runner.at_once // len(cells))  # trials that fill the machine: each is a run for each combination
        batch = _noted(folder) or space.next([], room)
        while batch:
            _note(cfg, folder, [trial.params for trial in trials] + batch)
            made = [(params, jobs_of(cfg, folder, params, cells)) for params in batch]
            now = [job for _, of_trial in made for job in of_trial]
            jobs += now
            failed += run_missing(now, runner)
            trials += [Trial(params, _value(space, of_trial)) for params, of_trial in made]
            batch = space.next(trials, room)
    return trials, jobs, failed


def space_of(cfg: Config) -> Grid | Search:
    """The search that ``sweep=`` or ``sweep_file=`` names. Raises ConfigError."""
    node = cfg.sweep
    if cfg.sweep_file:
        node = config.node({"_target_": "agentrl.search.Search", **offline(read_space(Path(cfg.sweep_file)))})
    space: Grid | Search = config.build(node)
    return space


def read_space(path: Path) -> dict[str, Any]:
    """The content of a sweep's file. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(f"sweep_file={path}: there is no such file; give one, or sweep=NAME for one of conf/sweep")
    return config.plain(config.load(path))


def offline(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a search here reads of a file for W&B; its names and descriptions are left out. Raises ConfigError."""
    if "early_terminate" in content:
        raise ConfigError(
            "early_terminate: here every trial runs to its end; delete it, or let W&B decide: agentrl sweep"
        )
    return {key: value for key, value in content.items() if key not in NAMES}


NAMES = ("_target_", "name", "description", "project", "entity", "program", "command")


def folder_of(cfg: Config, varied: Sequence[str] = ()) -> Path:
    """The sweep's folder, named by the words that vary: the same words find the same one."""
    if cfg.run_dir:
        return Path(cfg.run_dir).absolute()
    chosen = "" if cfg.choices.sweep == "grid" else str(cfg.choices.sweep)
    file = Path(cfg.sweep_file).stem if cfg.sweep_file else ""
    last = [key.rpartition(".")[2] for key in varied]
    name = "_".join(slug(part) for part in (file or chosen, *last) if part) or str(cfg.command)
    about = [cfg.command, list(cfg.extra), config.plain(cfg.sweep), cfg.sweep_file and read_space(Path(cfg.sweep_file))]
    return Path("outputs/sweeps").absolute() / f"{name[:80]}-{short_hash(about)}"


def jobs_of(cfg: Config, folder: Path, params: Params, cells: Sequence[Combination]) -> list[Job]:
    """The runs of one trial: its values over each combination of the command line."""
    found = []
    for cell in cells:
        varied = [
            *((key, word.partition("=")[2]) for key, word in zip(params, words(params), strict=True)),
            *cell.varied,
        ]
        arm = [_told_value(key, value) for key, value in varied if key != "seed"]
        seeds = [_told_value(key, value) for key, value in varied if key == "seed"]
        mine = (*cell.words, *words(params))
        name = "_".join(slug(part) for part in (*arm, *seeds))[:100] or "run"
        place = folder / f"{name}-{short_hash([cfg.command, *mine])}"
        found.append(Job(" ".join((*arm, *seeds)) or "run", " ".join(arm) or "all", str(cfg.command), mine, place))
    return found


def _told_value(key: str, value: str) -> str:
    """``vspo`` of a group; a number or a switch needs its word: ``lr 0.001`` is told as ``lr0.001``."""
    bare = value.strip("'\"")
    plain = re.fullmatch(r"[A-Za-z]\w*", bare) and bare.lower() not in ("true", "false", "null")
    return bare if plain else f"{key.rpartition('.')[2]}{bare}"


def _noted(folder: Path) -> list[Params]:
    """The trials of an earlier call."""
    path = folder / "sweep.json"
    return list(read_json(path)["trials"]) if path.is_file() else []


def _note(cfg: Config, folder: Path, trials: Sequence[Params]) -> None:
    """Write down what is tried before it runs."""
    known = read_json(folder / "sweep.json") if (folder / "sweep.json").is_file() else {}
    write_json(folder / "sweep.json", {**known, "command": command_of(cfg), "trials": list(trials)})


def command_of(cfg: Config) -> str:
    """The command line of the sweep."""
    own = [f"sweep={cfg.choices.sweep}"] if cfg.choices.sweep != "grid" else []
    own += [f"sweep_file={cfg.sweep_file}"] if cfg.sweep_file else []
    return shlex.join(["agentrl", str(cfg.command), "-m", *own, *cfg.extra])


def _value(space: Grid | Search, jobs: Sequence[Job]) -> float | None:
    """The metric of a trial: the mean over its finished runs of the last value in metrics.jsonl."""
    if isinstance(space, Grid):
        return None
    found = []
    for job in jobs:
        lines = read_lines(job.folder / "metrics.jsonl") if job.done else []
        values = [line[space.metric.name] for line in lines if isinstance(line.get(space.metric.name), int | float)]
        found += values[-1:]
    return sum(found) / len(found) if found else None


def _told(
    cfg: Config,
    space: Grid | Search,
    folder: Path,
    trials: Sequence[Trial],
    jobs: Sequence[Job],
    failed: Sequence[Failed],
) -> dict[str, Any]:
    """Print the table, the best trial and what failed; write sweep.json."""
    rows = measured((job.arm, job.folder, job.done) for job in jobs)
    show(rows, f"{command_of(cfg)}: mean and 95 % over seeds and tasks")
    best = _best(space, trials)
    if best is not None and isinstance(space, Search):
        print(f"best {space.metric.name}: {best.value:.4g} with {shlex.join(words(best.params))}")
    for one in failed:
        print(f"FAILED {one}")
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed; the same command tries them again")
    strangers = _strangers(folder, jobs)
    if strangers:
        print(f"{folder} holds {len(strangers)} runs of other command lines, too: {', '.join(strangers[:3])} …")
    if any(job.done for job in jobs):
        print(f"what the runs show, with intervals and tests: {shlex.join(['agentrl', 'report', str(folder)])}")
    result = {
        "command": command_of(cfg),
        "trials": [trial.params for trial in trials],
        "values": [trial.value for trial in trials],
        "best": best and {"params": best.params, "value": best.value},
        "rows": as_json(rows),
        "runs": {job.name: str(job.folder) for job in jobs},
        "failed": {one.job.name: one.told for one in failed},
        "code": max((one.code if one.code > 0 else 1 for one in failed), default=0),
    }
    write_json(folder / "sweep.json", result)
    return result


def _strangers(folder: Path, jobs: Sequence[Job]) -> list[str]:
    mine = {job.folder.name for job in jobs}
    return sorted(path.parent.name for path in folder.glob("*/config.yaml") if path.parent.name not in mine)


def _best(space: Grid | Search, trials: Sequence[Trial]) -> Trial | None:
    known = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    if isinstance(space, Grid) or not known:
        return None
    sign = 1.0 if space.metric.goal == "maximize" else -1.0
    return max(known, key=lambda trial: sign * (trial.value or 0.0))
