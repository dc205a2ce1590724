"""The environment over the page machine: contract, parsing, panels, fingerprints."""

import json
import pickle
import random
from pathlib import Path

import pytest

from agentrl.envs.base import Env
from agentrl.envs.webshop import WebShop
from agentrl.envs.webshop.views import find_action
from agentrl.errors import ConfigError, DataError
from agentrl.types import Message, Split, panel_hash


@pytest.fixture
def env(tmp_path: Path, items) -> WebShop:
    (tmp_path / "items_shuffle_six.json").write_text(json.dumps(items))
    extras = {
        "B000000001": {
            "attributes": ["hand made"],
            "instruction": "Find me a warm hat",
            "instruction_attributes": ["hand made"],
        }
    }
    (tmp_path / "items_ins_v2_six.json").write_text(json.dumps(extras))
    return WebShop(data=str(tmp_path))


def say(text: str) -> Message:
    return Message("assistant", text)


def any_split(env: WebShop) -> Split:
    splits: tuple[Split, ...] = ("train", "val", "test")
    for split in splits:
        try:
            env.tasks(split)
        except DataError:
            continue
        return split
    raise AssertionError("no tasks in any split")


def test_an_episode(env: WebShop) -> None:
    assert isinstance(env, Env)
    task = env.tasks(any_split(env))[0]
    assert task.family == "B000000001"
    episode = env.start(task)
    assert episode.goal[0].role == "system"
    assert episode.observation[0].content.startswith("WebShop [SEP] Instruction: [SEP] Find me a warm hat with ")
    step = episode.step(say("I look for it.\nAction: search[red wool hat]"))
    assert (step.parsed, step.info["valid"], step.info["page"], step.done) == (True, True, "results", False)
    assert not episode.step(say("let me think")).parsed
    unknown = episode.step(say("<action>click[nothing]</action>"))
    assert (unknown.parsed, unknown.info["valid"]) == (True, False)
    assert unknown.observation == step.observation
    episode.step(say("click[b000000001]"))
    assert "click[large]" in episode.actions()
    for value in episode.goal_record.goal_options.values():
        episode.step(say(f"click[{value}]"))
    final = episode.step(say("click[buy now]"))
    assert (final.reward, final.done) == (1.0, True)
    assert final.reward >= env.success_return
    assert final.info["reward_parts"]["r_option"] == 1.0


def test_where_the_action_stands() -> None:
    assert find_action("search[a]") == "search[a]"
    assert find_action("  click[b] \n") == "click[b]"
    assert find_action("Thought: x\nAction: click[c]\nAction: click[d]") == "click[c]"
    assert find_action("Action: click[c] <action>\nclick[e]\n</action>") == "click[e]"


def test_listed_actions_work_and_copies_continue_equally(env: WebShop) -> None:
    rng = random.Random(0)
    for task in env.tasks(any_split(env))[:4]:
        episode = env.start(task)
        for _ in range(12):
            copy = env.restore(pickle.loads(pickle.dumps(episode.snapshot())))
            assert list(copy.actions()) == list(episode.actions())
            if not episode.actions():
                break
            action = say(rng.choice(list(episode.actions())))
            step = episode.step(action)
            assert step.info["valid"]
            assert copy.step(action) == step


def test_env_travels_without_its_shop(env: WebShop) -> None:
    assert len(env.shop) == 6
    other = pickle.loads(pickle.dumps(env))
    assert "shop" not in vars(other)
    assert other == env
    assert other.fingerprint == env.fingerprint
    split = any_split(env)
    assert panel_hash(other.tasks(split)) == panel_hash(env.tasks(split))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"goals": "humans"}, "env.goals"),
        ({"view": "html"}, "env.view"),
        ({"goals": "human"}, "bundled"),
        ({"data": "folder", "goals": "bundled"}, "env.goals"),
        ({"products": 0}, "env.products"),
    ],
)
def test_wrong_fields_are_named(fields: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        WebShop(**fields)


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        WebShop(data=str(tmp_path)).tasks("train")


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_official_panels_are_disjoint_by_product(official: Path, goals: str) -> None:
    env = WebShop(data=str(official), goals=goals)
    splits: tuple[Split, ...] = ("train", "val", "test")
    families = [{task.family for task in env.tasks(split)} for split in splits]
    assert len(families[0] | families[1] | families[2]) == sum(map(len, families))
    if goals == "synthetic":
        assert [len(env.tasks(split)) for split in splits] == [4422, 200, 500]
        assert panel_hash(env.tasks("test")) == panel_hash(WebShop(data=str(official)).tasks("test"))
