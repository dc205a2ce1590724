"""The kitchen against recordings of the original: every step, list, goal set and generated layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agentrl.envs.robotouille import Robotouille
from agentrl.envs.robotouille.generator import generate
from agentrl.envs.robotouille.kitchen import Kitchen
from agentrl.envs.robotouille.problem import load, to_problem
from agentrl.envs.robotouille.recipes import PAPER, benchmark_problem
from agentrl.envs.robotouille.sources import STEPS, Tasks
from agentrl.envs.robotouille.text import Describer
from agentrl.errors import DataError
from agentrl.types import Message

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "robotouille"
FILES = {
    "golden_traces.jsonl.gz": (36, 900),
    "golden_traces_effects.jsonl.gz": (48, 1327),
    "golden_traces_custom.jsonl.gz": (16, 596),
    "golden_solutions.jsonl.gz": (4, 26),
}


@pytest.fixture(scope="module")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"shared data not found: {DATA.name}/ beside the repository")
    return DATA


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_episode_agrees(data: Path, name: str):
    result = Robotouille().replay(data / name)
    assert result["first_difference"] is None
    assert (result["agree"], result["steps"]) == FILES[name]


def test_without_compat_the_recordings_with_several_processes_differ(data: Path):
    result = Robotouille(compat=False).replay(data / "golden_traces_custom.jsonl.gz")
    assert (result["cases"], result["agree"]) == (16, 6)
    assert result["first_difference"]["field"] == "steps[10].obs_objects"


def test_the_generator_is_compared_with_every_recorded_layout(data: Path):
    assert Robotouille().replay(data / "golden_traces.jsonl.gz")["layouts"] == 36


@pytest.mark.parametrize("change", ["action", "done", "valid_sorted", "goal_sets", "layout", "first_obs_objects"])
def test_a_planted_difference_is_found(data: Path, tmp_path: Path, change: str):
    with gzip.open(data / "golden_traces.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(next(file)) for _ in range(2)]
    record = records[1]
    if change == "goal_sets":
        record["goal_sets"][0] = ["atop(bread1, bread1)"]
    elif change == "layout":
        record["env_json"]["stations"][0]["x"] += 1
    elif change == "first_obs_objects":
        record[change] += " "
    elif change == "valid_sorted":
        record["steps"][3][change].append("Sing a song")
    elif change == "done":
        record["steps"][3][change] = not record["steps"][3][change]
    else:
        step = record["steps"][3]
        step[change] = next(action for action in step["valid_sorted"] if action not in (step[change], "Do nothing"))
    golden = tmp_path / "golden.jsonl"
    golden.write_text("\n".join(json.dumps(each) for each in records))
    result = Robotouille(data=str(data / "examples")).replay(golden)
    assert result["agree"] == 1
    assert result["first_difference"]["case"] == 1


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_damaged_recordings_are_named(tmp_path: Path, text: str):
    golden = tmp_path / "golden.jsonl"
    golden.write_text(text)
    with pytest.raises(DataError, match="line 1" if text else "holds no record"):
        Robotouille().replay(golden)


def test_a_recording_cut_short_is_named(data: Path, tmp_path: Path):
    golden = tmp_path / "golden.jsonl.gz"
    golden.write_bytes((data / "golden_traces.jsonl.gz").read_bytes()[:2000])
    with pytest.raises(DataError, match="is it whole"):
        Robotouille().replay(golden)


@pytest.mark.parametrize("number", range(4))
def test_our_kitchens_of_the_papers_tasks_are_the_originals(data: Path, number: int):
    """Same start, numbering and goal sets as the problem files, hand-made and on the ten seeds."""
    files = ("0_cheese_sandwich", "3_burger", "4_cheeseburger", "5_double_cheeseburger")
    theirs, ours = load(data / "examples" / "synchronous" / f"{files[number]}.json"), benchmark_problem(PAPER[number])
    for seed in (0, *range(42, 421, 42)):
        one, two = (Kitchen(to_problem(generate(raw, seed) if seed else raw)) for raw in (theirs, ours))
        assert Describer(one).objects(one.start.bits) == Describer(two).objects(two.start.bits)
        assert {frozenset(facts) for facts in one.goal.sets()} == {frozenset(facts) for facts in two.goal.sets()}


def test_the_benchmark_plays_from_the_original_files(data: Path):
    env = Robotouille(data=str(data / "examples"), seeds=[0, 42], train=10, val=10)
    tasks = env.tasks("test")
    assert [task.data["cap"] for task in tasks[:10]] == [15, 21, 36, 15, 23, 35, 54, 66, 95, 86]
    assert [task.id for task in tasks[:2]] == ["0_cheese_sandwich/hand-made", "1_lettuce_sandwich/hand-made"]
    assert len(tasks) == 20
    with gzip.open(data / "golden_solutions.jsonl.gz", "rt", encoding="utf-8") as file:
        plan = next(json.loads(line) for line in file if "lettuce_sandwich" in line)["steps"]
    episode = env.start(tasks[1])
    assert env.optimal_actions(episode)[1] == len(plan) == 14
    rewards = [episode.step(Message("assistant", step["action"])).reward for step in plan]
    assert rewards == [0.0] * 13 + [1.0]
    assert env.fingerprint["data"].startswith("files-")


def test_files_are_chosen_by_name(data: Path):
    names = Tasks(str(data / "examples"), ["paper", "lettuce_sandwich"], 1.5).caps
    assert list(names.values()) == [15, 15, 23, 35, 21]
    assert len(STEPS) == 10
