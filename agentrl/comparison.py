"""What the runs of a comparison came to: values per seed and task, tables beside the published ones, claims judged.

Nothing here trains or knows a method; it reads what runs left in their folders. Column, Claim and Published are read
from YAML inside of lists and mappings, where OmegaConf cannot fill frozen records.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.config import Config
from agentrl.log.files import read_json, read_lines, write_json
from agentrl.stats import Interval, difference, over_seeds_and_tasks

DASH = "-"  # where nothing was measured
Values = Sequence[Mapping[str, float]]  # [seed][task]; one entry "" where there are no tasks


class Source(StrEnum):
    """Where a column comes from: the plays after training, the steps of training, or the run's summary."""

    eval = auto()
    train = auto()
    summary = auto()


class Decoding(StrEnum):
    """How the plays of an ``eval`` column were decoded."""

    sampled = auto()
    greedy = auto()


class Left:
    """What a finished run left in its folder, each file read once however many columns ask for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plays: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def summary(self) -> dict[str, Any]:
        return read_json(self._folder / "summary.json")

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self._folder / "metrics.jsonl")

    def plays(self, panel: str, decoding: Decoding, moment: str = "after") -> list[dict[str, Any]]:
        """The plays before or after training on the run's own panel (empty), or those on a further one."""
        if panel not in self._plays:
            folder = self._folder / "panels" / panel if panel else self._folder
            self._plays[panel] = read_lines(folder / "evaluations.jsonl")
        moment = "eval" if panel else moment
        return [p for p in self._plays[panel] if p["moment"] == moment and p["decoding"] == decoding]


@dataclass
class Column:
    """A column of a comparison.

    value     of ``eval``: success, return, turns, steps, steps_success, parts.NAME, scores.NAME, scores.NAME.PART; of
              ``train``: a metric, averaged over the steps of training; of ``summary``: a dotted key of summary.json
    of        which of the three
    decoding  of ``eval``: sampled or greedy plays
    moment    of ``eval``: after training, or before; a further panel has one moment
    tasks     of ``eval``: glob over task ids
    panel     of ``eval``: a further panel of the comparison; empty: the run's own
    last      of ``train``: the share of the steps that counts, from the end (1: all)
    factor    what is shown is the value times this (100: percent)
    digits    behind the point
    lower     less is better
    """

    value: str
    of: Source = Source.eval
    decoding: Decoding = Decoding.sampled
    moment: str = "after"
    tasks: str = "*"
    panel: str = ""
    last: float = 1.0
    factor: float = 1.0
    digits: int = 3
    lower: bool = False

    def read(self, run: Left) -> dict[str, float]:
        """``{task: value}`` of one finished run, several plays of a task averaged; ``{"": value}`` without tasks."""
        if self.of is Source.train:
            found = [line[self.value] for line in run.metrics if self.value in line]
            found = [value for value in found if isinstance(value, int | float)]
            found = found[-math.ceil(self.last * len(found)) :]
            return {"": self.factor * sum(found) / len(found)} if found else {}
        if self.of is Source.summary:
            value = _dotted(run.summary, self.value.split("."))
            return {} if value is None else {"": self.factor * value}
        plays: dict[str, dict[int, float]] = {}
        for line in run.plays(self.panel, self.decoding, self.moment):
            value = _named(line, self.value)
            if value is not None and fnmatchcase(line["task"], self.tasks):
                plays.setdefault(line["task"], {})[line["member"]] = self.factor * float(value)
        return {task: sum(values.values()) / len(values) for task, values in plays.items()}


@dataclass
class Claim:
    """An ordering that the paper claims: row ``better`` above row ``than`` in ``column``."""

    better: str
    than: str
    column: str


@dataclass
class Published:
    """The paper's table: ``rows[name][i]`` belongs to ``columns[i]``; None where it gives nothing."""

    columns: list[str] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)

    def value(self, row: str, column: str) -> float | None:
        if row not in self.rows or column not in self.columns:
            return None
        number = self.rows[row][self.columns.index(column)]
        return None if number is None else float(number)


@dataclass(frozen=True)
class Verdict:
    """A claim and what the runs say: ``difference`` in the direction claimed, and whether its interval leaves out 0."""

    claim: Claim
    difference: Interval
    word: str


def judge(claim: Claim, column: Column, better: Values, than: Values) -> Verdict:
    """``holds``, ``contradicted``, ``not shown`` (the interval holds 0) or ``not measured`` (nothing in common)."""
    found = difference(than, better) if column.lower else difference(better, than)
    if math.isnan(found.mean) or found.half is None:
        return Verdict(claim, found, "not measured")
    word = "holds" if found.low > 0 else "contradicted" if found.high < 0 else "not shown"
    return Verdict(claim, found, word)


def cell(values: Values, column: Column) -> str:
    """``mean ± half`` over seeds and tasks; a dash without values."""
    found = over_seeds_and_tasks(values)
    if math.isnan(found.mean):
        return DASH
    text = f"{found.mean:,.{column.digits}f}"
    return f"{text} ± {found.half:,.{column.digits}f}" if found.half else text


def measured(columns: Mapping[str, Column], found: Mapping[str, Mapping[str, Values]]) -> dict[str, Column]:
    """The columns in which some row has a value: a recipe may name data sets that only one of its scales has."""
    return {name: column for name, column in columns.items() if any(any(values[name]) for values in found.values())}


def table(
    columns: Mapping[str, Column], found: Mapping[str, Mapping[str, Values]], published: Published
) -> list[list[str]]:
    """Head and rows: ours with intervals, and in brackets the paper's value where it gives one.

    Rows that only the paper has come last; columns that only the paper has are left out.
    """
    lines = [["", *columns]]
    for row, values in found.items():
        lines.append(
            [row, *(_beside(cell(values[name], columns[name]), published.value(row, name)) for name in columns)]
        )
    for row in published.rows:
        if row not in found:
            theirs = [published.value(row, name) for name in columns]
            lines.append([f"{row} (paper alone)", *(DASH if value is None else f"({value:g})" for value in theirs)])
    return lines


def folder_of(cfg: Config) -> Path:
    """Where an experiment leaves what came out; made now."""
    folder = Path(cfg.out) / f"{cfg.choices.experiment}_{cfg.scale}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def command_of(cfg: Config) -> str:
    """The command line of an experiment."""
    words = [f"experiment={cfg.choices.experiment}", f"scale={cfg.scale}", *cfg.extra]
    return shlex.join(["agentrl", "train", *words])


def keep(folder: Path, text: str, result: Mapping[str, Any]) -> None:
    """Write report.md and table.json, and print the report."""
    (folder / "report.md").write_text(text, encoding="utf-8")
    write_json(folder / "table.json", result)
    print(f"{text}\nwritten: {folder / 'report.md'}")


def _beside(ours: str, theirs: float | None) -> str:
    return ours if theirs is None else f"{ours} ({theirs:g})"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    rule = ["---"] * len(lines[0])
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def told(verdicts: Sequence[Verdict], columns: Mapping[str, Column]) -> list[list[str]]:
    """The verdicts as a table."""
    lines = [["the paper's claim", "difference in its favour (95 %)", "here"]]
    for v in verdicts:
        column = columns[v.claim.column]
        d = DASH if math.isnan(v.difference.mean) else f"{v.difference.mean:+.{column.digits}f}"
        d += "" if v.difference.half is None else f" ± {v.difference.half:.{column.digits}f}"
        word = "lower" if column.lower else "higher"
        lines.append([f"{v.claim.better} {word} than {v.claim.than} in {v.claim.column}", d, v.word])
    return lines


def _named(line: Mapping[str, Any], name: str) -> Any:
    """``success`` of a play, or ``scores.NAME``, where the name may hold dots itself."""
    top, _, rest = name.partition(".")
    return line.get(top, {}).get(rest) if rest else line.get(top)


def _dotted(node: Any, parts: Sequence[str]) -> float | None:
    for part in parts:
        node = node.get(part) if isinstance(node, Mapping) else None
    return None if node is None else float(node)
