from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest

from agentrl.errors import ConfigError
from agentrl.types import Group, Task
from tests.learning import group, method


class Supply:
    def __init__(self, past: Sequence[Group] = (), seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.past = deque(past)
        self.played: list[str] = []

    def tasks(self, count: int) -> list[Task]:
        raise AssertionError("VSPO draws from what it has seen")

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        self.played += [task.id for task in tasks]
        return [group([1, 1, 0], task.id) for task in tasks]


def successes(k: int) -> Group:
    return group([1] * k + [0] * (5 - k), f"k{k}")


@pytest.mark.parametrize(
    ("spread", "table"),
    [("std", [0, 0.320, 0.294, 0.196, 0.080, 0]), ("var", [0, 0.128, 0.144, 0.096, 0.032, 0])],
)
def test_value_table(spread: str, table: list[float]) -> None:
    vspo = method("vspo", v_spread=spread)
    assert [vspo.value(successes(k)) for k in range(6)] == pytest.approx(table, abs=5e-4)


def test_value_with_the_best_of_the_group_as_ceiling() -> None:
    vspo = method("vspo", r_max="group")
    assert vspo.value(group([0.4, 0.2])) == pytest.approx((0.4 - 0.3) * 0.1)
    assert method("vspo").value(group([0.4, 0.2])) == pytest.approx((1.0 - 0.3) * 0.1)


@pytest.mark.parametrize(("spread", "peak"), [("std", 0.25), ("var", 1 / 3)])
def test_value_of_binary_rewards_peaks_at_a_quarter_or_a_third(spread: str, peak: float) -> None:
    vspo = method("vspo", v_spread=spread)
    values = [vspo.value(group([1] * k + [0] * (120 - k))) for k in range(121)]
    assert int(np.argmax(values)) / 120 == pytest.approx(peak, abs=0.01)


def test_groups_of_equal_rewards_are_replaced_by_copies_that_fade() -> None:
    batch = [successes(0), successes(1), successes(5), group([0.1] * 5, "c"), group([1, 1], "d")]
    found = method("vspo").refill(batch, Supply())
    assert [g.task.id for g in found] == ["k1"] * 5
    assert [g.copy for g in found] == [0, 1, 2, 3, 4]
    assert [g.weight for g in found] == [1, 0.5, 0.25, 0.125, 0.0625]


@pytest.mark.parametrize(
    ("smoothing", "weights"),
    [
        ("geometric", [1, 0.5, 0.25, 0.125, 0.0625, 0.05]),
        ("inverse", [1 / 6] * 6),
        ("sqrt", [6**-0.5] * 6),
        ("none", [1] * 6),
    ],
)
def test_smoothing_by_hand(smoothing: str, weights: list[float]) -> None:
    batch = [successes(1)] + [successes(0)] * 5
    found = method("vspo", smoothing=smoothing).refill(batch, Supply())
    assert [g.weight for g in found] == pytest.approx(weights)


@pytest.mark.parametrize("smoothing", ["geometric", "inverse", "sqrt", "none"])
@pytest.mark.parametrize("source", ["batch", "buffer"])
def test_smoothing_invariants(smoothing: str, source: str) -> None:
    vspo = method("vspo", smoothing=smoothing, source=source)
    for seed in range(20):
        rng = random.Random(seed)
        batch = [group([rng.randint(0, 1) for _ in range(4)], f"t{i}") for i in range(12)]
        past = [group([rng.randint(0, 1) for _ in range(4)], f"p{i}") for i in range(6)]
        found = vspo.refill(batch, Supply(past, seed))
        assert len(found) == len(batch)
        for name in {g.task.id for g in found}:
            copies = [g for g in found if g.task.id == name]
            weights = [g.weight for g in copies]
            assert [g.copy for g in copies] == list(range(len(copies)))
            assert weights == sorted(weights, reverse=True)
            assert len(copies) > 1 or weights == [1.0]
            if smoothing == "geometric":
                assert sum(weights) <= 2 + vspo.w_min * len(copies)


def test_odds_follow_value_and_temperature() -> None:
    pool = [successes(1), successes(4)]  # V .32 and .08
    batch = [*pool, *[successes(0)] * 1000]

    def share(**changes: object) -> float:
        found = method("vspo", **changes).refill(batch, Supply())
        return sum(g.task.id == "k1" for g in found[2:]) / 1000

    assert share() == pytest.approx(0.8, abs=0.04)
    assert share(value_temperature=0.5) == pytest.approx(16 / 17, abs=0.03)
    assert share(value_temperature=1e-3) == 1.0
    assert share(sampling="at_random") == pytest.approx(0.5, abs=0.05)


def test_a_batch_without_value_stays_as_it_is() -> None:
    batch = [successes(0), successes(5)]
    assert method("vspo").refill(batch, Supply()) == batch


def test_none_is_plain_grpo() -> None:
    batch = [successes(0), successes(1)]
    assert method("vspo", replace="none").refill(batch, Supply()) == batch


def test_low_value_groups_give_way_too() -> None:
    batch = [successes(k) for k in (0, 1, 2, 4)]
    found = method("vspo", replace="low_value", low_quantile=0.5).refill(batch, Supply())
    assert {g.task.id for g in found} == {"k1", "k2"}
    assert len(found) == 4


def test_a_buffer_is_asked_for_and_drawn_from() -> None:
    past = [group([1, 0], "old"), group([1, 0], "recent")]
    batch = [successes(0)]
    vspo = method("vspo", source="buffer", buffer_batches=3)
    assert vspo.past_batches == 3
    assert method("vspo", source="batch", buffer_batches=3).past_batches == 0
    found = vspo.refill(batch, Supply(past))
    assert [(g.copy, g.weight) for g in found] == [(0, 1.0)]
    assert found[0].task.id in ("old", "recent")


def test_fresh_rollouts_play_the_drawn_tasks_again() -> None:
    supply = Supply()
    found = method("vspo", fresh_rollouts=True).refill([successes(1), successes(0)], supply)
    assert supply.played == ["k1"]
    assert [(g.rewards, g.weight) for g in found] == [((1, 0, 0, 0, 0), 1.0), ((1, 1, 0), 0.5)]


def test_weighted_advantages_stay_within_a_max() -> None:
    vspo = method("vspo", a_max=1.0, smoothing="none", std_eps=0.0)
    (found,) = vspo.refill([successes(1)], Supply())
    assert [a[0] for a in vspo.advantages(found)] == [1.0, -0.5, -0.5, -0.5, -0.5]
    half = vspo.advantages(Group(found.task, found.trajectories, weight=0.25))
    assert [0.25 * a[0] for a in half] == [0.5, -0.125, -0.125, -0.125, -0.125]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="value_temperature: got 0"):
        method("vspo", value_temperature=0.0)
    with pytest.raises(ConfigError, match="w_min: got 2"):
        method("vspo", w_min=2.0)
