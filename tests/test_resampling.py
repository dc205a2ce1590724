"""Resampling against scipy, against numbers worked by hand, and against simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from agentrl import resampling
from agentrl.stats import Spread, holm, over_seeds_and_tasks, seeds_needed, tasks_needed


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [4, 8, 20])
def test_interquartile_mean_is_scipys_trimmed_mean(n: int) -> None:
    values = rng().normal(size=(5, n))
    expected = scipy_stats.trim_mean(values, 0.25, axis=1)
    assert resampling.iqm(values) == pytest.approx(expected)


def test_interquartile_mean_of_few_by_hand() -> None:
    assert resampling.iqm([0.9, 0.1, 0.2]) == pytest.approx((0.25 * 0.1 + 0.2 + 0.25 * 0.9) / 1.5)
    assert resampling.iqm([0.3]) == pytest.approx(0.3)
    assert resampling.iqm([1.0, 0.0]) == pytest.approx(0.5)
    assert resampling.iqm([0, 1, 2, 3, 100]) == pytest.approx((0.75 * 1 + 2 + 0.75 * 3) / 2.5)


def test_improvement_is_mann_whitneys_u() -> None:
    ours, theirs = rng(1).integers(0, 6, 7) / 5, rng(2).integers(0, 6, 9) / 5  # with ties
    u = scipy_stats.mannwhitneyu(ours, theirs).statistic
    assert resampling.improvement(ours, theirs) == pytest.approx(u / 63)
    assert resampling.improvement([0.5], [0.5]) == 0.5
    assert resampling.improvement([[1, 1], [0, 0]], [[0, 1], [0, 1]]).tolist() == [0.75, 0.25]


def test_sign_flips_are_scipys_permutation_test() -> None:
    """Ten pairs have 1,024 signs: scipy counts them all."""
    apart = rng(3).normal(0.5, 1, 10)
    exact = scipy_stats.permutation_test(
        (apart,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    drawn = resampling.flipped(apart, resampling.signs(10, 20_000, rng()))
    assert drawn == pytest.approx(exact, abs=0.015)
    assert resampling.flipped(np.zeros(10), resampling.signs(10, 100, rng())) == 1.0
    assert resampling.flipped(np.array([1.0, np.nan]), resampling.signs(2, 100, rng())) == 1.0


def test_bootstrap_of_one_cause_alone_is_scipys() -> None:
    """One run: tasks alone are drawn. Runs that are even over their tasks: runs alone count."""
    tasks, runs = rng(4).random(60), rng(5).random(12)
    for plays, values in ((tasks[None, :], tasks), (np.repeat(runs[:, None], 5, axis=1), runs)):
        drawn = resampling.weights(plays.shape[1], 20_000, rng())
        low, high = resampling.interval(resampling.bootstrap(plays, drawn, rng(6)).mean(axis=1))
        expected = scipy_stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng(7)
        ).confidence_interval
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_bootstrap_of_two_runs_by_hand() -> None:
    draws = resampling.bootstrap(np.array([[0.0], [1.0]]), resampling.weights(1, 4000, rng()), rng(8)).mean(axis=1)
    assert [float(np.mean(draws == value)) for value in (0, 0.5, 1)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_plays_that_failed_are_left_out() -> None:
    plays = resampling.matrix([{"a": 1.0, "b": 0.0}, {"a": 1.0}], ["a", "b"])
    every = np.ones((1, 2))
    assert np.isnan(plays[1, 1])
    assert set(resampling.bootstrap(plays, every, rng())[0]) <= {0.5, 1.0}
    assert resampling.profile(plays, np.array([0.5, 1.0])).tolist() == [0.5, 0.5]


def test_profile_by_hand() -> None:
    """Three runs solve task a always, b once, c never."""
    plays = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    at = np.array([0.0, 0.3, 0.34, 1.0])
    assert resampling.profile(plays, at) == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    low, high = resampling.profile_band(plays, at, resampling.weights(3, 500, rng()), rng())
    assert (low <= resampling.profile(plays, at)).all()
    assert (high >= resampling.profile(plays, at)).all()


def test_crossed_bootstrap_covers() -> None:
    """Studies of ten runs whose truth is known: both causes drawn cover it, tasks alone do not."""
    draw, hits, naive = rng(9), 0, 0
    for _ in range(200):
        plays = 0.5 + draw.normal(0, 0.1, (10, 1)) + draw.normal(0, 0.2, (1, 40)) + draw.normal(0, 0.3, (10, 40))
        drawn = resampling.weights(40, 400, draw)
        low, high = resampling.interval(resampling.bootstrap(plays, drawn, draw).mean(axis=1))
        hits += low <= 0.5 <= high
        low, high = resampling.interval(drawn @ plays.mean(axis=0) / 40)
        naive += low <= 0.5 <= high
    assert hits / 200 >= 0.92
    assert naive < hits


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_needed_as_in_tables_of_power() -> None:
    """Paired t test, two-sided 5 %, 80 %: effects of 1, .8 and .5 standard deviations (Cohen's d); no tasks."""
    assert [seeds_needed(Spread(1.0, 0.0, 0.0, 1), d) for d in (1.0, 0.8, 0.5)] == [10, 15, 34]
    assert seeds_needed(Spread(1.0, 0.0, 0.0, 1), 0.001, most=50) is None


def test_no_number_of_seeds_makes_up_for_a_small_panel() -> None:
    """Tasks' differences of deviation .2: on 100 tasks 1.96 x .02 + .84 x .02 = .056 stays, however many seeds."""
    assert seeds_needed(Spread(1e-6, 0.04, 0.0, 100), 0.05) is None
    assert seeds_needed(Spread(1e-6, 0.04, 0.0, 400), 0.05) == 2


def test_variances_are_found_again() -> None:
    draw = rng(11)
    plays = draw.normal(0, 0.1, (400, 1)) + draw.normal(0, 0.2, (1, 300)) + draw.normal(0, 0.3, (400, 300))
    seeds, tasks, noise = resampling.variances(plays)
    assert (tasks, noise) == (pytest.approx(0.04, rel=0.2), pytest.approx(0.09, rel=0.02))
    assert seeds == pytest.approx(0.01 + 0.09 / 300, rel=0.2)
    assert resampling.variances(np.array([[0.0, 1.0], [1.0, 2.0]])) == pytest.approx((0.5, 0.5, 0.0))


def test_the_advice_holds_in_simulated_studies() -> None:
    """With the seeds advised for an effect, about 80 % of simulated studies show it."""
    draw, spread, effect = rng(12), Spread(0.0016, 0.01, 0.16, 200), 0.08
    n = seeds_needed(spread, effect)
    assert n is not None
    shown = 0
    for _ in range(200):
        own = draw.normal(0, math.sqrt(spread.seeds - spread.noise / 200), (n, 1))
        plays = effect + own + draw.normal(0, 0.1, (1, 200)) + draw.normal(0, 0.4, (n, 200))
        shown += over_seeds_and_tasks([dict(enumerate(map(float, run))) for run in plays]).low > 0  # type: ignore[misc]
    assert 0.7 <= shown / 200 <= 0.92


def test_tasks_needed_for_nine_points() -> None:
    """Two successes of .67 and .76, each on tasks of its own: about 400 tasks for each."""
    variance = 0.67 * 0.33 + 0.76 * 0.24
    assert tasks_needed(variance, 0.09) == math.ceil((1.959964 + 0.841621) ** 2 * variance / 0.0081)
    assert 380 <= tasks_needed(variance, 0.09) <= 420
