"""The numbers as tables of words, and the tables as Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentrl.comparison import DASH, markdown
from agentrl.report.arms import Arm, apart
from agentrl.report.costs import Cost
from agentrl.report.records import ALL, Advice, Compared, Measured, Pair
from agentrl.stats import Interval

DIGITS = 3
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class Table:
    """A table of words. ``words``: columns from the left that are text and no numbers; ``series``: the number of a
    row's colour; ``spans``: of a row (mean, low, high, bootstrap's low and high) where a page can draw it."""

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: int = 1
    series: Sequence[int] = ()
    spans: Sequence[tuple[float, float, float, float, float]] = field(default=(), repr=False)


def overview(found: Sequence[Compared], metric: str) -> Table:
    """Methods x environments: mean and half of the 95 % interval."""
    labels = list(dict.fromkeys(arm.label for one in found for arm in one.arms))
    cells = {(arm.label, one.env): plus_minus(arm.mean) for one in found for arm in one.arms}
    rows = [[label, *(cells.get((label, one.env), DASH) for one in found)] for label in labels]
    note = f"Mean {metric} ± half of its 95 % interval over seeds and tasks. Rows are in the order of their names."
    return Table("overview", "Methods and environments", ["", *(one.env for one in found)], rows, note)


def details(one: Compared, numbers: Mapping[str, int]) -> Table:
    """An environment's arms: mean, interquartile mean, intervals of both kinds, what stands beside."""
    more = list(one.arms[0].others)
    head = ["", "seeds", "mean ± 95 %", "bootstrap 95 %", "IQM", "bootstrap 95 %", *more, "rank"]
    rows = [_detail(arm) for arm in one.arms]
    note = "" if one.env == ALL else f"Panel {one.panel}, {max(arm.tasks for arm in one.arms)} tasks."
    spans = [
        (a.mean.mean, *((a.mean.low, a.mean.high) if a.mean.half is not None else a.boot), *a.boot) for a in one.arms
    ]
    return Table(
        f"means of {one.env}", one.env, head, rows, note, series=[numbers[arm.label] for arm in one.arms], spans=spans
    )


def _detail(arm: Measured) -> list[str]:
    return [
        arm.label,
        str(len(arm.seeds)),
        plus_minus(arm.mean),
        span(arm.boot),
        number(arm.iqm),
        span(arm.iqm_boot),
        *(plus_minus(other) for other in arm.others.values()),
        str(arm.rank) if arm.rank else "not ranked",
    ]


def pairs(found: Sequence[Compared]) -> Table:
    """Every two arms of an environment."""
    head = ["", "", "and", "difference ± 95 %", "seeds", "p over tasks", "P(improvement), 95 %", "verdict"]
    rows = [
        [
            one.env,
            pair.ours,
            pair.theirs,
            plus_minus(pair.difference, sign=True),
            str(pair.seeds),
            chance(pair.p) if pair.seeds else DASH,
            f"{pair.improvement:.2f} {span(pair.improvement_boot, 2)}",
            verdict(pair),
        ]
        for one in found
        for pair in one.pairs
    ]
    note = (
        "Difference: first minus second, paired by seed and task. p: sign flips over tasks, Holm's correction for the "
        "comparisons of an environment. P(improvement): chance that a run of the first is above a run of the second. "
        "A difference is shown where its interval leaves out 0 and p is below 0.05, over two seeds or more."
    )
    return Table("differences", "Differences", head, rows, note, words=3)


def verdict(pair: Pair) -> str:
    """The pair's word, and whether the arms' own intervals overlap nevertheless."""
    return f"{pair.word} (own intervals overlap)" if pair.word in ("above", "below") and pair.overlap else pair.word


def spent(found: Sequence[Cost]) -> Table:
    """Exploration and compute of each arm; columns that no arm fills are left out."""
    columns = {
        "episodes": [one.episodes for one in found],
        "sampled tokens": [one.tokens for one in found],
        "engine calls": [one.calls for one in found],
        "CPU-s": [one.cpu_s for one in found],
        "GPU-s held": [one.gpu_s for one in found],
        "wall s": [one.wall_s for one in found],
        "warm start s": [one.warm_s for one in found],
    }
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    rows = [[one.env, one.label, *(count(values[i]) for values in shown.values())] for i, one in enumerate(found)]
    note = (
        "Means over a method's runs. Episodes and tokens: what was played to learn from, exploration included. Engine "
        "calls and seconds: evaluations included. A warm start is made once and may be shared. GPU-s: of all GPUs that "
        "the machine shows, used or not."
    )
    return Table("cost", "What it cost", ["", "", *shown], rows, note, words=2)


def needed(found: Sequence[Compared]) -> Table:
    """How many seeds and tasks would show a difference."""
    rows = [
        [
            one.env,
            number(advice.effect),
            enough(advice),
            count(advice.paired),
            count(advice.unpaired),
        ]
        for one in found
        for advice in one.advice
    ]
    head = ["", "difference", "seeds for each, on this panel", "tasks, the same for both", "tasks for each, of its own"]
    note = (
        "For 80 % power at 5 %, by the spread seen here. Seeds: pairs of runs on this panel; a claim about methods. "
        "Tasks: for one trained model against another; a claim about these two."
    )
    return Table("sample sizes", "How much would show a difference", head, rows, note)


def enough(advice: Advice) -> str:
    """The seeds that are needed, in words."""
    if not advice.known:
        return DASH
    return str(advice.seeds) if advice.seeds else "more tasks needed"


def different(arms: Sequence[Arm]) -> list[Table]:
    """For each environment, what differs between arms beside the method's own settings."""
    tables = []
    for env in dict.fromkeys(arm.env for arm in arms):
        of_env = [arm for arm in arms if arm.env == env]
        found = apart(of_env)
        if found:
            rows = [[arm.label, *(values[i] for _, values in found)] for i, arm in enumerate(of_env)]
            head = ["", *(name.removeprefix("choices.").removesuffix("._target_") for name, _ in found)]
            note = "A difference in the tables above is one of all of these together."
            tables.append(
                Table(f"words of {env}", f"{env}: what differs beside the method", head, rows, note, len(head))
            )
    return tables


def plus_minus(found: Interval, digits: int = DIGITS, sign: bool = False) -> str:
    """``mean ± half``; the mean alone where one observation says nothing of the spread."""
    if math.isnan(found.mean):
        return DASH
    text = f"{found.mean:{'+' if sign else ''}.{digits}f}"
    return text if found.half is None else f"{text} ± {found.half:.{digits}f}"


def number(value: float, digits: int = DIGITS) -> str:
    return DASH if math.isnan(value) else f"{value:.{digits}f}"


def span(found: tuple[float, float], digits: int = DIGITS) -> str:
    return DASH if math.isnan(found[0]) else f"[{found[0]:.{digits}f}, {found[1]:.{digits}f}]"


def chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def as_markdown(table: Table) -> str:
    """Heading, table, note. Text of runs cannot end a cell or become markup."""
    lines = [[escaped(cell) for cell in row] for row in (table.head, *table.rows)]
    return "\n\n".join([f"## {escaped(table.title)}", markdown(lines), escaped(table.note)]).strip()


def escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def as_latex(table: Table) -> str:
    """A table environment in booktabs' manner."""
    shape = "l" * table.words + "r" * (len(table.head) - table.words)
    lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in (table.head, *table.rows)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}. {_latex(table.note)}}}",
            rf"\begin{{tabular}}{{{shape}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))
