"""What a sweep tries: the combinations of the command line alone, or a search space in W&B's schema.

A search space (conf/sweep/NAME.yaml, or a file of yours) holds ``method``, ``metric``, ``parameters`` and ``run_cap``
as Weights & Biases reads them, so one file serves ``agentrl sweep`` (W&B decides) and ``agentrl train -m sweep=NAME``
(we decide, without an account): ``grid`` is every combination, ``random`` independent draws, ``bayes`` Optuna's TPE
sampler (Watanabe 2023, arXiv:2304.11127). Draws depend on the trial's number alone, so the same command makes the same
trials.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from agentrl.errors import ConfigError
from agentrl.seeds import derive

Params = dict[str, Any]
DRAWN = ("int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values")
KNOWN = ("constant", "categorical", *DRAWN)


@dataclass(frozen=True, slots=True)
class Trial:
    """Values that were tried, and what the metric came to (None: not known, or every run failed)."""

    params: Params
    value: float | None = None


@dataclass(frozen=True)
class Grid:
    """The command line's own combinations, and nothing else."""

    def next(self, known: Sequence[Trial], room: int) -> list[Params]:
        return [] if known else [{}]


class How(StrEnum):
    """How the next values are chosen, in W&B's words."""

    grid = auto()
    random = auto()
    bayes = auto()


class Goal(StrEnum):
    """What is better."""

    maximize = auto()
    minimize = auto()


@dataclass
class Metric:
    """What is compared: a name of the metric table; its last value of a run counts."""

    name: str = "after/sampled_success"
    goal: Goal = Goal.maximize


@dataclass(frozen=True)
class Search:
    """The schema of conf/sweep; W&B's own (https://docs.wandb.ai/guides/sweeps/sweep-config-keys).

    method       grid, random or bayes
    metric       ``name`` and ``goal``
    parameters   word of the command line -> ``value``, ``values``, or ``distribution`` with its limits
    run_cap      trials of random and bayes; of a grid at most so many; 0: all (grid)
    """

    method: How
    parameters: dict[str, Any]
    metric: Metric = field(default_factory=Metric)
    run_cap: int = 0

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ConfigError("sweep.parameters: empty; give at least one word of the command line and its values")
        found = self.axes()
        if self.method is How.grid:
            if drawn := [axis.word for axis in found if axis.kind in DRAWN and axis.kind != "int_uniform"]:
                raise ConfigError(
                    f"sweep.parameters.{drawn[0]}: a grid needs values, got a distribution; list values, or take "
                    "method: random"
                )
        elif self.run_cap < 1:
            raise ConfigError(
                f"sweep.run_cap: got {self.run_cap}, expected the number of trials of method: {self.method}"
            )

    def axes(self) -> list[Axis]:
        """The parameters, nested ones under dotted names."""
        return [Axis.read(word, node) for word, node in flattened(self.parameters)]

    def next(self, known: Sequence[Trial], room: int) -> list[Params]:
        """The trials to run now, at most about ``room`` at a time; empty when the search is over.

        Grid and random know all of theirs from the start; bayes asks for ``room`` and waits for what they come to.
        """
        if self.method is How.grid:
            return self._grid() if not known else []
        left = self.run_cap - len(known)
        if self.method is How.random:
            return [self._drawn(number) for number in range(len(known), self.run_cap)]
        return self._asked(known, min(max(room, 1), left)) if left > 0 else []

    def _grid(self) -> list[Params]:
        axes = self.axes()
        every = [
            dict(zip([a.word for a in axes], found, strict=True)) for found in itertools.product(*map(Axis.all, axes))
        ]
        return every[: self.run_cap or None]

    def _drawn(self, number: int) -> Params:
        return {axis.word: axis.draw(random.Random(derive(0, "sweep", number, axis.word))) for axis in self.axes()}

    def _asked(self, known: Sequence[Trial], count: int) -> list[Params]:
        """What Optuna would try next, given everything known. Raises ConfigError without Optuna."""
        try:
            import optuna
        except ImportError:
            raise ConfigError(
                "sweep.method: bayes needs Optuna; pip install 'agentrl[sweeps]', or take method: random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        axes = self.axes()
        space = {axis.word: axis.distribution() for axis in axes}
        sampler = optuna.samplers.TPESampler(seed=derive(0, "bayes", len(known)) % 2**32, constant_liar=True)
        better: Any = self.metric.goal.value
        study = optuna.create_study(direction=better, sampler=sampler)
        fail = optuna.trial.TrialState.FAIL
        for trial in known:
            inside = {axis.word: axis.coded(trial.params[axis.word]) for axis in axes}
            how = {"state": fail} if trial.value is None else {"value": trial.value}
            study.add_trial(optuna.trial.create_trial(params=inside, distributions=space, **how))
        asked = [study.ask(space).params for _ in range(count)]
        return [{axis.word: axis.decoded(found[axis.word]) for axis in axes} for found in asked]


@dataclass(frozen=True)
class Axis:
    """One parameter: its word, the kind of its distribution, the values or limits."""

    word: str
    kind: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    q: float | None = None
    weights: tuple[float, ...] | None = None

    @classmethod
    def read(cls, word: str, node: Mapping[str, Any]) -> Axis:
        """Raises ConfigError naming the parameter."""
        where = f"sweep.parameters.{word}"
        if "value" in node:
            return cls(word, "constant", (node["value"],))
        if "values" in node:
            values, weights = tuple(node["values"]), node.get("probabilities")
            if not values or (weights is not None and len(weights) != len(values)):
                raise ConfigError(f"{where}: got {len(values)} values, expected one or more, each with its probability")
            return cls(word, "categorical", values, weights=tuple(weights) if weights else None)
        if "min" not in node or "max" not in node:
            raise ConfigError(f"{where}: expected value, values, or min and max; got {', '.join(node) or 'nothing'}")
        low, high = node["min"], node["max"]
        whole = isinstance(low, int) and isinstance(high, int)
        kind = str(node.get("distribution", "int_uniform" if whole else "uniform"))
        if kind not in DRAWN:
            raise ConfigError(f"{where}.distribution: got {kind}, expected one of {', '.join(KNOWN)}")
        if kind == "log_uniform":  # W&B's limits are exponents of e here
            low, high, kind = math.exp(low), math.exp(high), "log_uniform_values"
        if not low < high or (kind == "log_uniform_values" and low <= 0):
            raise ConfigError(f"{where}: got min {low:g} and max {high:g}, expected min < max, above 0 for logarithms")
        step = node.get("q", 1.0) if kind == "q_uniform" else None
        return cls(word, kind, low=low, high=high, q=step)

    def all(self) -> Sequence[Any]:
        """Every value, for a grid."""
        return self.values or list(range(int(self.low), int(self.high) + 1))

    def draw(self, rng: random.Random) -> Any:
        """One value."""
        if self.values:
            return rng.choices(self.values, self.weights)[0]
        if self.kind == "int_uniform":
            return rng.randint(int(self.low), int(self.high))
        if self.kind == "log_uniform_values":
            return _rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        value = rng.uniform(self.low, self.high)
        return _rounded(round(value / self.q) * self.q if self.q else value)

    def distribution(self) -> Any:
        """The same for Optuna; values of a list stand as their JSON, since Optuna takes only plain ones."""
        from optuna import distributions

        if self.values:
            return distributions.CategoricalDistribution([self.coded(value) for value in self.values])
        if self.kind == "int_uniform":
            return distributions.IntDistribution(int(self.low), int(self.high))
        log = self.kind == "log_uniform_values"
        return distributions.FloatDistribution(self.low, self.high, log=log, step=self.q)

    def coded(self, value: Any) -> Any:
        return json.dumps(value) if self.values else value

    def decoded(self, value: Any) -> Any:
        return json.loads(value) if self.values else _rounded(value) if isinstance(value, float) else value


def flattened(parameters: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Parameters inside of parameters (``learner: {parameters: {lr: …}}``) as dotted words. Raises ConfigError."""
    for name, node in parameters.items():
        word = f"{before}{name}"
        if not isinstance(node, Mapping):
            raise ConfigError(f"sweep.parameters.{word}: got {node!r}, expected value:, values:, or min: and max:")
        if "parameters" in node:
            yield from flattened(node["parameters"], f"{word}.")
        else:
            yield word, node


def words(params: Params) -> list[str]:
    """Values as words of the command line."""
    return [f"{word}={_text(value)}" for word, value in params.items()]


def _text(value: Any) -> str:
    """A value as Hydra reads it; a text with special characters in quotes."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w./:@%+-]+", value)
    return str(value) if plain else json.dumps(value)


def _rounded(value: float) -> float:
    """Six digits are enough, and read well."""
    return float(f"{value:.6g}")
