"""Which runs are seeds of one thing: method x environment x all other words that differ, told by these words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agentrl.errors import ConfigError
from agentrl.report.reading import Run

ABOUT = ("choices.method", "choices.env")  # said by the label and the environment themselves
NONE = "-"  # a key that a config has not
MOST = 3  # words in a label; what is left out stands in the table of what differs


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone, in order of their seeds."""

    label: str
    env: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    def of(self, seeds: Sequence[int]) -> list[Run]:
        """The runs of some seeds, in their order."""
        by_seed = {run.seed: run for run in self.runs}
        return [by_seed[seed] for seed in seeds]


def one_panel(runs: Sequence[Run], panel: str) -> tuple[list[Run], list[Run]]:
    """The runs that may stand in one report, and those that were measured on another panel than the chosen one.

    Raises ConfigError when runs of one environment were measured on different panels and ``panel`` chooses none.
    """
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        counts.setdefault(run.env, Counter())[run.panel] += 1
    known = sorted({name for found in counts.values() for name in found})
    if panel and panel not in known:
        raise ConfigError(f"report.panel={panel}: no run was measured on it; panels of these runs: {', '.join(known)}")
    for env, found in counts.items():
        if len(found) > 1 and panel not in found:
            told = ", ".join(f"{name} ({n} run{'s' * (n > 1)})" for name, n in found.most_common())
            raise ConfigError(
                f"env={env}: the runs were measured on {len(found)} panels of tasks: {told}; what they reach "
                f"on different tasks cannot be compared; choose one with report.panel={found.most_common()[0][0]}"
            )
    other = [run for run in runs if len(counts[run.env]) > 1 and run.panel != panel]
    return [run for run in runs if run not in other], other


def without_twins(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Runs of equal words and seed are one run: the first is kept, the others are given back as left out."""
    kept: dict[tuple[int, tuple[tuple[str, str], ...]], Run] = {}
    twins = []
    for run in runs:
        first = kept.setdefault((run.seed, tuple(sorted(run.words.items()))), run)
        if first is not run:
            twins.append(replace(run, why=f"the same words and seed as {first.name}: counted once"))
    return list(kept.values()), twins


def arms(runs: Sequence[Run]) -> list[Arm]:
    """Arms by environment, then by label. Labels are unique within an environment and name no rank."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.env, run.method), []).append(run)
    made = []
    for (env, method), of_both in sorted(found.items()):
        names = differing([run.words for run in of_both], alike=True)
        groups: dict[tuple[str, ...], list[Run]] = {}
        for run in of_both:
            groups.setdefault(tuple(run.words.get(name, NONE) for name in names), []).append(run)
        shown = _uppermost(names)
        for number, (key, group) in enumerate(sorted(groups.items()), 1):
            words = [_word(name, value) for name, value in zip(names, key, strict=True) if name in shown]
            label = ", ".join([method, *words[:MOST]])
            if len(words) > MOST:
                label += f" (variant {number})"
            made.append(Arm(label, env, tuple(sorted(group, key=lambda run: run.seed))))
    return made


def differing(words: Sequence[Mapping[str, str]], alike: bool = False) -> list[str]:
    """Keys of which the values differ; of those that say the same (values of an interpolation) the shortest.

    ``alike``: one key is enough also where several tell the same runs apart by values of their own.
    """
    told: dict[tuple[object, ...], str] = {}
    keys = {key for one in words for key in one} - set(ABOUT)
    for key in sorted(keys, key=lambda key: (not key.startswith("choices."), key.count("."), len(key), key)):
        values = tuple(one.get(key, NONE) for one in words)
        if len(set(values)) > 1:
            told.setdefault(tuple(values.index(value) for value in values) if alike else values, key)
    return list(told.values())


def apart(found: Sequence[Arm]) -> list[tuple[str, list[str]]]:
    """What differs between arms: keys, and the value of each arm. Settings of different methods are left out."""
    words = [arm.runs[0].words for arm in found]
    methods = [one.get(ABOUT[0]) for one in words]

    def of_one(key: str) -> bool:
        seen = [(method, one[key]) for method, one in zip(methods, words, strict=True) if key in one]
        return any(a == c and b != d for a, b in seen for c, d in seen)

    names = [name for name in _uppermost(differing(words)) if not name.startswith("method.") or of_one(name)]
    return [(name, [_value(one.get(name, NONE)) for one in words]) for name in names]


def _uppermost(names: Sequence[str]) -> list[str]:
    """Without the settings of parts that are other parts altogether: ``choices.reward`` says it for ``reward.*``."""
    chosen = tuple(f"{name.partition('.')[2]}." for name in names if name.startswith("choices."))
    classes = {name.removesuffix("_target_") for name in names if name.endswith("._target_")} - {"method."}
    return [
        name
        for name in names
        if not name.startswith(chosen) and not any(name.startswith(c) and name != f"{c}_target_" for c in classes)
    ]


def _word(name: str, value: str) -> str:
    return f"{name.removeprefix('choices.').removesuffix('._target_')}={_value(value)}"


def _value(value: str) -> str:
    return value.rpartition(".")[2] if value.startswith("agentrl.") else value
