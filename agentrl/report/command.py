"""``agentrl report``: one HTML page, Markdown, LaTeX and JSON from the folders of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.errors import ConfigError
from agentrl.log.files import write_json
from agentrl.report import origins, page, pictures, reading, tables, words
from agentrl.report.arms import Arm, arms, one_panel, without_twins
from agentrl.report.costs import Cost, costs
from agentrl.report.records import Compared, Settings
from agentrl.report.statistics import World, everywhere


@dataclass(frozen=True)
class Findings:
    """All that a report says, before it is laid out. ``absent``: (what, why) of all that does not count."""

    settings: Settings
    arms: Sequence[Arm]
    found: Sequence[Compared]
    costs: Sequence[Cost]
    absent: Sequence[tuple[str, str]]


def report(cfg: Any) -> dict[str, Any]:
    """Write the report into ``cfg.out`` and print what it says first; gives what report.json holds.

    Raises ConfigError: no runs, none that is finished, or one environment measured on several panels.
    """
    if not cfg.runs:
        raise ConfigError("report: no folder; give folders of runs: agentrl report FOLDER...")
    findings = find(list(cfg.runs), config.build(cfg.report), int(cfg.seed))
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    shown = contents(findings)
    (folder / "report.html").write_text(page.html(shown), encoding="utf-8")
    (folder / "report.md").write_text(page.markdown(shown), encoding="utf-8")
    (folder / "report.tex").write_text(
        "\n\n".join(tables.as_latex(one) for one in shown.tables) + "\n", encoding="utf-8"
    )
    result = record(findings, shown.lines)
    write_json(folder / "report.json", result)
    print("\n".join([*shown.lines, "", f"written: {folder / 'report.html'}, report.md, report.tex, report.json"]))
    return result


def find(paths: Sequence[str], settings: Settings, seed: int) -> Findings:
    """Read the runs and compute everything. Raises ConfigError."""
    everything = reading.find(paths)
    finished, other = one_panel([run for run in everything if not run.why], settings.panel)
    finished, twins = without_twins(finished)
    absent = [(run.name, run.why) for run in (*(r for r in everything if r.why), *twins)]
    absent += [(run.name, f"measured on panel {run.panel}; report.panel={settings.panel} was chosen") for run in other]
    absent += [(log, "never began: no folder; the file says why") for log in reading.never_began(paths)]
    if not finished:
        told = "; ".join(f"{name}: {why}" for name, why in absent[:3])
        raise ConfigError(f"{', '.join(paths)}: no finished run among {len(everything)}: {told}")
    found = arms(finished)
    worlds = [
        World([arm for arm in found if arm.env == env], settings, seed) for env in dict.fromkeys(a.env for a in found)
    ]
    compared = [world.compared() for world in worlds]
    over = everywhere(worlds, compared)
    return Findings(settings, found, [*compared, *([over] if over else [])], costs(found), [*absent, *holes(found)])


def holes(found: Sequence[Arm]) -> list[tuple[str, str]]:
    """Seeds that other methods of an environment have, and environments that a method lacks."""
    lines = []
    envs = sorted({arm.env for arm in found})
    for env in envs:
        of_env = [arm for arm in found if arm.env == env]
        seeds = sorted({seed for arm in of_env for seed in arm.seeds})
        for arm in of_env:
            if missing := [str(seed) for seed in seeds if seed not in arm.seeds]:
                lines.append(
                    (f"{arm.label} in {env}", f"no finished run with seed {', '.join(missing)}; others have it")
                )
    return lines


def contents(found: Findings) -> page.Contents:
    """What stands on the page."""
    numbers = series(found.arms)
    by_env = {one.env: one for one in found.found}
    metric = found.settings.metric
    curves = [
        (env, pictures.learning(of_env, by_env[env], numbers, metric), tuple(arm.label for arm in of_env))
        for env in dict.fromkeys(arm.env for arm in found.arms)
        if (of_env := [arm for arm in found.arms if arm.env == env])
    ]
    profiles = [
        (one.env, pictures.profiles(one, numbers, metric), tuple(one.profiles)) for one in found.found if one.profiles
    ]
    lines = [words.opening(found.arms, found.settings, len(found.absent)), *(words.told(one) for one in found.found)]
    if advice := words.wanted(found.found):
        lines.append(advice)
    return page.Contents(
        title=f"{metric} of {len(numbers)} methods in {len(curves)} environments",
        lines=lines,
        cautions=words.cautions(found.found, found.arms),
        absent=found.absent,
        numbers=numbers,
        curves=[picture for picture in curves if picture[1]],
        overview=tables.overview(found.found, f"{found.settings.decoding} {metric}"),
        means=[tables.details(one, numbers) for one in found.found],
        differences=tables.pairs(found.found),
        profiles=profiles,
        cost=tables.spent(found.costs),
        needed=tables.needed([one for one in found.found if one.advice]),
        different=tables.different(found.arms),
        origins=origins.origins(found.arms),
    )


def series(found: Sequence[Arm]) -> dict[str, int]:
    """label -> number of its colour: one for a label everywhere, the lowest that its first environment leaves free."""
    numbers: dict[str, int] = {}
    for env in dict.fromkeys(arm.env for arm in found):
        labels = [arm.label for arm in found if arm.env == env]
        taken = {numbers[label] for label in labels if label in numbers}
        for label in labels:
            if label not in numbers:
                numbers[label] = next(n for n in range(len(found)) if n not in taken)
                taken.add(numbers[label])
    return numbers


def record(found: Findings, lines: Sequence[str]) -> dict[str, Any]:
    """The content of report.json: every number of the page. What is not a number is null."""
    result: dict[str, Any] = {
        "settings": asdict(found.settings),
        "words": list(lines),
        "environments": [
            {
                "env": one.env,
                "panel": one.panel,
                "methods": [asdict(arm) for arm in one.arms],
                "pairs": [asdict(pair) for pair in one.pairs],
                "advice": [asdict(advice) for advice in one.advice],
            }
            for one in found.found
        ],
        "costs": [asdict(cost) for cost in found.costs],
        "runs": {f"{arm.label} in {arm.env}": {run.seed: str(run.folder) for run in arm.runs} for arm in found.arms},
        "absent": [{"what": what, "why": why} for what, why in found.absent],
    }
    plain: dict[str, Any] = _finite(result)
    return plain


def _finite(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
