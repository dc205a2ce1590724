"""Planners side by side, as in RLTR's table 1: completeness of their calls, and what a summarizer makes of them.

    python scripts/rltr_report.py cold=outputs/warmstarts/<hash>/model rltr=RUN/checkpoints/step_000040/model \\
        --set env=tool_planning env.difficulty=normal eval.tasks=200

Each NAME=MODEL plays the panel greedily; the row `direct` makes no call at all. The answers are written by the offline
summarizer, or by the model given as --summarizer (the paper: the untrained model). Columns, in percent:

    Com    plays that made all required calls
    Com~   mean vote of the checker that --set checker=.. names
    Match  mean score of the answer against the reference, by the judge that --set judge=.. names
    Hel    answers that commit themselves to something
    Rel    calls made that the query required

Com and Match are the paper's; Hel and Rel are offline stand-ins of ours for its judged helpfulness and relevance. Last
come the mean numbers of calls and of turns.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

from agentrl import config
from agentrl.completeness import Exact, calls_of, scores
from agentrl.engine.client import EngineClient
from agentrl.rollout.independent import Independent
from agentrl.run import Player, player
from agentrl.summarizer import UNKNOWN, Rules, Summarizer, Written
from agentrl.types import Stop, Task, Trajectory

COLUMNS = ("Com", "Com~", "Match", "Hel", "Rel", "calls", "turns")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--set", nargs="*", default=[], metavar="WORD=VALUE", help="overrides of `agentrl train`")
    parser.add_argument("--summarizer", default="rules", help="rules, or a model (folder or name)")
    options = parser.parse_args()
    named = dict(word.partition("=")[::2] for word in options.models)
    writer = summarizer(options.summarizer, options.set)
    print(f"{'':<16}" + "".join(f"{name:>8}" for name in COLUMNS))
    for row, path in {"direct": "", **named}.items():
        one = open_player(path or next(iter(named.values())), options.set)
        found = numbers(one.cfg, play(one) if path else silent(one.panel.tasks), writer)
        print(f"{row:<16}" + "".join(f"{value:>8.1f}" for value in found))
        one.close()


def open_player(path: str, overrides: Sequence[str]) -> Player:
    """Environment, engine and panel with this model. Composed like a training run, which knows checker and judge."""
    cfg = config.compose("train", [f"model.path={path}", "env=tool_planning", *overrides, "log=files"])
    config.check(cfg)
    return player(cfg)


def summarizer(name: str, overrides: Sequence[str]) -> Summarizer:
    """The offline one, or a model of this process."""
    if name == "rules":
        return Rules(invents=True)
    one = open_player(name, overrides)
    return Written(EngineClient(one.engine, one.stage.chat, one.evaluate.action_tokens))


def play(one: Player) -> list[Trajectory]:
    """The panel, greedily; plays that the environment failed are left out."""
    e = one.evaluate
    rollout = Independent(1, 0.0, e.max_turns, e.action_tokens, e.context_tokens, e.max_failed, 0)
    groups = rollout.play(one.stage, one.panel.tasks, seed=one.seed, step=0)
    return [group.trajectories[0] for group in groups if group.valid]


def silent(tasks: Sequence[Task]) -> list[Trajectory]:
    """Plays without any call."""
    return [Trajectory(task, 0, (), Stop.done) for task in tasks]


def numbers(cfg: Any, plays: Sequence[Trajectory], writer: Summarizer) -> list[float]:
    """One row of the table."""
    checker, judge = config.build(cfg.checker), config.build(cfg.judge)
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for p in plays:
        calls, data = calls_of(p), p.task.data
        text = writer.answer(p.task, calls)
        columns["Com"].append(100 * Exact().check(p.task, calls).share)
        columns["Com~"].append(100 * checker.check(p.task, calls).share)
        columns["Match"].append(100 * judge.verdict(data["query"], data["reference"], text).score)
        columns["Hel"].append(100 * float(bool(text) and text != UNKNOWN))
        columns["Rel"].append(100 * len(scores(p.task, calls).pairs) / len(calls) if calls else 0.0)
        columns["calls"].append(float(len(calls)))
        columns["turns"].append(float(len(p.turns)))
    return [statistics.fmean(values) for values in columns.values()]


if __name__ == "__main__":
    main()
