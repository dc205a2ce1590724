"""What runs came to: columns read from files, intervals worked by hand, claims judged, tables beside the paper's."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.comparison import (
    Claim,
    Column,
    Decoding,
    Left,
    Published,
    Source,
    cell,
    judge,
    markdown,
    measured,
    table,
    told,
)
from agentrl.stats import Z95, difference, over_seeds_and_tasks, student


def test_interval_by_hand() -> None:
    """Seeds' means .5, .7, .6 (s = .1); tasks' means .8 and .4 (u = .2828)."""
    found = over_seeds_and_tasks([{"a": 0.7, "b": 0.3}, {"a": 0.9, "b": 0.5}, {"a": 0.8, "b": 0.4}])
    assert found.mean == pytest.approx(0.6)
    seeds, tasks = 4.302653 * 0.1 / math.sqrt(3), 1.959964 * 0.2828427 / math.sqrt(2)
    assert found.half == pytest.approx(math.hypot(seeds, tasks), rel=1e-5)
    assert (found.low, found.high) == (found.mean - found.half, found.mean + found.half)


def test_one_cause_alone() -> None:
    assert over_seeds_and_tasks([{"": 1.0}, {"": 3.0}]).half == pytest.approx(
        12.7062 * math.sqrt(2) / math.sqrt(2), rel=1e-4
    )
    assert over_seeds_and_tasks([{"a": 0.0, "b": 1.0}]).half == pytest.approx(Z95 * math.sqrt(0.5) / math.sqrt(2))
    assert over_seeds_and_tasks([{"": 1.0}]).half is None
    assert math.isnan(over_seeds_and_tasks([{}, {}]).mean)


def test_student_from_tables() -> None:
    assert [round(student(n), 3) for n in (1, 2, 4, 9, 1000)] == [12.706, 4.303, 2.776, 2.262, 1.962]


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=2, max_size=5), st.floats(-1, 1))
def test_differences_do_not_see_what_both_share(rows: list[list[float]], shift: float) -> None:
    """A constant difference is found without any doubt, whatever seeds and tasks do."""
    theirs = [{str(task): value for task, value in enumerate(row)} for row in rows]
    ours = [{task: value + shift for task, value in row.items()} for row in theirs]
    found = difference(ours, theirs)
    assert found.mean == pytest.approx(shift, abs=1e-9)
    assert found.half == pytest.approx(0.0, abs=1e-9)


def test_interval_covers() -> None:
    """Of simulated studies with effects of seeds and of tasks, the interval holds the truth in at least 95 %."""
    import random

    draw = random.Random(0)
    hits = 0
    for _ in range(400):
        tasks = [draw.gauss(0, 0.2) for _ in range(30)]
        seeds = [draw.gauss(0, 0.1) for _ in range(3)]
        plays = [{str(t): 0.5 + s + e + draw.gauss(0, 0.3) for t, e in enumerate(tasks)} for s in seeds]
        found = over_seeds_and_tasks(plays)
        hits += found.low <= 0.5 <= found.high
    assert hits / 400 >= 0.95


def a_run(folder: Path, plays: list[dict[str, Any]], metrics: Sequence[dict[str, Any]] = (), **summary: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    base = {"moment": "after", "decoding": "sampled", "member": 0, "parts": {}, "scores": {}}
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(base | play) + "\n" for play in plays))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (folder / "summary.json").write_text(json.dumps({"status": "done", **summary}))
    return folder


def test_columns_read_what_they_name(tmp_path: Path) -> None:
    plays = [
        {"task": "easy/1", "success": 1.0, "steps_success": 4, "scores": {"answer": 0.5, "answer.match": 1.0}},
        {"task": "easy/1", "member": 1, "success": 0.0, "steps_success": None, "parts": {"partial": 0.25}},
        {"task": "hard/1", "success": 0.0, "steps_success": None},
        {"task": "hard/1", "success": 1.0, "decoding": "greedy"},
        {"task": "hard/2", "success": 1.0, "moment": "before"},
    ]
    metrics = [{"step": 1, "rollout/success": 0.2}, {"step": 2, "rollout/success": 0.4}, {"step": 2, "x": "nan"}]
    run = a_run(tmp_path / "run", plays, metrics, episodes=640, time_s={"cpu": 12.5})
    left = Left(run)
    a_run(run / "panels" / "other", [{"task": "o", "moment": "eval", "success": 0.75}])
    assert Column("success").read(left) == {"easy/1": 0.5, "hard/1": 0.0}
    assert Column("success", tasks="easy/*", factor=100).read(left) == {"easy/1": 50.0}
    assert Column("success", decoding=Decoding.greedy).read(left) == {"hard/1": 1.0}
    assert Column("steps_success").read(left) == {"easy/1": 4.0}
    assert Column("parts.partial").read(left) == {"easy/1": 0.25}
    assert Column("scores.answer").read(left) == {"easy/1": 0.5}
    assert Column("scores.answer.match").read(left) == {"easy/1": 1.0}
    assert Column("success", panel="other").read(left) == {"o": 0.75}
    assert Column("rollout/success", of=Source.train).read(left) == {"": pytest.approx(0.3)}
    assert Column("rollout/success", of=Source.train, last=0.5).read(left) == {"": pytest.approx(0.4)}
    assert Column("x", of=Source.train).read(left) == {}
    assert Column("time_s.cpu", of=Source.summary).read(left) == {"": 12.5}
    assert Column("time_s.gpu", of=Source.summary).read(left) == {}


def test_claims_are_judged_by_the_interval() -> None:
    claim = Claim("new", "old", "SR")
    high = [{"a": 0.9, "b": 0.8}, {"a": 0.9, "b": 0.9}, {"a": 1.0, "b": 0.9}]
    low = [{"a": 0.1, "b": 0.1}, {"a": 0.2, "b": 0.1}, {"a": 0.1, "b": 0.2}]
    assert judge(claim, Column("success"), high, low).word == "holds"
    assert judge(claim, Column("success"), low, high).word == "contradicted"
    assert judge(claim, Column("steps", lower=True), low, high).word == "holds"
    assert judge(claim, Column("success"), high, high).word == "not shown"
    assert judge(claim, Column("success"), high, [{"c": 1.0}] * 3).word == "not measured"
    assert judge(claim, Column("success"), [], low).word == "not measured"
    verdict = judge(claim, Column("steps", lower=True, digits=1), low, high)
    (_, line) = told([verdict], {"SR": Column("steps", lower=True, digits=1)})
    assert line[0] == "new lower than old in SR"
    assert line[1].startswith("+0.8 ± ")


def test_table_beside_the_papers() -> None:
    columns = {"SR": Column("success", digits=1, factor=100), "n": Column("episodes", digits=0)}
    found = {"GRPO": {"SR": [{"a": 10.0}, {"a": 12.0}], "n": [{"": 1280.0}, {"": 1280.0}]}, "SFT": {"SR": [], "n": []}}
    lines = table(columns, found, Published(["SR", "other"], {"GRPO": [40.25, 1], "PPO": [7, 2], "SFT": [9, None]}))
    assert lines == [
        ["", "SR", "n"],
        ["GRPO", "11.0 ± 12.7 (40.25)", "1,280"],
        ["SFT", "- (9)", "-"],
        ["PPO (paper alone)", "(7)", "-"],
    ]
    assert markdown(lines).splitlines()[1] == "| --- | --- | --- |"
    assert cell([{"": 3.0}], Column("x", digits=2)) == "3.00"


def test_columns_that_no_row_fills_are_left_out() -> None:
    columns = {"SR": Column("success"), "NQ": Column("success", tasks="nq*")}
    found = {"A": {"SR": [{"a": 1.0}], "NQ": [{}]}, "B": {"SR": [], "NQ": []}}
    assert list(measured(columns, found)) == ["SR"]
