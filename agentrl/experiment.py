"""A table of a paper as one command: ``agentrl train experiment=NAME scale=laptop|paper``.

A recipe (conf/experiment/NAME.yaml) lists rows; each row is a list of overrides of ``agentrl train`` and is run once
for each seed, as a process of its own, by the very command that a person would type. Runs of equal words are shared
between recipes; finished ones are not run again, interrupted ones go on. Then ours is printed beside the paper's::

    outputs/experiments/NAME_SCALE/     report.md, table.json, curves.png
    outputs/experiments/runs/ROW-HASH/SEED/     a run's folder, and its panels/

Words of the command line that are none of ours (see conf/run_experiment.yaml) go to every run; a row's own words win.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentrl import comparison, config
from agentrl.comparison import Claim, Column, Left, Published, Source
from agentrl.config import Config
from agentrl.errors import ConfigError
from agentrl.hashes import short_hash, slug
from agentrl.launch.base import Failed, beginning, finished, run_missing, started
from agentrl.log.curves import curves
from agentrl.log.files import read_json

SCALES = ("laptop", "paper")
PLAIN = "A-Za-z0-9"  # what is left of a row's name in the name of its folder
#: columns of every comparison.
COST = {
    "episodes": Column("episodes", of=Source.summary, digits=0),
    "CPU-s": Column("time_s.cpu", of=Source.summary, digits=0),
}
#: words of `agentrl train` that `agentrl eval` takes, too: a further panel is played with them.
EVAL_WORDS = re.compile(r"\+?(env|model|context|engine|judge|checker|device|reward@eval\.scores|eval)([.@=]|$)")
TRAIN_ONLY = re.compile(r"eval\.(tasks|before|every|val_tasks)=")


@dataclass
class Row:
    """Overrides of a row, and those that one scale adds."""

    words: list[str]
    laptop: list[str] = field(default_factory=list)
    paper: list[str] = field(default_factory=list)


@dataclass
class Scale:
    """Seeds and overrides of all rows of a scale."""

    seeds: list[int]
    words: list[str]


@dataclass(frozen=True, slots=True)
class Job:
    """One run: its row, seed, overrides, folder, and the further panels (name, overrides) that follow it."""

    row: str
    seed: int
    words: tuple[str, ...]
    folder: Path
    panels: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.row}, seed {self.seed}"

    @property
    def command(self) -> list[str]:
        """The arguments of ``agentrl``."""
        return ["train", *self.words, f"seed={self.seed}", "log=files", f"run_dir={self.folder}"]

    @property
    def log(self) -> Path:
        """Where the process writes what it says."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def env(self) -> dict[str, str]:
        return {} if "WANDB_RUN_GROUP" in os.environ else {"WANDB_RUN_GROUP": self.row}

    @property
    def done(self) -> bool:
        return finished(self.folder) and all(finished(self.folder / "panels" / name) for name, _ in self.panels)

    def next(self) -> list[str] | None:
        """First the training, then the panels, on the trained model."""
        if not finished(self.folder):
            return beginning(self.folder, self.command)
        for name, more in self.panels:
            place = self.folder / "panels" / name
            if not finished(place):
                shutil.rmtree(place, ignore_errors=True)
                model = max((self.folder / "checkpoints").glob("step_*")) / "model"
                words = [*panel_words(self.words, more), f"model.path={model}", f"seed={self.seed}"]
                return ["eval", *words, "log=files", f"run_dir={place}"]
        return None


@dataclass(frozen=True)
class Comparison:
    """The schema of the recipes in conf/experiment.

    title, source    what is compared; the paper and its table
    words            overrides of every run
    scales           ``laptop`` and, where there is one, ``paper``: seeds and overrides
    rows             name -> overrides
    columns          name -> what is measured, see :class:`agentrl.comparison.Column`
    panels           name -> overrides of ``agentrl eval``: further panels on which each trained model is measured
    published        the paper's own table
    claims           orderings that the paper claims
    notes            sentences below the tables
    curve            the metric of curves.png
    """

    title: str
    source: str
    scales: dict[str, Scale]
    rows: dict[str, Row]
    columns: dict[str, Column]
    words: list[str] = field(default_factory=list)
    panels: dict[str, list[str]] = field(default_factory=dict)
    published: Published = field(default_factory=Published)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curve: str = "rollout/success"

    def __post_init__(self) -> None:
        if "laptop" not in self.scales or not set(self.scales) <= set(SCALES):
            raise ConfigError(
                f"experiment.scales: got {', '.join(self.scales) or 'none'}, expected laptop and, perhaps, paper"
            )
        for claim in self.claims:
            for kind, name, known in (
                ("rows", claim.better, self.rows),
                ("rows", claim.than, self.rows),
                ("columns", claim.column, self.columns),
            ):
                if name not in known:
                    raise ConfigError(f"experiment.claims: '{name}' is none of experiment.{kind}: {', '.join(known)}")
        for name, column in self.columns.items():
            if column.panel and column.panel not in self.panels:
                raise ConfigError(
                    f"experiment.columns.{name}.panel: got '{column.panel}', expected one of experiment.panels: "
                    f"{', '.join(self.panels) or 'there is none'}"
                )
        if wrong := [name for name, row in self.published.rows.items() if len(row) != len(self.published.columns)]:
            raise ConfigError(f"experiment.published.rows.{wrong[0]}: expected {len(self.published.columns)} values")

    def run(self, cfg: Config) -> dict[str, Any]:
        """Run what is missing, then report. Raises ConfigError for words that do not compose, Interrupted."""
        if cfg.scale not in self.scales:
            raise ConfigError(f"scale={cfg.scale}: experiment={cfg.choices.experiment} has only scale=laptop; use that")
        jobs = self.jobs(self.scales[cfg.scale], cfg)
        flags = ["--config-dir", str(where)] if (where := config.config_dir()) else []
        self.refuse_mistakes(jobs, where)
        if cfg.dry_run:
            print("\n".join(shlex.join(["agentrl", *job.command, *flags]) for job in jobs))
            return {"failed": []}
        begin = time.perf_counter()
        with started(config.build(cfg.launcher), Path(cfg.out), flags, _usual(cfg.scale)) as runner:
            failed = run_missing(jobs, runner)
        return self.report(cfg, jobs, failed, time.perf_counter() - begin)

    def jobs(self, scale: Scale, cfg: Config) -> list[Job]:
        """The runs in the order in which they start: neighbours differ in their seed, so that no two make one warm
        start at the same time."""
        rows = {name: row for name, row in self.rows.items() if not cfg.rows or name in cfg.rows}
        if unknown := set(cfg.rows) - set(self.rows):
            raise ConfigError(f"rows: {', '.join(sorted(unknown))} is no row here; rows: {', '.join(self.rows)}")
        found = []
        panels = tuple((name, tuple(more)) for name, more in self.panels.items())
        for name, row in rows.items():
            words = (*self.words, *scale.words, *cfg.extra, *row.words, *getattr(row, str(cfg.scale)))
            place = Path(cfg.out) / "runs" / f"{slug(name, PLAIN).lower()}-{short_hash(words, 10)}"
            found += [Job(name, seed, words, place / str(seed), panels) for seed in (cfg.seeds or scale.seeds)]
        return found

    def refuse_mistakes(self, jobs: Sequence[Job], config_dir: Path | None) -> None:
        """Compose and check the config of every row before anything runs. Raises ConfigError naming the row."""
        for row, words in {job.row: job.words for job in jobs}.items():
            try:
                config.check(config.compose("train", [*words, "run_dir=x"], config_dir))
                for panel, more in self.panels.items():
                    config.compose("eval", [*panel_words(words, more), f"run_dir={panel}"], config_dir)
            except Exception as error:  # Hydra's and OmegaConf's own, as well as ours
                text = " ".join(str(error).split())
                raise ConfigError(f"row '{row}': {text}; its words: {shlex.join(words)}") from None

    def report(self, cfg: Config, jobs: Sequence[Job], failed: Sequence[Failed], seconds: float) -> dict[str, Any]:
        """Write and print report.md, write table.json and curves.png; gives what table.json holds."""
        folder = comparison.folder_of(cfg)
        runs = {row: [job.folder for job in jobs if job.row == row and finished(job.folder)] for row in self.rows}
        left = {row: [Left(path) for path in paths] for row, paths in runs.items()}
        found = {
            row: {name: [column.read(run) for run in of_row] for name, column in (self.columns | COST).items()}
            for row, of_row in left.items()
        }
        columns = comparison.measured(self.columns | COST, found)
        verdicts = [
            comparison.judge(c, columns[c.column], found[c.better][c.column], found[c.than][c.column])
            for c in self.claims
            if c.column in columns
        ]
        facts = _facts([run.summary for of_row in left.values() for run in of_row]) | {
            "wall_s": seconds + _spent(folder / "table.json")
        }
        lines = [
            f"# {self.title}",
            f"{self.source}; scale {cfg.scale}. Ours: mean and 95 % interval over seeds and tasks (paper).",
            comparison.markdown(comparison.table(columns, found, self.published)),
        ]
        if verdicts:
            lines.append(comparison.markdown(comparison.told(verdicts, columns)))
        if curves(runs, self.curve, folder / "curves.png", f"{self.title}: on the way"):
            lines.append("![learning curves](curves.png)")
        told = [
            *self.notes,
            f"Command: `{comparison.command_of(cfg)}`.",
            f"{facts['runs']} runs: {facts['cpu_s']:,.0f} CPU-seconds, {facts['wall_s'] / 60:.0f} minutes on "
            f"{os.cpu_count()} cores. Code: {facts['commits']}.",
            *(f"Failed: {one.job.name}; see {one.job.log}." for one in failed),
        ]
        lines.append("\n".join(f"- {note}" for note in told))
        result = {
            "experiment": cfg.choices.experiment,
            "scale": cfg.scale,
            "values": found,
            "verdicts": [asdict(verdict) for verdict in verdicts],
            "runs": {row: [str(path) for path in paths] for row, paths in runs.items()},
            "failed": [str(one.job.folder) for one in failed],
            "facts": facts,
        }
        comparison.keep(folder, "\n\n".join(lines) + "\n", result)
        return result


def run(cfg: Config) -> dict[str, Any]:
    """``agentrl train experiment=NAME``: what the recipe's class does."""
    result: dict[str, Any] = config.build(cfg.experiment).run(cfg)
    return result


def panel_words(words: Sequence[str], more: Sequence[str]) -> list[str]:
    """The words of ``agentrl eval`` for a model that was trained with ``words``."""
    shared = [word for word in words if EVAL_WORDS.match(word) and not TRAIN_ONLY.match(word)]
    return [*shared, *more]


def _usual(scale: str) -> int:
    """Runs at a time on one machine: one for each core on a laptop; at the paper's size one has the machine."""
    return os.cpu_count() or 1 if scale == "laptop" else 1


def _spent(table: Path) -> float:
    """Seconds of the calls before this one."""
    return float(read_json(table)["facts"].get("wall_s", 0.0)) if table.is_file() else 0.0


def _facts(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cost of the finished runs, the panels they were measured on, and the commits they were made with."""
    commits = {str((s["facts"]["provenance"]["git"] or {}).get("commit"))[:10] for s in summaries}
    return {
        "runs": len(summaries),
        "cpu_s": sum(s["time_s"].get("cpu", 0.0) for s in summaries),
        "panels": sorted({s["panel_hash"] for s in summaries}),
        "commits": ", ".join(sorted(commits)) + (" (runs of different commits)" if len(commits) > 1 else ""),
    }
