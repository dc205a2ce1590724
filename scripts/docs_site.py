"""What `mkdocs build` adds to the pages of docs/: the README as first page, and references made from the sources.

A hook of mkdocs (see mkdocs.yml). Nothing is written into docs/: generated pages exist in the site alone. Links that
leave docs/ (to a source file) become its name; blocks of ```math become MathML, which browsers draw by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from agentrl.commands import COMMANDS
from agentrl.log.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s]+)\)")
MATH = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
KEY = re.compile(r"^(\w+): *(.*?)(?: +# (.*))?$")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {"index.md": home(), "reference/commands.md": commands(), "reference/metrics.md": metrics()}
    pages |= {f"reference/config/{group}.md": text for group, text in groups()}
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw formulas; unlink what lies outside of the site."""
    here = PurePosixPath(page.file.src_uri).parent

    def unlinked(found: re.Match[str]) -> str:
        text, target = found[1], found[2].partition("#")[0]
        parts: list[str] = []
        for part in (here / target).parts:
            if part == ".." and parts and parts[-1] != "..":
                parts.pop()
            else:
                parts.append(part)
        place = "/".join(parts)
        if place == "../README.md":
            return f"[{text}]({'../' * (len(here.parts))}index.md{found[2][len(target) :]})"
        if not place.startswith("../") and (place == "" or files.get_file_from_path(place)):
            return found[0]
        inside = place.removeprefix("../")
        if (ROOT / "docs" / place).is_dir() and files.get_file_from_path(f"{place}/README.md"):
            return f"[{text}]({found[2].rstrip('/')}/README.md)"
        if not (ROOT / inside).exists() and not (ROOT / "docs" / place).exists():
            return found[0]  # a dead link, which mkdocs reports
        return f"{text} (`{inside}`)" if inside not in text else text

    return MATH.sub(drawn, LINK.sub(unlinked, markdown))


def drawn(found: re.Match[str]) -> str:
    """The lines of a block as formulas, one below the other."""
    lines = [convert(line, display="block") for line in found[1].split("\\\\") if line.strip()]
    return "\n".join(f'<div class="formula">{line}</div>' for line in lines)


def home() -> str:
    """The README, seen from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def commands() -> str:
    """A table of the command line's commands."""
    lines = [
        "# Commands",
        "",
        "`agentrl <command> [group=choice] [key=value] [flags]`",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    lines += [f"| `agentrl {name}` | {command.about} |" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "Each has Hydra's manners: `--help`, `--cfg job`, `--info`, and tab completion.", ""])


def metrics() -> str:
    """The metric table, by area."""
    lines = ["# Metrics", "", "Every number that a run logs. *Best* is the value by which a table of runs sums one up."]
    areas: dict[str, list[Any]] = {}
    for metric in METRICS.values():
        areas.setdefault(metric.name.partition("/")[0], []).append(metric)
    for area, found in areas.items():
        lines += ["", f"## {area}", "", "| name | meaning | unit | best |", "|---|---|---|---|"]
        lines += [f"| `{each.name}` | {cell(each.about)} | {each.unit} | {each.best} |" for each in found]
    return "\n".join([*lines, ""])


def groups() -> Iterator[tuple[str, str]]:
    """A page for each config group: its choices, their keys, types, values and comments."""
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        if folder.name in ("hydra", "experiment", "local"):
            continue
        choices = [choice(path) for path in sorted(folder.glob("*.yaml"))]
        if choices:
            yield folder.name, "\n".join([f"# {folder.name}=", "", *(line for lines in choices for line in lines)])


def choice(path: Path) -> list[str]:
    """One YAML as a section."""
    text = path.read_text(encoding="utf-8")
    plain = yaml.safe_load(text) or {}
    head = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    lines = [f"## {path.parent.name}={path.stem}", "", head, ""]
    bases = [each for each in plain.get("defaults", []) if isinstance(each, str) and each != "_self_"]
    if bases:
        lines += [f"Begins with the values of {', '.join(f'`{base}`' for base in bases)}.", ""]
    if isinstance(plain.get("_target_"), str):
        lines += [f"Class: `{plain['_target_']}`", ""]
    types = schema(plain.get("_target_"))
    rows = [
        found for line in text.splitlines() if (found := KEY.match(line)) and found[1] not in ("defaults", "_target_")
    ]
    if rows:
        lines += ["| key | type | value | meaning |", "|---|---|---|---|"]
    for row in rows:
        value = row[2] if row[2] or not isinstance(plain.get(row[1]), (dict, list)) else "(see the file)"
        lines.append(f"| `{row[1]}` | {cell(types.get(row[1], ''))} | `{cell(value) or ' '}` | {cell(row[3] or '')} |")
    return [*lines, ""]


def schema(target: object) -> dict[str, str]:
    """Field -> type as written, of the dataclass that ``_target_`` names."""
    if not isinstance(target, str):
        return {}
    module, _, name = target.rpartition(".")
    found = fields(getattr(import_module(module), name))
    return {each.name: str(each.type) for each in found}


def cell(text: str) -> str:
    """Text that does not end a table's cell."""
    return str(text).replace("|", "\\|")
