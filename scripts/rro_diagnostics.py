"""What RRO does to exploration: how often rewards rise along a trajectory, and how many candidates that takes.

    python scripts/rro_diagnostics.py RUN... --tasks 100 --picture candidates.png

Each RUN is the folder of a finished run of one recipe, one for each seed. The policy that the run started from (its
warm start) and the one it ended with explore the first tasks of its held-out panel by reward-rising sampling, with the
run's own tie rule, cap and m where it explored so itself, else with those of conf/rollout/rising.yaml. Printed are

- the share of rising steps by stage: the steps of a trajectory in thirds; a step rises when the first candidate, which
  nobody selected, has r_t > r_{t-1}. Means over tasks, before -> after, with the 95 % interval of the difference over
  runs and tasks. The paper (by a secondary account) gives the final stage of InterCode-SQL: 40.87 -> 45.29 %;
- mean and most candidates of a step, the share of steps in which none rose, episodes;
- the histogram of candidates, also drawn into the picture.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from agentrl import checkpoint, config
from agentrl.config import Config
from agentrl.errors import AgentRLError, ConfigError
from agentrl.log.figures import frame
from agentrl.measure import THIRDS, rising_shares
from agentrl.rollout.rising import Rising
from agentrl.run import player
from agentrl.stats import difference, over_seeds_and_tasks
from agentrl.types import Group

PAPER = {("intercode_sql", "final"): "40.87 -> 45.29"}
MOMENTS = ("before", "after")


@dataclass
class Explored:
    """All runs at one moment: ``rising[third][run][task]`` in percent, and of every step the candidates drawn."""

    rising: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {third: [] for third in THIRDS})
    drawn: list[int] = field(default_factory=list)
    stuck: list[bool] = field(default_factory=list)
    episodes: int = 0

    def add(self, groups: Sequence[Group]) -> None:
        """The exploration of one run."""
        shares = {task: rising_shares(found) for task, found in by_task(groups).items()}
        for third, runs in self.rising.items():
            runs.append({task: 100 * found[third] for task, found in shares.items() if third in found})
        steps = [group.explored for group in groups if group.explored is not None]
        self.drawn += [step.drawn for step in steps]
        self.stuck += [not step.rose for step in steps]
        self.episodes += sum(group.spent.episodes for group in groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks, at most those of the panel")
    parser.add_argument("--picture", type=Path, help="draw the histogram of candidates here")
    options = parser.parse_args()
    found = {moment: Explored() for moment in MOMENTS}
    try:
        for run in options.runs:
            cfg, models = read_run(run)
            for moment in MOMENTS:
                found[moment].add(explore(cfg, models[moment], options.tasks))
    except AgentRLError as error:
        parser.exit(2, f"rro_diagnostics: {error}\n")
    print(table(found, str(cfg.choices.env)))
    if options.picture:
        picture(found, options.picture, f"{cfg.choices.method} on {cfg.choices.env}")


def read_run(run: Path) -> tuple[Config, dict[str, str]]:
    """The config of a finished run, and the models ``before`` and ``after``. Raises ConfigError, CheckpointError."""
    cfg = config.load(run / "config.yaml")
    told = run / "summary.json"
    if not told.is_file():
        raise ConfigError(f"{run}: the run is not finished (it has no summary.json)")
    start = json.loads(told.read_text(encoding="utf-8"))["facts"].get("warmstart")
    before = f"{start['path']}/model" if start else str(cfg.model.path)
    return cfg, {"before": before, "after": str(checkpoint.latest(run, print).model)}


def explore(cfg: Config, model: str, tasks: int) -> list[Group]:
    """Reward-rising exploration of the first held-out tasks of a run's panel by another model than its own."""
    one = player(config.changed(cfg, {"model.path": model, "eval.tasks": tasks}))
    groups = rising(cfg).play(one.stage, one.panel.tasks, seed=one.seed, step=0)
    one.close()
    return groups


def rising(cfg: Config) -> Rising:
    """The run's own rollout, or the default one with the run's limits."""
    own = config.build(cfg.rollout)
    if isinstance(own, Rising):
        return own
    node = config.compose("train", ["rollout=rising"]).rollout
    limits = ("max_turns", "action_tokens", "context_tokens")
    made: Rising = config.build(config.changed(node, {name: cfg.rollout[name] for name in limits}))
    return made


def by_task(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each task, its plays first."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.task.id, []).append(group)
    return found


def table(found: dict[str, Explored], env: str) -> str:
    """The report for people."""
    before, after = (found[moment] for moment in MOMENTS)
    lines = ["rising steps, %   before   after    difference (95 %)   tasks   paper"]
    for third in THIRDS:
        old, new = before.rising[third], after.rising[third]
        change = difference(new, old)
        means = [over_seeds_and_tasks(values).mean for values in (old, new)]
        told = f"{change.mean:+.1f}" if change.half is None else f"{change.mean:+.1f} +- {change.half:.1f}"
        tasks = f"{sum(map(len, old))}/{sum(map(len, new))}"
        lines.append(f"{third:<16}{means[0]:>8.1f}{means[1]:>8.1f}{told:>21}{tasks:>10}  {PAPER.get((env, third), '')}")
    lines += ["", "                  before   after"]
    for name, of in {
        "candidates, mean": lambda x: f"{fmean(x.drawn):.2f}",
        "candidates, most": lambda x: f"{max(x.drawn)}",
        "none rose, %": lambda x: f"{100 * fmean(x.stuck):.1f}",
        "steps": lambda x: f"{len(x.drawn)}",
        "episodes": lambda x: f"{x.episodes}",
    }.items():
        lines.append(f"{name:<16}{of(before):>8}{of(after):>8}")
    lines.append("steps by candidates, %")
    for count, old_share, new_share in histogram(before, after):
        lines.append(f"{count:<16}{old_share:>8.1f}{new_share:>8.1f}")
    return "\n".join(lines)


def histogram(before: Explored, after: Explored) -> list[tuple[int, float, float]]:
    """(candidates, percent of the steps that drew so many before, after)."""
    counts = [Counter(one.drawn) for one in (before, after)]
    most = max(max(count) for count in counts)
    shares = [[100 * count[n] / count.total() for count in counts] for n in range(1, most + 1)]
    return [(n, *share) for n, share in enumerate(shares, 1)]  # type: ignore[misc]


def picture(found: dict[str, Explored], path: Path, title: str) -> None:
    """The histogram as bars."""
    figure, axes = frame(5.0, 3.0)
    bars = histogram(*(found[moment] for moment in MOMENTS))
    for number, moment in enumerate(MOMENTS):
        mean = fmean(found[moment].drawn)
        places = [n + 0.4 * (number - 0.5) for n, *_ in bars]
        axes.bar(places, [bar[1 + number] for bar in bars], 0.4, label=f"{moment} training, mean {mean:.2f}")
    axes.set(xlabel="candidates drawn in a step", ylabel="steps, %", title=title, xticks=[n for n, *_ in bars])
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
