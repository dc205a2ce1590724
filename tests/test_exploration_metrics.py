"""Numbers of explored steps, worked by hand."""

from __future__ import annotations

import pytest

from agentrl.log.metrics import METRICS
from agentrl.measure import rising_shares, rollout_metrics
from agentrl.types import Cost, Explored, Group, Stop
from tests.learning import group, play, turn


def explored(before: float | None, values: list[float], t: int, rolled: tuple[int, ...], **more: object) -> Group:
    facts: dict[str, object] = {"kept": len(values) - 1, "rose": True, "drawn": len(values)} | more
    plays = tuple(play([turn((1,), (2, 3))], member=i, stop=Stop.forked) for i in range(len(values)))
    step = Explored(turn=t, before=before, values=tuple(values), rollouts=rolled, **facts)  # type: ignore[arg-type]
    return Group(plays[0].task, plays, explored=step, cost=Cost())


def exploration() -> list[Group]:
    """Two tasks: a trajectory of three steps, and one of one step."""
    one = Group(group([0.5, 0.0]).task, group([0.5, 0.0]).trajectories, cost=Cost(17, 2, 90, 12))
    two = Group(group([1.0, 1.0]).task, group([1.0, 1.0]).trajectories, cost=Cost(8, 0, 30, 7))
    steps = [
        explored(0.25, [0.0, 0.5], 0, (5, 5)),
        explored(0.5, [0.75], 1, (5,)),
        explored(0.75, [0.5, 0.5, 0.5, 0.5, 0.5], 2, (1, 0, 0, 0, 0), kept=0, rose=False),
    ]
    return [one, *steps, two, explored(1.0, [1.0], 0, (5,))]


def test_metrics_of_an_exploration_by_hand() -> None:
    played = exploration()
    pair = Group(played[0].task, (play([turn((1,), (2,))], 0.5), play([turn((1,), (3,))], 0.0)))
    found = rollout_metrics(played, [pair])
    assert found["rollout/reward"] == pytest.approx((0.5 + 0 + 1 + 1) / 4)  # the plays from the start alone
    assert found["rollout/zero_advantage"] == 0.5
    assert (found["rollout/episodes"], found["rollout/failed"], found["rollout/tokens"]) == (25.0, 2.0, 120.0)
    wanted = {
        "steps": 4, "pairs": 1, "gap": 0.5, "calls": 12, "candidates": (2 + 1 + 5 + 1) / 4, "candidates_max": 5,
        "repeated": 4 / 9, "stuck": 0.25, "path_return": (0.5 + 1.0) / 2,
        "candidates_1": 0.5, "candidates_2": 0.25, "candidates_3": 0, "candidates_4": 0, "candidates_5": 0.25,
        "candidates_6": 0, "candidates_7": 0, "candidates_8": 0,
        "rising_initial": 0.0, "rising_middle": 0.5, "rising_final": 0.0,
    }  # fmt: skip
    got = {name.removeprefix("explore/"): value for name, value in found.items() if name.startswith("explore/")}
    assert got == pytest.approx(wanted)
    assert {f"explore/{name}" for name in wanted} <= METRICS.keys()


def test_a_batch_without_exploration_has_no_such_metrics() -> None:
    found = rollout_metrics([group([0.0, 1.0])], [])
    assert not [name for name in found if name.startswith("explore/")]
    assert (found["rollout/episodes"], found["rollout/tokens"]) == (2.0, 4.0)


def test_rising_shares_are_of_the_policys_first_candidate() -> None:
    """An expert's member is passed over, an unknown r_{t-1} too."""
    step = explored(0.4, [0.9, 0.3], 0, (5, 5))
    expert = play([turn((1,), (2, 3), ())])
    guided = Group(step.task, (expert, step.trajectories[1]), explored=step.explored)
    assert rising_shares([group([0]), guided]) == {"middle": 0.0}
    assert rising_shares([group([0]), explored(None, [0.9], 0, (5,))]) == {}
    many = explored(0.0, [1.0], 0, (5,), drawn=11)
    assert rollout_metrics([group([0]), many], [])["explore/candidates_8"] == 1.0


@pytest.mark.parametrize(
    ("steps", "thirds"),
    [(1, "m"), (2, "if"), (3, "imf"), (4, "immf"), (5, "iimff"), (6, "iimmff"), (7, "iimmmff")],
)
def test_thirds_are_symmetric(steps: int, thirds: str) -> None:
    """Step k of n rises alone: the share of its third is 1 over the steps of that third, the others' are 0."""
    for k, third in enumerate(thirds):
        path = [explored(0.5, [1.0 if t == k else 0.5], t, (5,)) for t in range(steps)]
        known = [name for name in ("initial", "middle", "final") if name[0] in thirds]
        wanted = {name: (name[0] == third) / thirds.count(name[0]) for name in known}
        assert rising_shares([group([0]), *path]) == wanted
