"""Schedules: the same plays in lockstep and flowing, and environments that are slow, hang or crash."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agentrl import config
from agentrl.chat import History, Window
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.together import Together
from agentrl.engine.torch_engine import Torch
from agentrl.errors import ConfigError, EngineError, EnvError
from agentrl.rollout.along_expert import AlongExpert
from agentrl.rollout.base import Stage
from agentrl.rollout.desk import Threads, left_behind
from agentrl.rollout.fixed_size import FixedSize
from agentrl.rollout.flowing import Flowing
from agentrl.rollout.independent import Independent
from agentrl.rollout.planner import Planner
from agentrl.rollout.rising import FirstRises, Rising, Tie
from agentrl.types import Stop, Task
from tests.test_model import pretrained
from tests.toy import save_toy_model
from tests.tree import Tree, TreeEpisode, tree_stage

PLAIN: dict[str, Any] = {
    "temperature": 1.0, "max_turns": 4, "action_tokens": 2, "context_tokens": 60, "max_failed": 0.5, "pool": 0
}  # fmt: skip
ROLLOUTS: dict[str, Any] = {
    "independent": Independent(group_size=4, **PLAIN),
    "rising": Rising(rollouts=3, candidates=5, tie=Tie.geq, first_rises=FirstRises.draw_one, **PLAIN),
    "fixed": FixedSize(rollouts=3, candidates=3, **PLAIN),
    "along": AlongExpert(rollouts=2, noise=0.3, **PLAIN),
}
BREAKS = frozenset({("red",), ("green", "blue"), ("gold", "gold", "red")})
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def flowing(**changes: Any) -> Flowing:
    return Flowing(**{"env_threads": 4, "deadline_s": 0.0, "gather_s": 0.001, **changes})


def tasks(count: int) -> Sequence[Task]:
    return Tree().tasks("train")[:count]


@dataclass(frozen=True)
class Slow(Tree):
    """A tree whose every step first does ``before(task, path)``, whatever that is."""

    before: Callable[[Task, tuple[str, ...]], None] = lambda _task, _path: None

    def restore(self, state: Any) -> SlowEpisode:
        self.count["opened"] += 1
        return SlowEpisode(self, *state)


class SlowEpisode(TreeEpisode):
    def step(self, action: Any) -> Any:
        self.env.before(self.task, self.path)  # type: ignore[attr-defined]
        return super().step(action)


def jitter(task: Task, path: tuple[str, ...]) -> None:
    time.sleep(hash((task.id, path)) % 5 / 2000)


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("name", ROLLOUTS)
def test_flowing_plays_exactly_what_lockstep_plays(name: str, threads: int, model: Path) -> None:
    """Plays, order, costs: all equal, with environments that break and answer in any order; all episodes are closed."""
    env = Slow(breaks=BREAKS, before=jitter)
    stages = [tree_stage(model, replace(env, count=type(env.count)())) for _ in range(2)]
    stages[1] = replace(stages[1], schedule=flowing(env_threads=threads))
    one, two = (ROLLOUTS[name].play(stage, tasks(6), seed=3, step=1) for stage in stages)
    assert one == two
    assert any(play.stop is Stop.env_error for group in one for play in group.trajectories) or name != "independent"
    counts = [stage.env.count for stage in stages]  # type: ignore[attr-defined]
    assert counts[0] == counts[1]
    tokens = [stage.engine.count["tokens"] for stage in stages]  # type: ignore[attr-defined]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("context", [Window(0), History()], ids=str)
@pytest.mark.parametrize("name", ["independent", "rising"])
def test_a_sampled_policy_plays_the_same_up_to_rounding(name: str, context: Any, model: Path) -> None:
    source = pretrained(model)
    env = Slow(before=jitter)
    stage = Stage(env, Torch("float32", 64).start(source, "cpu"), source.chat(), context)
    small = Stage(env, Torch("float32", 3).start(source, "cpu"), source.chat(), context, flowing())
    one, two = (ROLLOUTS[name].play(s, tasks(4), seed=1, step=0) for s in (stage, small))
    turns = [[turn for g in groups for play in g.trajectories for turn in play.turns] for groups in (one, two)]
    assert [(t.prompt_ids, t.action_ids) for t in turns[0]] == [(t.prompt_ids, t.action_ids) for t in turns[1]]
    assert len(turns[0]) > 16
    for a, b in zip(*turns, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_a_planner_is_cut_alike(model: Path) -> None:
    stage = tree_stage(model, Tree())
    rollout = Planner(group_size=2, stop_text="red", **PLAIN)
    one = rollout.play(stage, tasks(3), seed=0, step=0)
    assert rollout.play(replace(stage, schedule=flowing()), tasks(3), seed=0, step=0) == one
    replies = [turn for group in one for play in group.trajectories for turn in play.turns]
    assert any(turn.action.content == "red" and len(turn.action_ids) == 1 for turn in replies)


def test_nobody_waits_for_a_slow_environment(model: Path) -> None:
    """The first step of one play ends only when all other plays are over: in lockstep that would never be."""
    others = threading.Event()
    left = {task.id for task in tasks(8)[1:]}

    def wait(task: Task, _path: tuple[str, ...]) -> None:
        if task.id == "train-0":
            assert others.wait(PATIENCE_S)

    @dataclass(frozen=True)
    class Told(Slow):
        def reward(self, task: Task, path: Any) -> float:
            if self.ends(task, path):
                left.discard(task.id)
                if not left:
                    others.set()
            return super().reward(task, path)

    stage = replace(tree_stage(model, Told(before=wait)), schedule=flowing(env_threads=2))
    groups = Independent(group_size=1, **PLAIN).play(stage, tasks(8), seed=0, step=0)
    assert others.is_set()
    assert not any(play.error for group in groups for play in group.trajectories)


@dataclass
class Gate:
    """Environments of some tasks hang until it opens."""

    stuck: set[str]
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, task: Task, path: tuple[str, ...]) -> None:
        if task.id in self.stuck and path:
            self.opened.wait(PATIENCE_S)


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


@pytest.mark.parametrize("threads", [1, 4])
def test_an_environment_that_hangs_is_data(threads: int, model: Path) -> None:
    """Its play failed, in words; all others are played as ever, even where every thread was with one that hangs."""
    gate = Gate({"train-1", "train-4", "train-5"})
    env = Slow(leaf=0.0, before=gate)
    stage = replace(tree_stage(model, env), schedule=flowing(env_threads=threads, deadline_s=1.0))
    rollout = Independent(group_size=1, **PLAIN)
    groups = rollout.play(stage, tasks(8), seed=0, step=0)
    try:
        usual = rollout.play(tree_stage(model, Tree(leaf=0.0)), tasks(8), seed=0, step=0)
        for group, same in zip(groups, usual, strict=True):
            (play,) = group.trajectories
            if group.task.id in gate.stuck:
                assert play.stop is Stop.env_error
                assert play.error == "EnvTimeout: no answer within schedule.deadline_s=1"
                assert play.turns == same.trajectories[0].turns[:1]
                assert group.spent.failed == 1
            else:
                assert group == same
        assert left_behind() == 3
        assert env.count["closed"] == 5
    finally:
        gate.opened.set()
    assert until(lambda: left_behind() == 0)
    assert until(lambda: env.count["closed"] == 8)


@dataclass(frozen=True)
class Late(Tree):
    """A tree that does ``opening(task)`` before an episode is there; ``seen``: threads in which it did."""

    opening: Callable[[str], None] = lambda _task: None
    seen: list[str] = field(default_factory=list, compare=False)

    def restore(self, state: Any) -> TreeEpisode:
        self.opening(state[0].id)
        self.seen.append(threading.current_thread().name)
        return super().restore(state)


@pytest.mark.parametrize("name", ["independent", "rising"])
def test_episodes_are_opened_in_threads_one_at_a_time(name: str, model: Path) -> None:
    lock, met = threading.Lock(), []

    def opening(_task: str) -> None:
        met.append(lock.acquire(blocking=False))
        time.sleep(0.0005)
        lock.release()

    env = Late(breaks=BREAKS, opening=opening)
    stage = replace(tree_stage(model, env), schedule=flowing())
    usual = ROLLOUTS[name].play(tree_stage(model, Tree(breaks=BREAKS)), tasks(4), seed=2, step=0)
    assert ROLLOUTS[name].play(stage, tasks(4), seed=2, step=0) == usual
    assert all(met)
    assert len(met) >= 16
    assert threading.main_thread().name not in env.seen


def test_an_environment_that_never_starts_is_data(model: Path) -> None:
    """Its play failed without a turn, the others are played; should it start after all, its episode is closed."""
    gate = threading.Event()
    env = Late(leaf=0.0, opening=lambda task: (task != "train-1" or gate.wait(PATIENCE_S)) and None)
    stage = replace(tree_stage(model, env), schedule=flowing(deadline_s=1.0))
    rollout = Independent(group_size=1, **PLAIN)
    try:
        groups = rollout.play(stage, tasks(4), seed=0, step=0)
        usual = rollout.play(tree_stage(model, Tree(leaf=0.0)), tasks(4), seed=0, step=0)
        assert [*groups[:1], *groups[2:]] == [*usual[:1], *usual[2:]]
        (play,) = groups[1].trajectories
        assert (play.stop, play.turns) == (Stop.env_error, ())
        assert play.error == "EnvTimeout: no answer within schedule.deadline_s=1"
    finally:
        gate.set()
    assert until(lambda: left_behind() == 0)
    assert until(lambda: env.count["closed"] == env.count["opened"] == 4)


def test_too_many_that_hang_stop_the_run(model: Path) -> None:
    gate = Gate({"train-0", "train-1"})
    stage = replace(tree_stage(model, Slow(leaf=0.0, before=gate)), schedule=flowing(deadline_s=1.0))
    try:
        with pytest.raises(EnvError, match=r"2 of 3 episodes failed.*train-0, said: EnvTimeout: no answer within sch"):
            Independent(group_size=1, **PLAIN).play(stage, tasks(3), seed=0, step=0)
    finally:
        gate.opened.set()


@pytest.mark.parametrize("threads", [0, 2])
def test_what_is_no_failure_of_an_environment_reaches_the_caller(threads: int, model: Path) -> None:
    """An environment's own timeout is its failure like any other; an exit of the program is none."""

    def late(_task: Task, _path: tuple[str, ...]) -> None:
        raise TimeoutError("no shop there")

    def leave(_task: Task, _path: tuple[str, ...]) -> None:
        raise SystemExit(3)

    rollout = Independent(group_size=1, **{**PLAIN, "max_failed": 1.0})
    stage = replace(tree_stage(model, Slow(before=late)), schedule=flowing(env_threads=threads))
    (group,) = rollout.play(stage, tasks(1), seed=0, step=0)
    assert group.trajectories[0].error == "TimeoutError: no shop there"
    assert stage.env.count["closed"] == 1  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        rollout.play(replace(stage, env=Slow(before=leave)), tasks(2), seed=0, step=0)


def test_an_engine_that_fails_leaves_no_thread(model: Path) -> None:
    stage = replace(tree_stage(model, Tree()), schedule=flowing())

    def broken(requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        if len(requests[0].prompt_ids) > 3:
            raise EngineError("engine: out of memory")
        return generate(requests, sampling)

    generate = stage.engine.generate
    stage.engine.generate = broken  # type: ignore[method-assign]
    before = threading.active_count()
    with pytest.raises(EngineError, match="out of memory"):
        Independent(group_size=2, **PLAIN).play(replace(stage, context=History()), tasks(2), seed=0, step=0)
    assert until(lambda: threading.active_count() <= before)


class Echo:
    """Answers with the prompt; ``asked`` is what came together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.asked.append([request.seed for request in requests])
        return [Completion(request.prompt_ids, (0.0,), "stop", 0) for request in requests]


def test_requests_that_wait_are_sampled_together_in_turn() -> None:
    echo = Echo()
    stream = Together(echo.generate, Sampling(), 2)
    ask = {key: Request((key,), key, 1) for key in range(5)}
    assert [key for key, _ in stream.advance(list(ask.items()), dropped=[1])] == [0, 2]
    assert stream.advance([(7, Request((70,), 7, 1))]) == [
        (key, Completion((key,), (0.0,), "stop", 0)) for key in (3, 4)
    ]
    assert [(key, done.ids) for key, done in stream.advance([])] == [(7, (70,))]
    assert stream.advance([]) == []
    stream.advance([(8, ask[0])], dropped=[8])
    assert echo.asked == [[0, 2], [3, 4], [7]]


def test_threads_are_no_more_than_asked_for_and_no_more_than_needed() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return 1

    desk: Threads[int] = Threads(3, 0.0)
    for key in range(12):
        desk.hand(key, work, lambda: None)
    found: list[Any] = []
    while desk.busy:
        found += desk.answers(1.0)
    desk.close()
    assert sorted(found) == [(key, 1) for key in range(12)]
    assert 1 <= most <= 3


def test_settings_out_of_range_are_refused() -> None:
    cfg = config.compose("train", ["schedule=flowing", "schedule.env_threads=-1"])
    with pytest.raises(ConfigError, match=r"schedule\.env_threads: got -1, expected 0 or more"):
        config.check(cfg)
