"""Search spaces in W&B's schema: what is drawn, what is refused, and that W&B's own check takes the same file."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from agentrl import config
from agentrl.config import CONF
from agentrl.errors import ConfigError
from agentrl.search import Goal, Grid, How, Metric, Search, Trial, flattened, words

LR = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}
SPACES = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml") if path.stem != "grid")


def test_a_grid_is_every_combination() -> None:
    space = Search(How.grid, {"a": {"values": [1, 2]}, "b": {"min": 3, "max": 5}, "c": {"value": "x"}})
    found = space.next([], 1)
    assert [(t["a"], t["b"], t["c"]) for t in found] == [(a, b, "x") for a in (1, 2) for b in (3, 4, 5)]
    assert space.next([Trial(found[0])], 1) == []
    assert len(Search(How.grid, space.parameters, run_cap=4).next([], 1)) == 4
    assert Grid().next([], 1) == [{}]
    assert Grid().next([Trial({})], 1) == []


def test_random_trials_are_the_same_each_time_and_spread_as_they_should() -> None:
    parameters = {
        "lr": LR,
        "n": {"min": 1, "max": 3},
        "u": {"min": 0.0, "max": 2.0},
        "q": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25},
        "w": {"values": ["a", "b"], "probabilities": [0.9, 0.1]},
        "l": {"distribution": "log_uniform", "min": -2, "max": 0},
    }
    space = Search(How.random, parameters, run_cap=400)
    found = space.next([], 1)
    assert found == space.next([], 7)
    assert Search(How.random, parameters, run_cap=402).next([Trial(t) for t in found], 1)[0] not in found
    logs = [math.log10(trial["lr"]) for trial in found]
    assert -4 <= min(logs) < max(logs) <= -1
    assert statistics.fmean(logs) == pytest.approx(-2.5, abs=0.15)  # 3 / sqrt(12 * 400) = 0.043
    assert {trial["n"] for trial in found} == {1, 2, 3}
    assert statistics.fmean(trial["u"] for trial in found) == pytest.approx(1.0, abs=0.1)
    assert {trial["q"] for trial in found} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert sum(trial["w"] == "a" for trial in found) / 400 == pytest.approx(0.9, abs=0.06)
    assert all(math.exp(-2) * 0.999 <= trial["l"] <= 1 for trial in found)


@pytest.mark.parametrize("goal", list(Goal))
def test_optuna_finds_the_better_half(goal: Goal) -> None:
    """A parabola around lr = 0.01 and the letter b: after 30 trials the last ten are nearer than the first ten."""
    pytest.importorskip("optuna")
    space = Search(
        How.bayes, {"lr": LR, "w": {"values": ["a", [1, 2]]}}, Metric("after/sampled_success", goal), run_cap=30
    )
    sign = 1 if goal is Goal.maximize else -1
    known: list[Trial] = []
    while batch := space.next(known, 2):
        assert len(batch) <= 2
        for params in batch:
            loss = (math.log10(params["lr"]) + 2) ** 2 + (params["w"] == "a")
            known.append(Trial(params, None if len(known) == 3 else -sign * loss))
    assert len(known) == 30
    values = [-sign * trial.value for trial in known if trial.value is not None]
    assert statistics.fmean(values[-10:]) < 0.6 * statistics.fmean(values[:10])
    assert [1, 2] in [trial.params["w"] for trial in known]


def test_words_of_the_command_line() -> None:
    given = {"learner.lr": 0.001, "method": "vspo", "x": True, "y": None, "z": "a,b", "l": [1, 2]}
    assert words(given) == ["learner.lr=0.001", "method=vspo", "x=true", "y=null", 'z="a,b"', "l=[1, 2]"]


def test_parameters_inside_of_parameters() -> None:
    nested = {"learner": {"parameters": {"lr": {"value": 1}, "adam": {"parameters": {"beta1": {"value": 2}}}}}}
    assert dict(flattened(nested)) == {"learner.lr": {"value": 1}, "learner.adam.beta1": {"value": 2}}


@pytest.mark.parametrize(
    ("how", "parameters", "expected"),
    [
        ("random", {}, "sweep.parameters: empty"),
        ("random", {"a": {}}, "sweep.parameters.a: expected value, values, or min and max; got nothing"),
        ("random", {"a": 3}, "sweep.parameters.a: got 3"),
        ("random", {"a": {"min": 1}}, "got min"),
        ("random", {"a": {"min": 2, "max": 1}}, "expected min < max"),
        ("random", {"a": {"distribution": "log_uniform_values", "min": 0, "max": 1}}, "above 0 for logarithms"),
        ("random", {"a": {"distribution": "normal", "min": 0, "max": 1}}, "got normal, expected one of constant"),
        ("random", {"a": {"values": [1, 2], "probabilities": [1]}}, "each with its probability"),
        ("grid", {"a": {"min": 0.5, "max": 1}}, "a grid needs values"),
        ("bayes", {"a": {"value": 1}}, "sweep.run_cap: got 0"),
    ],
)
def test_mistakes(how: str, parameters: dict[str, Any], expected: str) -> None:
    cap = 0 if how == "bayes" else 3
    with pytest.raises(ConfigError) as caught:
        Search(How(how), parameters, run_cap=cap)
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", SPACES)
def test_shipped_spaces_compose_and_wandb_takes_them(name: str, tmp_path: Path) -> None:
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution

    from agentrl.wandb_sweep import schema

    cfg = config.compose("run_sweep", [f"sweep={name}"])
    config.check(cfg)
    space = config.build(cfg.sweep)
    told = schema(config.plain(cfg.sweep), space, ["env=webshop"], tmp_path, [])
    assert _validate_config_and_fill_distribution(told)["parameters"].keys() == space.parameters.keys()
    for trial in (
        space.next([], 2) if space.method is not How.bayes else [{a.word: a.all()[0] for a in space.axes() if a.values}]
    ):
        config.check(config.compose("train", words(trial)))
