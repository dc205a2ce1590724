"""scripts/rro_diagnostics.py by hand and on a run of the toy world; the accounts of a run's metrics."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from agentrl.types import Group
from tests.learning import group
from tests.test_exploration_metrics import explored
from tests.toy import save_toy_model
from tests.toy_run import toy_train

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
script = importlib.import_module("rro_diagnostics")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of RRO on the toy world."""
    folder = tmp_path_factory.mktemp("diagnostics")
    model = save_toy_model(folder / "model")
    toy_train(model, folder / "run", "method=rro", "rollout.tie=strict_unless_max", "steps=3")
    return folder / "run"


def exploration(task: str, values: list[float], drawn: int) -> list[Group]:
    """A trajectory whose r_0 is .5 and whose first candidates have these values, kept whatever they are."""
    plays = group([0.5], task=task)
    steps = []
    for t, (before, value) in enumerate(zip([0.5, *values], values, strict=False)):
        one = explored(before, [value], t, (5,), kept=0, rose=value >= before, drawn=drawn)
        steps.append(Group(plays.task, one.trajectories, explored=one.explored, cost=one.cost))
    return [plays, *steps]


def test_the_report_by_hand() -> None:
    before, after = script.Explored(), script.Explored()
    before.add([*exploration("a", [0.75, 0.5, 0.75], 1), *exploration("b", [0.25, 0.25, 0.5], 3)])
    after.add([*exploration("a", [0.75, 1.0, 1.0], 1), *exploration("b", [0.5, 0.75, 1.0], 2)])
    assert before.rising == {
        "initial": [{"a": 100.0, "b": 0.0}], "middle": [{"a": 0.0, "b": 0.0}], "final": [{"a": 100.0, "b": 100.0}]
    }  # fmt: skip
    assert after.rising["middle"] == [{"a": 100.0, "b": 100.0}]
    assert (before.drawn, before.stuck) == ([1, 1, 1, 3, 3, 3], [False, True, False, True, False, False])
    assert script.histogram(before, after) == [(1, 50.0, 50.0), (2, 0.0, 50.0), (3, 50.0, 0.0)]
    lines = [line.split() for line in script.table({"before": before, "after": after}, "intercode_sql").splitlines()]
    told = {line[0]: line for line in lines if line}
    assert told["initial"][1:4] == ["50.0", "50.0", "+0.0"]
    assert told["middle"][1:4] == ["0.0", "100.0", "+100.0"]
    assert told["final"][1:4] == ["100.0", "50.0", "-50.0"]
    assert told["final"][-3:] == ["40.87", "->", "45.29"]
    assert ["candidates,", "mean", "2.00", "1.50"] in lines
    assert ["none", "rose,", "%", "33.3", "0.0"] in lines


def test_a_run_is_explored_before_and_after(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "candidates.png"
    monkeypatch.setattr(sys, "argv", ["rro_diagnostics.py", str(run), "--tasks", "4", "--picture", str(picture)])
    script.main()
    told = capsys.readouterr().out
    assert re.search(r"^initial .* 4/4", told, re.MULTILINE) or re.search(r"^middle .* 4/4", told, re.MULTILINE)
    shares = [line.split() for line in told.partition("steps by candidates, %\n")[2].splitlines()]
    for column in (1, 2):
        assert sum(float(line[column]) for line in shares) == pytest.approx(100.0, abs=0.3)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_finished_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rro_diagnostics.py", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        script.main()
    assert stop.value.code == 2
    assert "there is no such file" in capsys.readouterr().err


def test_the_metrics_of_a_run_add_up(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    batches = [line for line in lines if "explore/steps" in line]
    assert len(batches) == 3
    total = 0.0
    for line in batches:
        total += line["rollout/episodes"]
        assert line["rollout/total_episodes"] == total
        shares = {n: line[f"explore/candidates_{n}"] for n in range(1, 9)}
        assert sum(shares.values()) == pytest.approx(1.0)
        assert sum(n * share for n, share in shares.items()) == pytest.approx(line["explore/candidates"])
        assert max(n for n, share in shares.items() if share) == line["explore/candidates_max"]
        drawn = line["explore/steps"] * line["explore/candidates"]
        assert drawn == pytest.approx(round(drawn))
        assert line["rollout/tokens"] >= drawn  # a token at least for each of them
        assert 0 < line["explore/calls"] <= line["rollout/tokens"]
        assert line["explore/pairs"] <= line["explore/steps"]
    assert total == summary["episodes"]
