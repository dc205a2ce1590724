"""The simulated loop: schedules worked by hand, what no schedule may break, limits that are known."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from agentrl.plan.profile import (
    Batch,
    EngineSpeed,
    Episodes,
    LearnerSpeed,
    Loop,
    Placement,
    Profile,
    Push,
    Recording,
    Schedule,
    Spread,
    World,
)
from agentrl.plan.report import moves
from agentrl.plan.search import Phases, Planner, Split, timeline
from agentrl.plan.simulate import SCHEDULES, flowing, lockstep, served

BOTH = sorted(SCHEDULES)
AT_ONCE = 10**6


def engine(**changes: Any) -> EngineSpeed:
    """An iteration takes .1 s for up to 4 rows, reading nothing."""
    plain = {"rows": [1, 4], "tokens_per_s": [10, 40], "read_per_s": 1e12, "call_s": 0, "max_batch": 4}
    return EngineSpeed(**{**plain, "part": 0, "gpus": 1, **changes})


def world(seconds: float = 0.0, parallel: int = 0, start_s: float = 0.0, cv: float = 0.0) -> World:
    return World(start_s, Spread(seconds, cv, 0), parallel)


def batch(sampled: list[list[float]], step_s: float = 0.0, read: float = 0.0) -> Batch:
    """Episodes by the tokens of their turns."""
    turns = np.array([len(row) for row in sampled])
    table = np.array([row + [0.0] * (int(turns.max()) - len(row)) for row in sampled])
    return Batch(turns, np.full(table.shape, read), table, np.full(table.shape, step_s))


def drawn(seed: int, tasks: int = 8) -> Batch:
    """A batch with long tails."""
    episodes = Episodes(4, Spread(4, 0.7, 12), Spread(40, 1.0, 0), 100, 30)
    return episodes.draw(np.random.default_rng(seed), tasks, world(0.3, cv=1.5))


def profile(source: Any, **changes: Any) -> Profile:
    """Nothing but the engines takes time."""
    loop = {"schedule": Schedule.lockstep, "max_staleness": 0, "placements": list(Placement), "switch_s": 0}
    parts = {
        "world": world(),
        "engine": engine(max_batch=1),
        "push": Push(0, 0, 0),
        "learner": LearnerSpeed(0, 0, 1, 1),
        "tasks": 16,
        **{name: value for name, value in changes.items() if name not in Loop.__dataclass_fields__},
    }
    own = {name: value for name, value in changes.items() if name in Loop.__dataclass_fields__}
    return Profile(source=source, loop=Loop(**{**loop, "other_s": 0, "batches": 2, **own}), **parts)


THREE = [[10.0], [20.0, 10.0], [30.0, 20.0]]  # a, b, c


def test_lockstep_by_hand() -> None:
    """One request at a time. Turn 1: a 0-1, b 0-2, c 1-4; answers at 4.5. Turn 2: b 4.5-5.5, c 4.5-6.5."""
    found = lockstep(batch(THREE, step_s=0.5), 2, engine(part=1), world())
    assert found.finished == pytest.approx([4.5, 7.0, 7.0])
    assert (found.seconds, found.busy_s, found.world_s) == pytest.approx((7.0, 9.0, 1.0))


def test_flowing_by_hand() -> None:
    """a and c begin on one engine, b on the other: ends at 1, 3, 2. Then b 2.5-3.5, c 3.5-5.5."""
    found = flowing(batch(THREE, step_s=0.5), 2, engine(), world())
    assert found.finished == pytest.approx([1.5, 4.0, 6.0])
    assert (found.seconds, found.busy_s, found.world_s) == pytest.approx((6.0, 8.0, 0.5))


def test_reading_stops_the_others() -> None:
    """Arrivals at 1 and 2. a reads 1-2, b 2-3, both sample from 3 on: 1 s and 2 s."""
    found = flowing(batch([[10.0], [20.0]], read=10), 1, engine(read_per_s=10), world(parallel=1, start_s=1))
    assert found.finished == pytest.approx([4.0, 5.0])
    assert found.world_s == pytest.approx(1.0)


def test_a_full_engine_lets_wait() -> None:
    """With one row at a time a reads 1-2 and samples 2-3, b reads 3-4 and samples 4-6."""
    speed = engine(read_per_s=10, max_batch=1)
    found = flowing(batch([[10.0], [20.0]], read=10), 1, speed, world(parallel=1, start_s=1))
    assert found.finished == pytest.approx([3.0, 6.0])


@pytest.mark.parametrize("schedule", BOTH)
def test_iterations_get_slower_with_rows(schedule: Schedule) -> None:
    """.2 s with two rows, .1 s with one: 10 iterations of two rows, then 10 of one."""
    speed = engine(rows=[1, 2], tokens_per_s=[10, 10])
    assert SCHEDULES[schedule](batch([[10.0], [20.0]]), 1, speed, world()).seconds == pytest.approx(3.0)


def test_the_curve_between_and_beyond_its_points() -> None:
    speed = engine(rows=[2, 4], tokens_per_s=[10, 10])  # iterations of .2 and .4 s
    assert speed.iteration_s(np.array([1.0, 2.0, 3.0, 4.0, 8.0])) == pytest.approx([0.2, 0.2, 0.3, 0.4, 0.8])


def test_calls_count_reading_and_their_fixed_seconds() -> None:
    speed = engine(read_per_s=100, call_s=0.25)
    read, sampled = np.array([[50.0, 0.0], [25.0, 25.0]]), np.array([[10.0, 0.0], [10.0, 30.0]])
    assert speed.calls(read, sampled) == pytest.approx([0.25 + 0.5 + 1.0, 0.25 + 0.5 + 3.0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engines", [1, 3, 16, 64])
@pytest.mark.parametrize("schedule", BOTH)
def test_no_engine_works_more_than_all_the_time(schedule: Schedule, engines: int, seed: int) -> None:
    one, speed = drawn(seed), engine(read_per_s=500, max_batch=3)
    found = SCHEDULES[schedule](one, engines, speed, world(parallel=2, start_s=0.1))
    assert (found.finished > 0).all()
    assert found.finished.max() == pytest.approx(found.seconds)
    assert found.busy_s <= found.seconds * engines * (1 + 1e-9)
    assert 0 <= found.world_s < found.seconds
    longest = (one.sampled * one.played).sum(axis=1).max() * 0.1
    assert found.seconds >= max(longest, one.world_s[one.played].sum() / 2)
    assert found.busy_s >= one.read[one.played].sum() / 500


@pytest.mark.parametrize("seed", range(4))
def test_in_one_turn_there_is_nothing_to_wait_for(seed: int) -> None:
    whole = drawn(seed)
    one = Batch(np.ones_like(whole.turns), whole.read[:, :1], whole.sampled[:, :1], whole.world_s[:, :1] * 0)
    speed = engine(max_batch=AT_ONCE, read_per_s=1e12)
    assert flowing(one, 1, speed, world()).seconds == pytest.approx(lockstep(one, 1, speed, world()).seconds)


@pytest.mark.parametrize("schedule", BOTH)
def test_more_engines_are_not_slower(schedule: Schedule) -> None:
    play = SCHEDULES[schedule]
    for seed in range(3):
        seconds = [play(drawn(seed), 2**n, engine(max_batch=AT_ONCE), world()).seconds for n in range(7)]
        assert all(later <= before * 1.02 for before, later in itertools.pairwise(seconds))
        assert seconds[-1] < seconds[0]


@pytest.mark.parametrize("schedule", BOTH)
@pytest.mark.parametrize(("parallel", "expected"), [(1, 6 * 0.2 + 6 * 3 * 0.5), (2, 3 * 0.2 + 3 * 3 * 0.5), (0, 1.7)])
def test_one_line_before_the_environment(schedule: Schedule, parallel: int, expected: float) -> None:
    """Six episodes of three turns; engines without limit: the environment is all there is, and it never waits."""
    speed = engine(rows=[1], tokens_per_s=[1e12], max_batch=AT_ONCE)
    found = SCHEDULES[schedule](batch([[1.0] * 3] * 6, step_s=0.5), 2, speed, world(parallel=parallel, start_s=0.2))
    assert found.seconds == pytest.approx(expected)
    assert found.world_s == pytest.approx(expected)


def test_a_line_with_servers() -> None:
    assert served(np.array([3.0, 1.0, 1.0, 1.0]), 2) == pytest.approx([3, 1, 2, 3])
    assert served(np.array([3.0, 1.0]), 0) == pytest.approx([3, 1])
    assert served(np.array([3.0, 1.0]), 1) == pytest.approx([3, 4])


@pytest.mark.parametrize(
    ("rollout", "learner", "staleness", "expected"),
    [(3, 2, 0, 6.5), (3, 2, 1, 4.0), (2, 3, 1, 4.5), (2, 3, 3, 4.5)],  # push 1, other .5
)
def test_timeline_by_hand(rollout: float, learner: float, staleness: int, expected: float) -> None:
    """In turns: the sum. Overlapping: the longer of sampling + push and learner + push + other."""
    assert timeline(Phases([rollout] * 20, [learner] * 20, 1.0, 0.5), staleness) == pytest.approx(expected)


def test_more_staleness_is_not_slower() -> None:
    rng = np.random.default_rng(0)
    phases = Phases(rng.lognormal(0, 1, 400).tolist(), rng.lognormal(0, 1, 400).tolist(), 0.1, 0.0)
    seconds = [timeline(phases, staleness) for staleness in range(5)]
    assert all(later < before * 1.005 for before, later in itertools.pairwise(seconds))
    assert seconds[-1] >= max(np.mean(phases.rollout), np.mean(phases.learner)) * 0.98


def test_each_doubling_of_the_learner_does_its_share() -> None:
    learner = LearnerSpeed(1.0, 0.01, 0.9, 2)
    assert [learner.seconds(1000, gpus) for gpus in (2, 4, 8)] == pytest.approx([11, 1 + 10 / 1.8, 1 + 10 / 1.8**2])


def test_the_best_split_is_found() -> None:
    """64 s of sampling and 64 s of learning on one GPU each, side by side: half and half, 8 s on 16 GPUs."""
    one = profile(
        Episodes(4, Spread(1, 0, 0), Spread(10, 0, 0), 0, 0),
        learner=LearnerSpeed(0, 0.1, 1, 1),
        max_staleness=1,
        placements=[Placement.separate],
    )
    best = Planner(one, 0).best(16)
    assert best is not None
    assert (best.split, best.seconds) == (Split(Placement.separate, 8, 8), pytest.approx(8.0))
    assert (best.idle_engines, best.idle_learner) == pytest.approx((0, 0), abs=1e-9)
    assert (best.tokens_per_s, best.gpu_hours(90)) == pytest.approx((80.0, 16 * 8 * 90 / 3600))


def test_in_turns_colocated_gpus_are_never_idle() -> None:
    one = profile(Episodes(4, Spread(1, 0, 0), Spread(10, 0, 0), 0, 0), learner=LearnerSpeed(0, 0.1, 1, 1))
    best = Planner(one, 0).best(16)
    assert best is not None
    assert (best.split.placement, best.seconds) == (Placement.colocated, pytest.approx(8.0))
    assert (best.idle_engines, best.idle_learner) == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({}, "sampling"),
        ({"world": world(2.0, parallel=1)}, "environment"),
        ({"push": Push(100, 0.5, 2)}, "push"),
        ({"learner": LearnerSpeed(100, 0, 1, 1)}, "learner"),
        ({"source": Episodes(4, Spread(1, 0, 0), Spread(10, 3, 0), 0, 0), "engine": engine(part=8)}, "long tail"),
    ],
)
def test_what_bounds_a_step(changes: dict[str, Any], bound: str) -> None:
    source = changes.pop("source", Episodes(4, Spread(1, 0, 0), Spread(10, 0, 0), 0, 0))
    step = Planner(profile(source, **changes), 0).step(Split(Placement.separate, 8, 1))
    assert step.bound == bound
    assert math.fsum(step.parts.values()) == pytest.approx(step.seconds)


def test_engines_of_several_gpus() -> None:
    one = profile(Episodes(4, Spread(1, 0, 0), Spread(10, 0, 0), 0, 0), engine=engine(gpus=4), placements=["separate"])
    planner = Planner(one, 0)
    assert planner.best(4) is None  # none is left for the learner
    best = planner.best(16)
    assert best is not None
    assert best.split.sampling % 4 == 0


def test_where_the_bottleneck_moves() -> None:
    source = Episodes(4, Spread(1, 0, 0), Spread(10, 0, 0), 0, 0)
    planner = Planner(profile(source, learner=LearnerSpeed(8, 0, 1, 1)), 0)
    rows = [step for n in range(6) if (step := planner.best(2**n))]
    text = moves(rows)
    assert text.startswith("A step is bound by sampling with 1 to 8 GPUs, then by learner with 16 to 32 GPUs.")


def test_recorded_episodes_are_drawn_as_they_were() -> None:
    """Two groups of two plays; the first prompt, 8 tokens, is shared by the four plays of a drawn group."""
    first, second = np.array([[8.0, 3.0], [5.0, 2.0]]), np.array([[8.0, 4.0]])
    recording = Recording([[first, second], [second, second]], group_size=2)
    one = recording.draw(np.random.default_rng(0), 50, world(0.5))
    assert len(one.turns) == 100
    assert set(one.turns.tolist()) == {1, 2}
    assert set(one.read[:, 0].tolist()) == {4.0}
    assert one.tokens == pytest.approx(sum(5 if turns == 2 else 4 for turns in one.turns))
    twice = [int((one.turns[i : i + 2] == 2).sum()) for i in range(0, 100, 2)]
    assert set(twice) == {0, 1}  # the long play is of the first group alone, and comes once in it


def test_a_spread_keeps_its_moments() -> None:
    found = Spread(5, 0.8, 0).draw(np.random.default_rng(0), 200_000)
    assert (found.mean(), found.std() / found.mean()) == pytest.approx((5, 0.8), rel=0.02)
    assert Spread(5, 2, 6).draw(np.random.default_rng(0), 1000).max() == 6
    assert Spread(5, 0, 0).draw(np.random.default_rng(0), 10) == pytest.approx(np.full(10, 5.0))
