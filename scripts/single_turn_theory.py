"""Does the theory of single-turn GRPO hold on trained policies? pi(a_GT | s) at every expert state, before and after.

    python scripts/single_turn_theory.py BEFORE AFTER env=robotouille env.size=paper env.max_turns=35 --tasks 40

BEFORE and AFTER are models (folders, or names as of model.path): the warm start and a checkpoint of its training, say.
Words with = are overrides of `agentrl eval`. For each task of the panel the expert (without noise) plays once; with p_t
the probability of its action in its t-th state, exactly, by the policy's own token probabilities, this reports

- the product of p_t from every state to the end (P_t of the paper), against the measured share of sampled plays from
  that state that succeed in the expert's number of actions (they agree where the shortest plan is unique, else the
  product is a lower bound) or at all (never less: a policy may take a detour);
- the same by the number of actions that are left, i.e. for each length of sub-task;
- the share of states, suffixes (sub-tasks) and tasks in which the probability rose, and whether the theorem's
  implication holds: wherever every p_t from t on rose or stayed, so did P_t.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.methods.single_turn import minimal_success
from agentrl.rollout.base import Limits, Stage
from agentrl.rollout.course import advance
from agentrl.rollout.play import Play, demonstrate
from agentrl.rollout.single_turn import Planner
from agentrl.run import player
from agentrl.types import Stop, Task


@dataclass
class Suffix:
    """One expert state: p_t, P_t, and of ``plays`` sampled from it how many succeed in minimal length, and at all.

    ``left``: the expert's actions from here on. ``unique``: is its rest the only shortest plan? None where the
    environment does not tell.
    """

    task: str
    turn: int
    p: float
    chance: float
    left: int
    unique: bool | None
    plays: int = 0
    minimal: int = 0
    successes: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="model before training")
    parser.add_argument("after", help="model after training")
    parser.add_argument("overrides", nargs="*", help="as for `agentrl eval`")
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--plays", type=int, default=16, help="sampled plays from each state")
    parser.add_argument("--out", type=Path, help="also write all numbers as JSON here")
    options = parser.parse_args()
    found = {
        name: measure(path, options.overrides, options.tasks, options.plays)
        for name, path in (("before", options.before), ("after", options.after))
    }
    print(table(found["before"], found["after"]))
    if options.out:
        told = {name: [vars(suffix) for suffix in suffixes] for name, suffixes in found.items()}
        options.out.write_text(json.dumps(told, indent=1))


def measure(path: str, overrides: Sequence[str], tasks: int, plays: int) -> list[Suffix]:
    """Every expert state of the first tasks of the panel, in order."""
    cfg = config.compose("eval", [f"model.path={path}", *overrides, f"eval.tasks={tasks}", "log=files"])
    config.check(cfg)
    one = player(cfg)
    limits = Limits(one.evaluate.max_turns, one.evaluate.action_tokens, one.evaluate.context_tokens)
    suffixes: list[Suffix] = []
    running: list[tuple[Suffix, int, Play]] = []
    for task in one.panel.tasks:
        states, branches = expert_states(one.stage, task, limits)
        for state, branch in zip(states, branches, strict=True):
            running += [(state, len(states), branch.branch(("theory", state.turn, i))) for i in range(plays)]
            branch.leave()
        suffixes += states
    advance(one.stage, [play for *_, play in running], 1.0, one.seed, 0)
    for suffix, length, play in running:
        record = play.record()
        suffix.plays += record.stop is not Stop.env_error
        suffix.successes += record.success
        suffix.minimal += record.success and len(record.turns) == length
    one.close()
    return suffixes


def expert_states(stage: Stage, task: Task, limits: Limits) -> tuple[list[Suffix], list[Play]]:
    """The states of the expert's play with their probabilities, and a play that stands in each; none if it fails."""
    play, branches = demonstrate(stage, task, limits, 0.0, 0, branches=True)
    record = play.record()
    if not record.success:
        for branch in branches:
            branch.leave()
        return [], []
    sequences = [turn.prompt_ids + turn.action_ids for turn in record.turns]
    scores = stage.engine.logprobs(sequences)
    ps = [math.exp(sum(s[-len(t.action_ids) :])) for s, t in zip(scores, record.turns, strict=True)]
    chances = minimal_success(ps)
    alone = unique(stage, branches)
    rows = zip(ps, chances, alone, strict=True)
    return [Suffix(task.id, t, p, chance, len(ps) - t, one) for t, (p, chance, one) in enumerate(rows)], branches


def unique(stage: Stage, branches: Sequence[Play]) -> list[bool | None]:
    """Is there one shortest plan alone from each state of an expert's play?"""
    if not isinstance(stage.env, Planner):
        return [None] * len(branches)
    found: list[bool | None] = []
    for branch in reversed(branches):
        alone = len(stage.env.optimal_actions(branch.episode)[0]) == 1
        found.append(alone and (not found or found[-1] is True))
    return found[::-1]


def table(before: Sequence[Suffix], after: Sequence[Suffix]) -> str:
    """The report for people."""
    lines = ["                     expert's action   product   minimal success   success   states  plays"]
    for name, suffixes in (("before", before), ("after", after)):
        for part, chosen in (("all states", suffixes), ("start states", [s for s in suffixes if s.turn == 0])):
            lines.append(
                f"{name:<7}{part:<14}{mean(s.p for s in chosen):>14.3f}{mean(s.chance for s in chosen):>11.3f}"
                f"{share(chosen, 'minimal'):>16.3f}{share(chosen, 'successes'):>12.3f}{len(chosen):>8}"
                f"{sum(s.plays for s in chosen):>8}"
            )
        lines.append(f"{name:<7}all plans:    {deviation(suffixes)}")
        if suffixes and suffixes[0].unique is not None:
            lines.append(f"{name:<7}unique plans: {deviation([s for s in suffixes if s.unique])}")
    return "\n".join([*lines, *comparison(before, after), *subtasks(before, after)])


def subtasks(before: Sequence[Suffix], after: Sequence[Suffix]) -> list[str]:
    """One line for each number of actions left."""
    lines = ["actions left   states   before: product  minimal  success   after: product  minimal  success"]
    for left in sorted({s.left for s in before}):
        rows = [[s for s in suffixes if s.left == left] for suffixes in (before, after)]
        told = [(mean(s.chance for s in row), share(row, "minimal"), share(row, "successes")) for row in rows]
        (b, bm, bs), (a, am, as_) = told
        lines.append(f"{left:>12}{len(rows[0]):>9}{b:>18.3f}{bm:>9.3f}{bs:>9.3f}{a:>17.3f}{am:>9.3f}{as_:>9.3f}")
    return lines


def deviation(suffixes: Sequence[Suffix]) -> str:
    """How far the measured minimal successes are from the products, in standard errors (start states alone: they are
    independent of each other)."""
    starts = [s for s in suffixes if s.turn == 0 and s.plays]
    expected = sum(s.plays * s.chance for s in starts)
    spread = math.sqrt(sum(s.plays * s.chance * (1.0 - s.chance) for s in starts)) or 1.0
    got = sum(s.minimal for s in starts)
    above = sum(s.successes for s in starts)
    return f"measured {got} minimal successes from start, product says {expected:.1f} +- {spread:.1f}; {above} in all"


def comparison(before: Sequence[Suffix], after: Sequence[Suffix]) -> list[str]:
    """Where probabilities rose, and the theorem's implication."""
    pairs = list(zip(before, after, strict=True))
    starts = [(b, a) for b, a in pairs if b.turn == 0]
    lines = [
        f"rose or stayed: {rate(a.p >= b.p for b, a in pairs):.0%} of states, "
        f"{rate(a.chance >= b.chance for b, a in pairs):.0%} of suffixes, "
        f"{rate(a.chance >= b.chance for b, a in starts):.0%} of tasks"
    ]
    premise = broken = 0
    rising: dict[str, bool] = {}
    for b, a in reversed(pairs):
        rising[b.task] = rising.get(b.task, True) and a.p >= b.p
        premise += rising[b.task]
        broken += rising[b.task] and a.chance < b.chance * (1.0 - 1e-9)
    return [*lines, f"theorem: {premise} suffixes whose every p rose or stayed; product fell in {broken} of them"]


def mean(values: Any) -> float:
    listed = list(values)
    return statistics.fmean(listed) if listed else 0.0


def rate(values: Any) -> float:
    return mean(float(value) for value in values)


def share(suffixes: Sequence[Suffix], name: str) -> float:
    plays = sum(s.plays for s in suffixes)
    return sum(getattr(s, name) for s in suffixes) / plays if plays else 0.0


if __name__ == "__main__":
    main()
