"""The environment: contract, panels, both views, what replies cost, and settings that make no sense."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from typing import Any

import pytest

from agentrl.config import build, compose
from agentrl.envs.check import check_env
from agentrl.envs.robotouille import Robotouille
from agentrl.envs.robotouille.compact import COMPACT_WORDS, GRAMMAR, actions, goal_text
from agentrl.envs.robotouille.layouts import dishes_of, draw, family, problem_of
from agentrl.envs.robotouille.problem import to_problem
from agentrl.envs.robotouille.recipes import BENCHMARK, benchmark_problem
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.panel import panel, require_disjoint
from agentrl.types import Message, Task

SMALL: dict[str, Any] = {"train": 60, "val": 10, "test": 30}
WALK = "Move robot1 from table1 to table2"


def say(text: str) -> Message:
    return Message("assistant", text)


def burger(**more: Any) -> Robotouille:
    """The hand-made burger kitchen: bottom bun, top bun and cooked patty on tables 1 to 3."""
    return Robotouille(source="benchmark", recipes=["burger"], **({"seeds": [0], "train": 1, "val": 1} | more))


@pytest.mark.parametrize("view", ["text", "compact"])
@pytest.mark.parametrize(
    "more", [SMALL, SMALL | {"size": "large", "train": 20, "test": 10}, {"source": "benchmark", "train": 20, "val": 10}]
)
def test_the_contract_holds(view: str, more: dict[str, Any]):
    assert check_env(Robotouille(view=view, **more), tasks=2) == []


def test_the_yaml_builds_what_the_class_has_by_itself():
    assert build(compose("env_tool", ["env=robotouille"]).env) == Robotouille()
    assert build(compose("env_tool", ["env=robotouille", "model.view=compact"]).env).view == "compact"


def test_panels_are_fixed_disjoint_and_known_by_their_hash():
    env = Robotouille(**SMALL)
    facts = require_disjoint(env)
    assert {split: each["tasks"] for split, each in facts.items()} == {"train": 60, "val": 10, "test": 30}
    assert panel(env, "test", 30).hash == panel(Robotouille(view="compact", **SMALL), "test", 30).hash
    other = Robotouille(seed=1, **SMALL)
    assert not {task.content() for task in env.tasks("train")} & {task.content() for task in other.tasks("train")}
    held_out = {task.family for task in env.tasks("test")}
    assert not held_out & {task.family for seed in (1, 2) for task in Robotouille(seed=seed, **SMALL).tasks("train")}


def test_results_do_not_depend_on_the_hash_seed():
    code = (
        "from agentrl.envs.robotouille import Robotouille; from agentrl.types import panel_hash;"
        "e = Robotouille(train=40, val=5, test=10, view='compact');"
        "x = e.expert(.5, 1); p = e.start(e.tasks('train')[3]);"
        "print(panel_hash(e.tasks('train')), [p.step(x(p)).observation[0].content for _ in range(6)], e.fingerprint)"
    )
    told = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                       capture_output=True, text=True).stdout
        for seed in ("0", "7")
    }  # fmt: skip
    assert len(told) == 1


def test_a_family_is_a_start_state_up_to_the_order_of_stations():
    layout = draw(0, "small", 5, dishes_of("small"))
    last = len(layout["stations"]) - 1
    turned = {**layout, "stations": layout["stations"][::-1], "at": last - layout["at"]}
    assert family(turned) == family(layout)
    assert family({**layout, "at": (layout["at"] + 1) % (last + 1)}) != family(layout)
    assert family({**layout, "dish": "burger"}) == family(layout), "another dish in the same kitchen is the same family"


def test_the_benchmarks_test_panel_is_the_published_one():
    env = Robotouille(source="benchmark", train=30, val=20)
    tasks = env.tasks("test")
    assert len(tasks) == 100
    assert [task.id for task in tasks[:2]] == ["cheese_sandwich/42", "lettuce_sandwich/42"]
    assert {task.data["seed"] for task in tasks} == set(range(42, 421, 42))
    assert [env.start(task).task.data["cap"] for task in tasks[:10]] == [15, 21, 36, 15, 23, 35, 54, 66, 95, 86]
    assert require_disjoint(env)["val"]["tasks"] == 20
    one = Robotouille(source="benchmark", recipes=["cheeseburger"], seeds=[42], train=8, val=4).tasks("test")
    assert len(one) == 1  # and no double cheeseburger
    four = Robotouille(source="benchmark", recipes=["paper"], seeds=[42], train=8, val=4).tasks("test")
    assert [task.data["task"] for task in four] == ["cheese_sandwich", "burger", "cheeseburger", "double_cheeseburger"]
    assert sorted(task.data["cap"] for task in four) == [15, 15, 23, 35]


def test_one_burger_in_the_text_view():
    env = burger()
    episode = env.start(env.tasks("test")[0])
    assert "Action: <valid action>" in episode.goal[0].content
    assert episode.observation[0].content.endswith("Do nothing\n\nGoal: Prepare a hamburger on a table")
    plan = ["Move robot1 from table1 to table3", "Pick up patty1 from table3 using robot1",
            "Move robot1 from table3 to table1", "Stack patty1 on top of bottombun1 using robot1", WALK,
            "Pick up topbun1 from table2 using robot1", "Move robot1 from table2 to table1",
            "Stack topbun1 on top of patty1 using robot1"]  # fmt: skip
    for number, action in enumerate(plan):
        assert env.optimal_actions(episode) == (frozenset([action]), 8 - number)
        step = episode.step(say(action if number % 2 else f"Reasoning: the bun is there.\nAction: {action}"))
        assert (step.parsed, step.info["valid"], step.info["steps"]) == (True, True, number + 1)
        assert (step.reward, step.done) == ((1.0, True) if number == 7 else (0.0, False))
    assert step.info["reward_parts"] == {"done": 1.0}
    assert episode.actions() == []
    after = episode.step(say(WALK))
    assert (after.reward, after.done, after.info["valid"]) == (0.0, True, False)
    with pytest.raises(EnvError, match="is over"):
        episode.advice()


@pytest.mark.parametrize(
    ("reply", "parsed", "valid"),
    [
        (WALK, True, True),
        (f"  {WALK}  \n", True, True),
        (f"Action: no\nAction: {WALK}", True, True),
        (f"thinking\n  Action:  {WALK} ", True, True),
        ("Move robot1  from table1\tto table2", True, True),
        ("Move robot1 from table2 to table1", True, False),
        ("Fry patty1 on table3 using robot1", True, False),
        (WALK + ".", False, False),
        (WALK.lower(), False, False),
        (f"I do: {WALK}", False, False),
        (f"Action: {WALK} now", False, False),
        ("", False, False),
        ("Action:", False, False),
        ("Do nothing", True, True),
    ],
)
def test_how_replies_are_read(reply: str, parsed: bool, valid: bool):
    env = burger()
    episode = env.start(env.tasks("test")[0])
    before = episode.observation
    step = episode.step(say(reply))
    assert (step.parsed, step.info["valid"]) == (parsed, valid)
    if not valid:
        assert step.observation[0].content.startswith("The action '")
        assert "' is not valid. Please provide a valid action.\n\nStation table1:" in step.observation[0].content
        assert episode.observation == before


def test_a_long_invalid_reply_is_not_repeated_at_length():
    env = burger()
    step = env.start(env.tasks("test")[0]).step(say("x" * 10_000))
    assert step.observation[0].content.startswith("The action '" + "x" * 200 + "' is not valid")


def test_the_step_cap_ends_an_episode_and_counts_invalid_replies():
    env = burger()
    episode = env.start(env.tasks("test")[0])
    ends = [episode.step(say("nonsense" if number % 2 else "Do nothing")).done for number in range(15)]
    assert ends == [False] * 14 + [True]
    assert burger(cap=0).tasks("test")[0].data["cap"] == 0


def test_forgiven_replies_cost_no_step():
    env = burger(free_invalid=5)
    episode = env.start(env.tasks("test")[0])
    assert [episode.step(say("no")).info["steps"] for _ in range(7)] == [0] * 5 + [1, 2]
    episode.step(say("Do nothing"))
    assert [episode.step(say("no")).info["steps"] for _ in range(6)] == [3] * 5 + [4]


def compact_burger(**more: Any) -> Any:
    env = burger(view="compact", **more)
    return env, env.start(env.tasks("test")[0])


def test_one_burger_in_the_compact_view():
    env, episode = compact_burger()
    assert episode.goal[0].content == "goal bottom patty cooked top"
    assert episode.observation[0].content == "bottom table1 | top table2 | patty cooked table3 | holding nothing"
    assert episode.actions() == ["pick table1", "pick table2", "pick table3", "wait"]
    assert env.optimal_actions(episode) == (frozenset(["pick table3"]), 4)
    step = episode.step(say("pick table3"))
    assert step.observation[0].content == "bottom table1 | top table2 | empty table3 | holding patty cooked"
    assert step.info["steps"] == 2, "a walk and a pick-up"
    assert episode.step(say("place table3")).info["steps"] == 3, "there already"
    for action in ("pick table3", "place table1", "pick table2", "place table1"):
        step = episode.step(say(action))
    assert (step.reward, step.done, step.info["steps"]) == (1.0, True, 10)
    assert (
        step.observation[0].content == "bottom patty cooked top table1 | empty table2 | empty table3 | holding nothing"
    )


@pytest.mark.parametrize(
    ("reply", "parsed"), [("pick table9", True), ("cut table1", True), ("pick", False), ("pick  table1", False),
                          ("Pick table1", False), ("dance table1", False), ("wait table1", False), (WALK, False)],
)  # fmt: skip
def test_odd_compact_replies_change_nothing(reply: str, parsed: bool):
    _, episode = compact_burger()
    before = episode.observation
    step = episode.step(say(reply))
    assert (step.observation, step.parsed, step.info["valid"]) == (before, parsed, False)


def test_compact_play_is_original_play():
    """Every compact action stands for valid original actions that lead to the same state."""
    env = Robotouille(view="compact", size="large", **SMALL)
    rng = random.Random(1)
    for task in env.tasks("train")[:8]:
        episode = env.start(task)
        kitchen = episode.stage.kitchen
        for _ in range(12):
            moves = dict(actions(kitchen, episode.state))
            action = rng.choice(episode.actions())
            state = episode.state
            for move in moves[action]:
                assert move.text in [each.text for each in kitchen.moves(state.bits)]
                state = kitchen.after(state, move)
            if episode.step(say(action)).done:
                break
            assert episode.state == state


def test_progress_shows_in_the_compact_view():
    stations = [["stove", ["patty"]], ["board", ["lettuce"]], ["table", ["bottombun"]], ["table", ["cut tomato"]]]
    task = Task("t", "train", "f", {"dish": "burger", "at": 0, "stations": stations})
    episode = Robotouille(view="compact", **SMALL).start(task)
    seen = [episode.step(say(action)).observation[0].content for action in ("cook stove1", "cut board1", "wait")]
    assert seen[0] == (
        "patty raw cook 1 stove1 | lettuce raw board1 | bottom table1 | tomato chopped table2 | holding nothing"
    )
    assert seen[1].startswith("patty raw cook 3 stove1 | lettuce raw cut 1 board1"), "a walk is a step, too"
    assert seen[2].startswith("patty cooked stove1 | lettuce raw cut 1 board1")


def test_compact_goal_lines():
    lines = {name: goal_text(to_problem(benchmark_problem(name))) for name in BENCHMARK}
    assert lines["lettuce_sandwich"] == "goal bread lettuce chopped bread"
    assert lines["cheeseburger"] == "goal bottom patty cooked cheese top"
    assert lines["two_lettuce_chicken_sandwiches"].count("bread chicken cooked lettuce chopped bread") == 2
    layout = draw(0, "small", 3, dishes_of("small"))
    assert goal_text(to_problem(problem_of(layout))).startswith(
        "goal bread" if "sandwich" in layout["dish"] else "goal bottom"
    )


def test_compact_actions_fit_the_grammar_and_words_the_budget():
    assert len(COMPACT_WORDS) <= 10
    env = Robotouille(view="compact", size="large", **SMALL)
    for task in env.tasks("test")[:20]:
        episode = env.start(task)
        assert all(GRAMMAR.fullmatch(action) for action in episode.actions())
        assert len(episode.observation[0].content.split()) <= 90


def test_snapshots_hold_plain_data_and_go_on_alike():
    env = Robotouille(view="compact", **SMALL)
    task, expert = env.tasks("val")[0], env.expert(0.5, 3)
    episode = env.start(task)
    for _ in range(4):
        episode.step(expert(episode))
    copy = pickle.loads(pickle.dumps(env)).restore(pickle.loads(pickle.dumps(episode.snapshot())))
    assert "_ready" not in env.__getstate__()
    for action in episode.actions()[:2]:
        assert copy.step(say(action)) == episode.step(say(action))
    with pytest.raises(AttributeError):
        episode.snapshot().steps = 3


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.9, 1.0), (0.5, 0.15, 0.5), (1.0, 0.0, 0.1)])
def test_how_often_the_expert_succeeds(noise: float, low: float, high: float):
    """What makes the small kitchens learnable; fixed seeds, so these are fixed numbers."""
    env = Robotouille(view="compact", train=100, val=1, test=1)
    expert, wins = env.expert(noise, 0), 0.0
    for task in env.tasks("train"):
        episode = env.start(task)
        for _ in range(env.max_turns):
            step = episode.step(expert(episode))
            wins += step.reward
            if step.done:
                break
    assert low <= wins / 100 <= high


def test_expert_noise_is_checked():
    with pytest.raises(EnvError, match="from 0"):
        Robotouille().expert(1.5, 0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"view": "html"}, "env.view is 'html'"),
        ({"source": "web"}, "env.source is 'web'"),
        ({"size": "huge"}, "env.size is 'huge'"),
        ({"test": 0}, "env.test is 0"),
        ({"cap": -1}, "env.cap is -1"),
        ({"seeds": []}, "env.seeds"),
        ({"seeds": [-4]}, "env.seeds"),
        ({"recipes": ["soup"]}, "names 'soup'"),
        ({"recipes": ["double_cheeseburger"]}, "names 'double_cheeseburger'"),
        ({"data": "somewhere", "source": "generated"}, "use source=benchmark"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        Robotouille(**settings)


def test_data_that_is_not_there(tmp_path: Any):
    with pytest.raises(DataError, match="no problem files"):
        Robotouille(data=str(tmp_path)).tasks("test")
    with pytest.raises(DataError, match="holds no kitchen"):
        Robotouille().start(Task("odd", "train", "f", {"dish": "burger"}))
    (tmp_path / "mine.json").write_text(json.dumps(benchmark_problem("burger")))
    env = Robotouille(data=str(tmp_path), seeds=[0], train=2, val=1)
    assert [(task.id, task.data["cap"]) for task in env.tasks("test")] == [("mine/hand-made", 0)]
    with pytest.raises(ConfigError, match="names 'yours'"):
        Robotouille(data=str(tmp_path), recipes=["yours"]).tasks("test")


def test_two_players_are_for_the_text_view_alone(tmp_path: Any):
    problem = benchmark_problem("burger")
    problem["players"].append({"name": "robot", "x": 1, "y": 0, "direction": [0, 1]})
    (tmp_path / "two.json").write_text(json.dumps(problem))
    settings: dict[str, Any] = {"data": str(tmp_path), "seeds": [0], "train": 1, "val": 1}
    task = Robotouille(**settings).tasks("test")[0]
    episode = Robotouille(**settings).start(task)
    assert any("robot2" in action for action in episode.actions())
    assert any("robot1" in action for action in episode.actions())
    with pytest.raises(EnvError, match="only view=text"):
        Robotouille(view="compact", **settings).start(task)


def test_the_bench_measures_without_torch():
    code = "from agentrl.envs.robotouille import Robotouille; import json; print(json.dumps(Robotouille().bench(0.6)))"
    result = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert result.pop("torch_imported") is False
    assert all(value > 0 for value in result.values())
