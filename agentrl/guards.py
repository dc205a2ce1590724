"""Guards of a running training: alarms for what goes wrong slowly, and a batch kept for what goes wrong at once.

An alarm is a figure beyond its threshold in ``patience`` batches running: a line for the person watching, a line of
``alarms.jsonl`` and a metric ``alarm/<name>``, at most once in ``quiet`` batches. It ends the run where ``stop`` names
it. What to do about each: docs/troubleshooting.md.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agentrl.errors import ConfigError
from agentrl.log.files import read_lines
from agentrl.ranges import require_least, require_shares
from agentrl.types import Group

FAINT = 0.05  # nats; a start below it says nothing of how much actions depended on the task


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm: it rings ``above`` its threshold or below it; ``relative``: the threshold is a multiple of the figure
    in the first batches; ``unsolved``: a batch whose success reaches ``Guards.solved`` is no reason for it."""

    name: str
    says: str
    remedy: str
    above: bool = True
    relative: bool = False
    unsolved: bool = False


RULES = (
    Rule(
        "entropy_low", "the policy has all but stopped choosing (entropy, nat per token)",
        "lower learner.lr, raise method.clip_high or method.entropy_coef", False, True, True,
    ),
    Rule(
        "entropy_high", "the policy dissolves (entropy, nat per token)",
        "lower learner.lr or method.entropy_coef, or add method.kl_coef", True, True,
    ),
    Rule(
        "sameness", "actions hardly depend on the task any more (nats between tokens and task)",
        "lower learner.lr, add method.kl_coef, or take a reward that tells right answers apart", False, True, True,
    ),
    Rule(
        "mismatch", "learner and engine differ (mean factor per token)",
        "engine.dtype=float32, or learner.old_logprobs=recompute learner.tis_cap=2.0",
    ),
    Rule(
        "mismatch_kl", "learner and engine differ (KL, nat per token)",
        "engine.dtype=float32, or learner.old_logprobs=recompute learner.tis_cap=2.0",
    ),
    Rule(
        "truncated", "episodes are cut by a limit (share)",
        "raise env.max_turns, model.context_tokens or model.action_tokens, or take context=window", True, False, True,
    ),
    Rule(
        "failed", "episodes fail inside the environment (share)",
        "mend it: agentrl env check, and the errors in trajectories.jsonl",
    ),
    Rule(
        "flat", "groups teach nothing, all their members earned the same (share)",
        "take method=vspo or dapo, a reward with parts, larger groups, or a warm start", True, False, True,
    ),
    Rule(
        "idle", "engine or learner waits for the other (share of the time)",
        "learner waits: schedule=flowing, a larger engine.max_batch, cluster=processes; engine waits: a larger "
        "learner.micro_tokens; either: max_staleness=1",
    ),
    Rule(
        "slower", "a sampled token takes longer than at the start (seconds)",
        "look at rollout/turns and prompt lengths, at memory and at other programs on the machine", True, True,
    ),
)  # fmt: skip
NAMES = tuple(rule.name for rule in RULES)  # in the metric table, too: log.metrics.ALARMS


@dataclass(frozen=True)
class Guards:
    """The schema of the node ``guards`` of conf/train.yaml, where every threshold has its unit and source."""

    baseline: int
    patience: int
    quiet: int
    solved: float
    entropy_low: float
    entropy_high: float
    sameness: float
    mismatch: float
    mismatch_kl: float
    truncated: float
    failed: float
    flat: float
    idle: float
    slower: float
    stop: list[str]

    def __post_init__(self) -> None:
        require_least(self, "guards", baseline=1, patience=1, quiet=1, **dict.fromkeys(NAMES, 0.0))
        require_shares(self, "guards", "truncated", "failed", "flat", "idle")
        unknown = [name for name in self.stop if name not in NAMES]
        if unknown:
            raise ConfigError(f"guards.stop: got {', '.join(unknown)}, expected some of {', '.join(NAMES)}")

    @property
    def thresholds(self) -> Mapping[str, float]:
        """By the name of their alarm; of relative ones as multiples of the start."""
        return {
            "entropy_low": self.entropy_low, "entropy_high": self.entropy_high, "sameness": self.sameness,
            "mismatch": self.mismatch, "mismatch_kl": self.mismatch_kl, "truncated": self.truncated,
            "failed": self.failed, "flat": self.flat, "idle": self.idle, "slower": self.slower,
        }  # fmt: skip

    def begin(self, folder: Path, step: int = 0) -> Guard:
        """The guard of a run that has made ``step`` steps; what its folder tells of them is taken up."""
        guard = Guard(self, folder)
        guard.take_up(step)
        return guard


@dataclass(frozen=True, slots=True)
class Alarm:
    """What rang: the figure and its threshold, both in the unit of the rule."""

    step: int
    alarm: str
    figure: float
    limit: float
    says: str
    remedy: str

    def __str__(self) -> str:
        side = "at most" if self.figure > self.limit else "at least"
        return f"alarm {self.alarm}: {self.says}: {self.figure:.3g}, expected {side} {self.limit:.3g}; {self.remedy}"


@dataclass
class Guard:
    """Looks at every batch."""

    guards: Guards
    folder: Path
    first: list[Mapping[str, float]] = field(default_factory=list)  # figures of the first batches
    running: dict[str, int] = field(default_factory=dict)  # batches running in which the figure was beyond
    silent: dict[str, int] = field(default_factory=dict)  # batches left in which the alarm stays silent

    def take_up(self, step: int) -> None:
        """Go on after ``step`` as if this guard had seen the batches that metrics.jsonl tells of; alarms of later steps
        are dropped."""
        for line in read_lines(self.folder / "metrics.jsonl"):
            if line["step"] <= step and "rollout/success" in line:
                numbers = {name: float(value) for name, value in line.items()}  # what is not finite is written as text
                self._judge(int(line["step"]), numbers, line.get("rollout/used_zero_advantage"))
        if self.path.exists():
            kept = [line for line in read_lines(self.path) if line["step"] <= step]
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    @property
    def path(self) -> Path:
        return self.folder / "alarms.jsonl"

    def look(self, step: int, numbers: Mapping[str, float], used: Sequence[Group]) -> list[Alarm]:
        """The alarms of one batch, by its metrics and the groups that were learned from; those are written down."""
        found = self._judge(step, numbers, flat_share(used))
        if found:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(alarm)) + "\n" for alarm in found)
        return found

    def _judge(self, step: int, numbers: Mapping[str, float], flat: float | None) -> list[Alarm]:
        now = figures(numbers, flat)
        solved = numbers.get("rollout/success", 0.0) >= self.guards.solved
        found = [alarm for rule in RULES if (alarm := self._ask(rule, step, now, solved)) is not None]
        if len(self.first) < self.guards.baseline:
            self.first.append(now)
        return found

    def _ask(self, rule: Rule, step: int, now: Mapping[str, float], solved: bool) -> Alarm | None:
        self.silent[rule.name] = max(0, self.silent.get(rule.name, 0) - 1)
        limit = self._limit(rule)
        figure = now.get(rule.name)
        if limit is None or figure is None or (solved and rule.unsolved):
            self.running[rule.name] = 0
            return None
        beyond = figure > limit if rule.above else figure < limit
        self.running[rule.name] = self.running.get(rule.name, 0) + 1 if beyond else 0
        if self.running[rule.name] < self.guards.patience or self.silent[rule.name]:
            return None
        self.silent[rule.name] = self.guards.quiet
        return Alarm(step, rule.name, figure, limit, rule.says, rule.remedy)

    def _limit(self, rule: Rule) -> float | None:
        """The threshold in the unit of the figure; None: off (0), or not known yet."""
        limit = self.guards.thresholds[rule.name]
        if not limit or not rule.relative:
            return limit or None
        start = [figures[rule.name] for figures in self.first if rule.name in figures]
        if len(self.first) < self.guards.baseline or not start:
            return None
        mean = statistics.fmean(start)
        return None if rule.name == "sameness" and mean < FAINT else limit * mean


def figures(numbers: Mapping[str, float], flat: float | None) -> dict[str, float]:
    """What the rules look at, by their names, from the metrics of a batch; those that are not known are left out."""
    found = {name: numbers.get(metric) for name, metric in METRICS.items()}
    if "rollout/staleness" not in numbers:  # no engine played: demonstrations say nothing of the policy's own choices
        found |= dict.fromkeys(("entropy_low", "entropy_high", "sameness", "slower", "truncated"))
        flat = None
    episodes = numbers.get("rollout/episodes", 0.0)
    idle = [numbers[name] for name in ("speed/engine_idle", "speed/learner_idle") if name in numbers]
    found |= {
        "failed": numbers["rollout/failed"] / episodes if episodes else None,
        "flat": flat,
        "idle": max(idle, default=None),
        "slower": 1.0 / numbers["speed/tokens"] if numbers.get("speed/tokens") else None,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


METRICS = {
    "entropy_low": "rollout/entropy",
    "entropy_high": "rollout/entropy",
    "sameness": "rollout/task_information",
    "mismatch": "learner/mismatch_spread",
    "mismatch_kl": "learner/mismatch_kl",
    "truncated": "rollout/truncated",
}


def flat_share(used: Sequence[Group]) -> float | None:
    """Share of the groups of two plays or more whose members all earned the same; None where there are none."""
    groups = [group for group in used if len(group.valid) > 1]
    return sum(len(set(group.rewards)) == 1 for group in groups) / len(groups) if groups else None
