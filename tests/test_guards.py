"""Alarms ring for what they are made for, their remedies silence them, and a refused batch is kept."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from agentrl.errors import AlarmError, ConfigError, DivergedError
from agentrl.guards import NAMES, RULES, Guard, Guards, flat_share
from agentrl.learner import Learner
from agentrl.log.metrics import ALARMS
from agentrl.measure import idle_shares, task_information
from agentrl.records import group_from_json
from agentrl.types import Group
from tests.learning import group, play, turn
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

SHIPPED: Guards = config.build(config.compose("train").guards)
QUICK = replace(SHIPPED, baseline=2, patience=2, quiet=3)
FINE = {
    "rollout/success": 0.4, "rollout/staleness": 0.0, "rollout/episodes": 100.0, "rollout/failed": 0.0,
    "rollout/truncated": 0.1, "rollout/task_information": 1.0, "rollout/entropy": 1.0, "learner/mismatch_spread": 1.0,
    "learner/mismatch_kl": 0.0, "speed/tokens": 100.0, "speed/engine_idle": 0.5, "speed/learner_idle": 0.6,
}  # fmt: skip
#: alarm -> a metric just on the right side of the shipped threshold, and just beyond it, worked by hand
EDGES = {
    "entropy_low": ({"rollout/entropy": 0.11}, {"rollout/entropy": 0.09}),
    "entropy_high": ({"rollout/entropy": 2.9}, {"rollout/entropy": 3.1}),
    "sameness": ({"rollout/task_information": 0.26}, {"rollout/task_information": 0.24}),
    "mismatch": ({"learner/mismatch_spread": 1.049}, {"learner/mismatch_spread": 1.051}),
    "mismatch_kl": ({"learner/mismatch_kl": 0.009}, {"learner/mismatch_kl": 0.011}),
    "truncated": ({"rollout/truncated": 0.5}, {"rollout/truncated": 0.51}),
    "failed": ({"rollout/failed": 2.0}, {"rollout/failed": 3.0}),
    "idle": ({"speed/learner_idle": 0.94}, {"speed/learner_idle": 0.96}),
    "slower": ({"speed/tokens": 34.0}, {"speed/tokens": 33.0}),
}
LIVE = [group([0.0, 1.0], f"t{i}") for i in range(5)]


def rang(folder: Path, later: dict[str, float], guards: Guards = QUICK, groups: list[Group] = LIVE) -> list[str]:
    """Names of the alarms of two batches that are fine and four of ``later``."""
    guard = Guard(guards, folder)
    numbers = [FINE] * 2 + [FINE | later] * 4
    return [alarm.alarm for step, line in enumerate(numbers) for alarm in guard.look(step, line, groups)]


@pytest.mark.parametrize("name", EDGES)
def test_each_alarm_rings_beyond_its_threshold_alone(name: str, tmp_path: Path) -> None:
    inside, beyond = EDGES[name]
    assert rang(tmp_path, inside) == []
    assert rang(tmp_path, beyond) == [name]
    line = json.loads((tmp_path / "alarms.jsonl").read_text())
    assert (line["alarm"], line["step"]) == (name, 3)
    assert rang(tmp_path, beyond, replace(QUICK, **{name: 0.0})) == []  # 0 switches it off


def test_flat_groups_ring_by_the_groups_themselves(tmp_path: Path) -> None:
    flat = [group([0.5, 0.5], f"f{i}") for i in range(5)]
    assert flat_share([*LIVE[:1], *flat[:4]]) == pytest.approx(0.8)
    assert flat_share([group([1.0])]) is None  # a demonstration has nobody to be compared with
    assert rang(tmp_path, {}, groups=[*LIVE[:1], *flat[:4]]) == []
    assert set(rang(tmp_path, {}, groups=flat)) == {"flat"}


def test_a_solved_task_is_no_reason_for_an_alarm(tmp_path: Path) -> None:
    done = {"rollout/success": 0.95, "rollout/entropy": 0.001, "rollout/task_information": 0.0}
    done |= {"rollout/truncated": 1.0}
    assert rang(tmp_path, done) == []
    assert rang(tmp_path, done | {"learner/mismatch_spread": 1.2}) == ["mismatch"]


def test_demonstrations_say_nothing_of_the_policys_choices(tmp_path: Path) -> None:
    guard = Guard(QUICK, tmp_path)
    taught = {name: value for name, value in FINE.items() if name != "rollout/staleness"}
    numbers = [taught] * 2 + [taught | {"rollout/entropy": 0.001, "rollout/truncated": 1.0}] * 4
    assert [alarm for step, line in enumerate(numbers) for alarm in guard.look(step, line, LIVE)] == []


def test_an_alarm_waits_and_then_keeps_quiet(tmp_path: Path) -> None:
    """Beyond in batches 0, 2, 3, 4 ... : two running make it ring at 3, and every three batches from then on."""
    guard = Guard(QUICK, tmp_path)
    bad = FINE | {"rollout/truncated": 0.9}
    lines = [bad, FINE, *[bad] * 8]
    assert [step for step, line in enumerate(lines) if guard.look(step, line, LIVE)] == [3, 6, 9]


def test_a_resumed_guard_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    bad = FINE | {"rollout/entropy": 0.05, "rollout/used_zero_advantage": 0.0}
    lines = [FINE, FINE, *[bad] * 8]
    whole = Guard(QUICK, tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    expected = [step for step, line in enumerate(lines) if whole.look(step, line, LIVE)]
    assert expected == [3, 6, 9]
    text = "".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines))
    (tmp_path / "whole" / "metrics.jsonl").write_text(text)
    resumed = QUICK.begin(tmp_path / "whole", step=4)
    assert [json.loads(line)["step"] for line in resumed.path.read_text().splitlines()] == [3]
    assert [step for step in range(5, 10) if resumed.look(step, lines[step], LIVE)] == [6, 9]


def test_unknown_alarms_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"guards\.stop: got entropy, expected some of entropy_low"):
        replace(SHIPPED, stop=["entropy"])


def test_every_alarm_has_its_remedy_on_the_page() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = page.partition("## Alarms")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == NAMES == ALARMS
    assert all(rule.remedy and rule.says for rule in RULES)


# ---- what they look at


def spoken(words: dict[str, list[list[int]]]) -> list[Group]:
    """Groups whose plays sampled these tokens."""
    return [
        Group(
            play(task=task).task, tuple(play([turn((1, 2), ids)], task=task, member=i) for i, ids in enumerate(plays))
        )
        for task, plays in words.items()
    ]


def test_information_on_the_task_by_hand() -> None:
    """Every task has a word of its own: log 4, of which dealing at random leaves next to nothing. One for all: 0."""
    own = {f"t{i}": [[i] * 3] * 64 for i in range(4)}
    found = task_information(spoken(own), 0)["rollout/task_information"]
    assert math.log(4) - 0.05 < found <= math.log(4)
    assert task_information(spoken({f"t{i}": [[7] * 3] * 64 for i in range(4)}), 0)["rollout/task_information"] == 0.0


def test_varied_actions_that_ignore_the_task_have_no_information() -> None:
    """Template collapse: entropy is high, and what is said is the same for all tasks."""
    rng = random.Random(0)
    same = {f"t{i}": [[rng.randrange(20) for _ in range(4)] for _ in range(8)] for i in range(8)}
    assert abs(task_information(spoken(same), 0)["rollout/task_information"]) < 0.05


def test_information_wants_two_tasks_played_twice() -> None:
    assert task_information(spoken({"a": [[1], [2]]}), 0) == {}
    assert task_information(spoken({"a": [[1]], "b": [[2]]}), 0) == {}


def test_idle_shares_by_hand() -> None:
    """6 s of playing and 2 s of learning in 10 s; meanwhile, 8 s of playing beside 8 s of learning."""
    lap = {"rollout": 6.0, "learner": 2.0, "sync": 2.0, "evaluate": 99.0}
    assert idle_shares(lap, 6.0) == pytest.approx({"speed/engine_idle": 0.4, "speed/learner_idle": 0.8})
    lap = {"rollout": 0.5, "learner": 8.0, "sync": 1.5}
    assert idle_shares(lap, 8.0) == pytest.approx({"speed/engine_idle": 0.2, "speed/learner_idle": 0.2})


# ---- whole runs: the alarm, and its remedy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def alarms(folder: Path) -> set[str]:
    path = folder / "alarms.jsonl"
    return {json.loads(line)["alarm"] for line in path.read_text().splitlines()} if path.exists() else set()


@pytest.mark.parametrize(
    ("alarm", "steps", "ill", "remedy"),
    [
        ("entropy_low", 10, ["learner.lr=0.1"], ["learner.lr=0.01"]),
        ("truncated", 4, ["env.max_turns=1"], ["env.max_turns=2"]),
        ("flat", 4, ["reward=binary", "rollout.group_size=2"], ["reward=env", "rollout.group_size=8"]),
    ],
)
def test_the_remedy_silences_the_alarm(
    alarm: str, steps: int, ill: list[str], remedy: list[str], model: Path, tmp_path: Path
) -> None:
    common = ["method=grpo", f"steps={steps}", "eval.before=false", "eval.samples=1", "guards.baseline=1"]
    result = toy_train(model, tmp_path / "ill", *common, *ill)
    assert result["status"] == "done"
    assert alarm in alarms(tmp_path / "ill")
    assert f"alarm {alarm}: " in (tmp_path / "ill/notes.txt").read_text()
    assert any(f"alarm/{alarm}" in line for line in (tmp_path / "ill/metrics.jsonl").read_text().splitlines())
    toy_train(model, tmp_path / "well", *common, *remedy)
    assert alarm not in alarms(tmp_path / "well")


def test_a_named_alarm_ends_the_run_which_can_go_on(model: Path, tmp_path: Path) -> None:
    words = ["method=grpo", "steps=4", "eval.before=false", "env.max_turns=1"]
    with pytest.raises(AlarmError, match=r"step 3: alarm truncated: .* guards\.stop=\[\]"):
        toy_train(model, tmp_path, *words, "guards.stop=[truncated]")
    assert (tmp_path / "checkpoints/step_000003").is_dir()
    cfg = toy_config(model, tmp_path, words)
    cfg.resume = str(tmp_path)
    assert loop.train(config.resumed(cfg, [f"resume={tmp_path}", "guards.stop=[]"]))["steps"] == 4


def test_a_batch_that_the_learner_refuses_is_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn, given = Learner.learn, []

    def refuse(self: Learner, groups: Any, *more: Any) -> Any:
        given[:] = groups
        if self.step == 2:
            raise DivergedError("learner: batch 3: loss nan, expected finite numbers")
        return learn(self, groups, *more)

    monkeypatch.setattr(Learner, "learn", refuse)
    with pytest.raises(DivergedError, match=r"loss nan.*; the batch is kept in .*step_000003\.json\.gz"):
        toy_train(model, tmp_path, "method=grpo", "steps=4", "eval.before=false")
    kept = json.loads(gzip.decompress((tmp_path / "batches/step_000003.json.gz").read_bytes()))
    assert [group_from_json(record) for record in kept["groups"]] == given
    assert (kept["step"], kept["version"]) == (3, 2)
