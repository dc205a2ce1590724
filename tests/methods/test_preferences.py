"""RRO, fixed-size exploration, best-of-N, ETO and IPR: their pairs by hand, and what they learn on the toy world."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from agentrl.errors import ConfigError
from agentrl.types import Explored, Group, Stop, Trajectory
from tests.learning import group, learner, method, play, turn
from tests.methods.test_vspo import Supply
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

NAMES = ("rro", "fixed_size", "best_of_n", "eto", "ipr")


def step(values: list[float], before: float = 0.3, kept: int | None = None, rose: bool = False, t: int = 1) -> Group:
    """An explored step whose candidates have these process rewards; candidate i is token 10 + i."""
    plays = tuple(
        play([turn((1, 2), (10 + i,))], member=i, stop=Stop.forked, env_return=value) for i, value in enumerate(values)
    )
    best = values.index(max(values)) if kept is None else kept
    explored = Explored(t, before, tuple(values), (5,) * len(values), best, rose, len(values))
    return Group(plays[0].task, plays, explored=explored)


def made(name: str, groups: list[Group], **changes: Any) -> list[tuple[int, int]]:
    """(first token of the chosen side, first token of the rejected side) of each pair."""
    pairs = method(name, **changes).refill(groups, Supply())
    return [tuple(side.turns[0].action_ids[0] for side in pair.trajectories) for pair in pairs]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "kept", "rose", "lowest", "every"),
    [
        ([0.2, 0.1, 0.4], 2, True, [(12, 11)], [(12, 10), (12, 11)]),  # the third rises: the lowest earlier one loses
        ([0.2, 0.2, 0.4], 2, True, [(12, 10)], [(12, 10), (12, 11)]),  # the first of equals
        ([0.1, 0.2, 0.0, 0.2], 1, False, [(11, 12)], [(11, 10), (11, 12)]),  # cap: best against worst
        ([0.1, 0.1, 0.1], 0, False, [], []),  # cap, all equal: none
        ([0.5], 0, True, [], []),  # the first rises: none
        ([0.5, 0.4], 0, True, [(10, 11)], [(10, 11)]),  # one more was drawn, and is worse
        ([0.5, 0.495], 0, True, [], []),  # by less than delta
        ([0.5, 0.6], 0, True, [], []),  # one more was drawn, and is better: no a-
        ([0.2, 0.195], 0, False, [(10, 11)], [(10, 11)]),  # delta is for the extra candidate alone
    ],
)
def test_pairs_of_rro(values: list[float], kept: int, rose: bool, lowest: Any, every: Any) -> None:
    groups = [group([0, 1]), step(values, kept=kept, rose=rose)]
    assert made("rro", groups) == lowest
    assert made("rro", groups, rejected="all") == every


def test_a_pair_is_two_single_turns_worth_their_process_rewards() -> None:
    (pair,) = method("rro").refill([step([0.2, 0.4], rose=True)], Supply())
    assert pair.rewards == (0.4, 0.2)
    assert [len(side.turns) for side in pair.trajectories] == [1, 1]
    assert pair.explored is None
    assert [a.tolist() for a in method("rro").advantages(pair)] == [[1.0], [-1.0]]


def test_pairs_of_fixed_size() -> None:
    groups = [group([0, 1]), step([0.2, 0.5, 0.1]), step([0.3, 0.3, 0.3]), step([0.4, 0.1, 0.4, 0.1])]
    assert made("fixed_size", groups) == [(11, 12), (10, 11)]


def test_pairs_of_best_of_n() -> None:
    one = group([0.2, 0.9, 0.1, 0.9])
    plays = tuple(
        replace(p, turns=(replace(p.turns[0], action_ids=(10 + i,)),)) for i, p in enumerate(one.trajectories)
    )
    failed = replace(plays[2], stop=Stop.env_error)
    groups = [replace(one, trajectories=plays), replace(one, trajectories=(*plays[:2], failed)), group([1, 1, 1])]
    assert made("best_of_n", groups) == [(11, 12), (11, 10)]


def sides(expert: float, own: float, turns: tuple[int, int] = (2, 2), **more: Any) -> tuple[Trajectory, Trajectory]:
    """An expert's play (tokens 13, 14, ..) and the policy's own (17, 18, ..) with these returns."""
    a = play([turn((1,), (13 + i,), ()) for i in range(turns[0])], env_return=expert)
    return a, play([turn((1,), (17 + i,)) for i in range(turns[1])], env_return=own, member=1, **more)


@pytest.mark.parametrize(("expert", "own", "pairs"), [(1.0, 0.4, [(13, 17)]), (0.4, 1.0, [(17, 13)]), (0.5, 0.5, [])])
def test_pairs_of_eto_in_both_directions(expert: float, own: float, pairs: Any) -> None:
    both = sides(expert, own)
    assert made("eto", [Group(both[0].task, both)]) == pairs


def test_eto_cuts_a_long_rejected_play_and_drops_what_has_no_turn() -> None:
    long = sides(1.0, 0.0, turns=(2, 12))
    (pair,) = method("eto").refill([Group(long[0].task, long)], Supply())
    assert [len(side.turns) for side in pair.trajectories] == [2, 7]
    better = sides(0.0, 1.0, turns=(2, 12))
    (pair,) = method("eto").refill([Group(better[0].task, better)], Supply())
    assert [len(side.turns) for side in pair.trajectories] == [12, 2]  # a chosen play stays whole
    for broken in (
        sides(1.0, 0.0, turns=(2, 0)),
        sides(1.0, 0.0, turns=(0, 2)),
        sides(1.0, 0.0, stop=Stop.env_error),
        (replace(sides(1.0, 0.0)[0], stop=Stop.env_error), sides(1.0, 0.0)[1]),
    ):
        assert made("eto", [Group(broken[0].task, broken)]) == []


def ipr_step(t: int, returns: tuple[float, float], values: tuple[float, float]) -> Group:
    both = sides(*returns, turns=(3, 2))
    return Group(both[0].task, both, explored=Explored(t, None, values, (5, 5), 0, False, 1))


@pytest.mark.parametrize(
    ("t", "returns", "values", "pairs", "actions"),
    [
        (0, (1.0, 0.0), (0.5, 0.5), [(13, 17)], [(13, 17)]),  # whole plays: the outcome alone decides
        (0, (1.0, 0.0), (0.9, 0.1), [(13, 17)], [(13, 17), (13, 17)]),  # and the step, with step_action
        (0, (0.0, 1.0), (0.9, 0.1), [(17, 13)], [(17, 13)]),
        (1, (1.0, 0.0), (0.9, 0.1), [(13, 17)], [(13, 17)]),
        (1, (0.0, 1.0), (0.1, 0.9), [(17, 13)], [(17, 13)]),  # own better, both ways
        (1, (1.0, 0.0), (0.1, 0.9), [], []),  # outcome and step disagree
        (1, (1.0, 0.0), (0.505, 0.5), [], []),  # the step differs by less than its threshold
        (1, (0.505, 0.5), (0.9, 0.1), [], []),  # the outcome does
        (1, (0.5, 0.5), (0.9, 0.1), [], []),
    ],
)
def test_pairs_of_ipr(t: int, returns: Any, values: Any, pairs: Any, actions: Any) -> None:
    one = ipr_step(t, returns, values)
    assert made("ipr", [group([0, 1]), one]) == pairs
    assert made("ipr", [one], step_action=True) == actions
    for pair in method("ipr").refill([one], Supply()):
        assert sorted(len(side.turns) for side in pair.trajectories) == [2, 3]
    if t:
        for pair in method("ipr", step_action=True).refill([one], Supply()):
            assert [len(side.turns) for side in pair.trajectories] == [1, 1]


def test_failed_completions_give_ipr_no_pair() -> None:
    one = ipr_step(1, (1.0, 0.0), (0.9, 0.1))
    expert, own = one.trajectories
    assert made("ipr", [replace(one, trajectories=(expert, replace(own, stop=Stop.env_error)))]) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_begins_at_log_two(name: str) -> None:
    """Of each method on its own pairs; IPR adds the chosen side's surprise."""
    plain = sides(1.0, 0.0)
    groups = {
        "rro": [step([0.2, 0.4], rose=True)],
        "fixed_size": [step([0.2, 0.4])],
        "best_of_n": [group([0, 1])],
        "eto": [Group(plain[0].task, plain)],
        "ipr": [ipr_step(1, (1.0, 0.0), (0.9, 0.1))],
    }[name]
    given = method(name, sft_coef=0.0)
    one = learner()
    (batch,) = one.collate(given.refill(groups, Supply()), given)
    assert one.update(batch, given)["learner/loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert method("ipr").sft_coef == 1.0
    assert method("eto").reference == "round"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("rro", {"delta": -0.1}, "method.delta: got -0.1"),
        ("eto", {"extra_turns": -1}, "method.extra_turns: got -1"),
        ("ipr", {"traj_threshold": -1}, "method.traj_threshold: got -1"),
        ("ipr", {"beta": 0}, "method.beta: got 0"),
    ],
)
def test_bad_settings_are_refused(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        method(name, **changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


RUNS = {
    "rro": ["method=rro", "rollout.tie=strict_unless_max"],
    "fixed_size": ["method=fixed_size", "method.beta=0.5"],
    "best_of_n": ["method=best_of_n"],
    "eto": ["method=eto", "context=history"],
    "ipr": ["method=ipr"],
}


#: of those whose words above are only ``method=NAME``, tests/test_loop.py asks it
SOME = ["rro", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fixed_size", "eto"))]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.parametrize("name", NAMES)
def test_it_solves_the_toy_world(name: str, seed: int, model: Path, tmp_path: Path) -> None:
    steps, least = (40, 0.85) if name in ("best_of_n", "ipr") else (60, 0.8)
    result = toy_train(model, tmp_path, *RUNS[name], f"steps={steps}", f"seed={seed}")
    assert result["eval"]["before"]["sampled"]["success"] < 0.3
    assert result["eval"]["after"]["sampled"]["success"] > least
    lines = metrics(tmp_path)
    episodes = [line["rollout/episodes"] for line in lines if "rollout/episodes" in line]
    assert sum(episodes) == result["episodes"]
    firsts = [line["explore/candidates_max"] for line in lines if "explore/candidates_max" in line]
    assert max(firsts, default=0) <= 5


@pytest.mark.parametrize("name", SOME)
def test_equal_seeds_give_equal_runs(name: str, model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        toy_train(model, tmp_path / folder, *RUNS[name], "steps=3")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    (one,), (two,) = ((tmp_path / f / "checkpoints/step_000003/model").glob("*.safetensors") for f in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "a/trajectories.jsonl").read_bytes() == (tmp_path / "b/trajectories.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["rro", pytest.param("eto", marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, model: Path, tmp_path: Path) -> None:
    whole = toy_train(model, tmp_path / "whole", *RUNS[name], "steps=4")
    toy_train(model, tmp_path / "parts", *RUNS[name], "steps=4", "checkpoint.every=2")
    shutil.rmtree(tmp_path / "parts/checkpoints/step_000004")
    (tmp_path / "parts/summary.json").unlink()
    given = [f"resume={tmp_path / 'parts'}", *RUNS[name], "steps=4"]
    parts = loop.train(config.resumed(toy_config(model, tmp_path / "parts", given), []))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    assert (whole["eval"], whole["episodes"]) == (parts["eval"], parts["episodes"])


def metrics(run: Path) -> list[dict[str, float]]:
    """Metric lines without what a clock or the machine decides."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k.split("/")[0] not in ("time", "speed", "memory")} for line in lines]


@pytest.mark.parametrize(("name", "rollout", "missing"), [("rro", "independent", "steps"), ("eto", "rising", "expert")])
def test_a_rollout_that_does_not_give_what_the_method_learns_from_is_refused(
    name: str, rollout: str, missing: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"rollout={rollout}: it gives no {missing}, which method={name}"):
        toy_train(model, tmp_path, f"method={name}", f"rollout={rollout}", "steps=2")


def test_a_scripted_policy_explores_and_learns_nothing_new(model: Path, tmp_path: Path) -> None:
    """The whole loop with an engine whose texts are fixed: every candidate is the same, no pair is made."""
    result = toy_train(
        model, tmp_path, "method=rro", "engine=scripted", "engine.replies=[green]", "sync.canaries=0", "steps=2",
        "learner.mismatch_limit=0",
    )  # fmt: skip
    assert result["status"] == "done"
    line = next(line for line in metrics(tmp_path) if "explore/steps" in line)
    assert line["explore/pairs"] == 0.0
    assert line["explore/candidates_1"] == 1.0
