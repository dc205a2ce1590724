"""Lay a report out: one HTML file that needs nothing else, and Markdown. The template engine escapes text of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentrl.log.inline import SERIES
from agentrl.report.origins import Origins
from agentrl.report.tables import Table, as_markdown, escaped

Picture = tuple[str, str, tuple[str, ...]]  # what it is of, <svg>, the labels of its series


@dataclass(frozen=True)
class Contents:
    """What stands on the page, in its order."""

    title: str
    lines: Sequence[str]
    cautions: Sequence[str]
    absent: Sequence[tuple[str, str]]
    numbers: Mapping[str, int]
    curves: Sequence[Picture]
    overview: Table
    means: Sequence[Table]
    differences: Table
    profiles: Sequence[Picture]
    cost: Table
    needed: Table
    different: Sequence[Table]
    origins: Origins

    @property
    def tables(self) -> list[Table]:
        """All tables, for Markdown and LaTeX."""
        found = [self.overview, *self.means, self.differences, self.cost, self.needed, *self.different]
        return [table for table in [*found, self.origins.runs, self.origins.versions] if table.rows]


def html(contents: Contents) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=contents, series=SERIES, place=place)


def markdown(contents: Contents) -> str:
    """The words and the tables."""
    absent = [f"- {escaped(what)}: {escaped(why)}" for what, why in contents.absent]
    commands = [f"    {' '.join(command.split())}  ({runs} runs)" for command, runs in contents.origins.commands]
    parts = [
        f"# {escaped(contents.title)}",
        *(escaped(line) for line in contents.lines),
        "\n".join(f"- {escaped(line)}" for line in contents.cautions),
        *(["## What does not count or is missing", "\n".join(absent)] if absent else []),
        *(as_markdown(table) for table in contents.tables),
        "## Commands",
        "\n".join(commands),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def place(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, in percent of the way; within 0..100."""
    return round(min(100.0, max(0.0, 100 * (value - low) / ((high - low) or 1.0))), 2)
