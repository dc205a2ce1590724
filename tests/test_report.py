"""`agentrl report` over runs that are written by hand: what it shows, what it refuses, what it lists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrl.cli import main
from agentrl.comparison import Decoding
from agentrl.errors import ConfigError
from agentrl.log.files import read_json
from agentrl.report import command
from agentrl.report.arms import arms, one_panel
from agentrl.report.reading import find as find_runs
from agentrl.report.records import Settings
from agentrl.report.words import wanted
from agentrl.stats import difference
from tests.report_runs import TASKS, a_run, solved

SETTINGS = Settings("success", Decoding.sampled, "", 2000, [0.05])


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["report", *words, "report.draws=500"])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def grid(folder: Path, levels: Mapping[str, Sequence[int]], env: str = "webshop") -> Path:
    """A run for each method and seed: ``levels[method][seed]`` of the panel's tasks are solved."""
    for method, of_seeds in levels.items():
        for seed, count in enumerate(of_seeds):
            a_run(folder / env / method / str(seed), method=method, env=env, seed=seed, values=solved(count, seed))
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.suffix: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_overlapping_intervals_are_not_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three seeds around 20 and 22 of 40 tasks: the golden case of a ranking that must not be made."""
    runs = grid(tmp_path / "runs", {"grpo": [18, 20, 22], "vspo": [20, 22, 24]})
    code, out, _ = report(capsys, str(runs), f"out={tmp_path / 'out'}")
    assert code == 0
    assert "no difference shown between grpo and vspo (-0.050 ± " in out
    assert "no ranking" in out
    found = texts(tmp_path / "out")
    for suffix in (".html", ".md", ".tex"):
        assert "no difference shown" in found[suffix]
        assert "not ranked" in found[suffix]
        assert "above vspo" not in found[suffix]
        assert "above grpo" not in found[suffix]
    result = read_json(tmp_path / "out" / "report.json")["environments"][0]
    assert [method["rank"] for method in result["methods"]] == [None, None]
    assert [method["label"] for method in result["methods"]] == ["grpo", "vspo"]  # by name, whatever they reach


def test_clear_differences_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(tmp_path / "runs", {"a": [2, 3, 2, 3], "b": [20, 21, 20, 21], "c": [38, 39, 38, 39]})
    code, out, _ = report(capsys, str(runs), f"out={tmp_path / 'out'}")
    assert code == 0
    assert "they rank: 1. c, 2. b, 3. a." in out
    result = read_json(tmp_path / "out" / "report.json")["environments"][0]
    assert [(pair["word"], pair["overlap"], pair["improvement"]) for pair in result["pairs"]] == [
        ("below", False, 0)
    ] * 3
    by_hand = difference([solved(2, 0), solved(3, 1), solved(2, 2), solved(3, 3)], [solved(20, 0), solved(21, 1)] * 2)
    assert result["pairs"][0]["difference"]["mean"] == pytest.approx(by_hand.mean) == pytest.approx(-18 / TASKS)
    middle = next(m for m in result["methods"] if m["label"] == "b")
    assert (middle["mean"]["mean"], middle["iqm"], middle["rank"]) == (pytest.approx(20.5 / TASKS),) * 2 + (2,)


def test_a_difference_may_be_shown_where_ranks_are_not(tmp_path: Path) -> None:
    """Two methods one point apart on every task and seed, while tasks and seeds vary much."""
    for seed in range(6):
        for method, more in (("low", 0.0), ("high", 0.05)):
            values = {f"t{i}": 0.02 * i + 0.01 * seed + more for i in range(TASKS)}
            a_run(tmp_path / method / str(seed), method=method, seed=seed, values=values)
    (one,) = command.find([str(tmp_path)], SETTINGS, 0).found
    (pair,) = one.pairs
    assert (pair.ours, pair.word, pair.overlap) == ("high", "above", True)
    assert pair.difference.mean == pytest.approx(0.05)
    assert [arm.rank for arm in one.arms] == [None, None]


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    runs = grid(tmp_path, {"grpo": [2], "vspo": [39]})
    (one,) = command.find([str(runs)], SETTINGS, 0).found
    assert one.pairs[0].word == "no difference shown: one seed says nothing of others"
    assert [arm.rank for arm in one.arms] == [None, None]


def test_equal_plays_say_nothing_of_sample_sizes(tmp_path: Path) -> None:
    """Two methods that did not learn play alike: their differences have no spread, which is not a spread of 0."""
    runs = grid(tmp_path, {"grpo": [8, 20], "vspo": [8, 20]})
    (one,) = command.find([str(runs)], SETTINGS, 0).found
    (advice,) = one.advice
    assert (advice.known, advice.seeds, advice.paired) == (False, None, None)
    assert advice.unpaired
    assert wanted([one]) == ""


def test_runs_without_a_seed_in_common_are_not_compared(tmp_path: Path) -> None:
    for method, seed in (("grpo", 0), ("grpo", 1), ("vspo", 2), ("vspo", 3)):
        a_run(tmp_path / f"{method}{seed}", method=method, seed=seed, values=solved(20, seed))
    found = command.find([str(tmp_path)], SETTINGS, 0)
    assert found.found[0].pairs[0].word == "not compared: no seed in common"
    assert ("grpo in webshop", "no finished run with seed 2, 3; others have it") in found.absent


def test_different_panels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(tmp_path / "runs", {"grpo": [20, 21], "vspo": [20, 21]})
    a_run(tmp_path / "runs" / "odd", method="vspo", seed=2, values=solved(20, 2), panel="b" * 16)
    code, out, err = report(capsys, str(runs), f"out={tmp_path / 'out'}")
    assert (code, out) == (2, "")
    assert err == (
        f"agentrl: env=webshop: the runs were measured on 2 panels of tasks: {'a' * 16} (4 runs), {'b' * 16} (1 run); "
        f"what they reach on different tasks cannot be compared; choose one with report.panel={'a' * 16}\n"
    )
    assert not (tmp_path / "out").exists()
    code, out, _ = report(capsys, str(runs), f"out={tmp_path / 'out'}", f"report.panel={'a' * 16}")
    assert code == 0
    assert f"measured on panel {'b' * 16}; report.panel={'a' * 16} was chosen" in texts(tmp_path / "out")[".html"]
    code, _, err = report(capsys, str(runs), "report.panel=nowhere")
    assert code == 2
    assert f"report.panel=nowhere: no run was measured on it; panels of these runs: {'a' * 16}, {'b' * 16}" in err


def test_environments_have_panels_of_their_own(tmp_path: Path) -> None:
    for env, panel in (("webshop", "a" * 16), ("robotouille", "b" * 16)):
        for method in ("grpo", "vspo"):
            for seed in (0, 1):
                folder = tmp_path / env / method / str(seed)
                a_run(folder, method=method, env=env, seed=seed, values=solved(20, seed), panel=panel)
    found = command.find([str(tmp_path)], SETTINGS, 0)
    assert [one.env for one in found.found] == ["robotouille", "webshop", "all environments"]
    every = found.found[-1]
    assert [arm.mean.mean for arm in every.arms] == [pytest.approx(20 / TASKS)] * 2
    halves = [one.arms[0].mean.half for one in found.found]
    assert halves[2] == pytest.approx((halves[0] ** 2 + halves[1] ** 2) ** 0.5 / 2)  # type: ignore[operator]


def test_what_does_not_count_is_listed(tmp_path: Path) -> None:
    grid(tmp_path, {"grpo": [20, 21, 22], "vspo": [20, 21]})
    a_run(tmp_path / "cut", method="ppo", seed=0, values=solved(9, 0), status="interrupted", steps=7)
    a_run(tmp_path / "killed", method="ppo", seed=1, values=solved(9, 0), steps=4)
    (tmp_path / "killed" / "summary.json").unlink()
    (tmp_path / "killed" / "hang.txt").write_text("stacks")
    a_run(tmp_path / "half", method="ppo", seed=2, values=solved(9, 0))
    (tmp_path / "half" / "summary.json").write_text('{"status": "do')
    a_run(tmp_path / "empty", method="ppo", seed=3, values={})
    a_run(tmp_path / "twin", method="grpo", seed=0, values=solved(20, 0))
    a_run(tmp_path / "measured", method=None, seed=0, values=solved(20, 0))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.yaml").write_text("a: [1")
    (tmp_path / "row-123").mkdir()
    (tmp_path / "row-123" / "4.log").write_text("agentrl: no such model")
    absent = dict(command.find([str(tmp_path)], SETTINGS, 0).absent)
    assert absent.pop("cut") == "interrupted at step 7 of 8"
    assert absent.pop("killed") == (
        "not finished: at step 4 of 8, no summary.json: still going, or killed; hang.txt says where it stood still"
    )
    assert absent.pop("half").startswith("a file of it is damaged: JSONDecodeError")
    assert absent.pop("empty") == "done, but without plays after training in evaluations.jsonl"
    assert absent.pop("webshop/grpo/0") == "the same words and seed as twin: counted once"
    assert absent.pop("measured") == "an evaluation without training"
    assert absent.pop("bad").startswith("config.yaml cannot be read: ")
    assert absent.pop(str(tmp_path / "row-123" / "4.log")) == "never began: no folder; the file says why"
    assert absent.pop("vspo in webshop") == "no finished run with seed 2; others have it"
    assert not absent


def test_arms_are_told_by_what_differs(tmp_path: Path) -> None:
    """The learning rate tells two arms apart; what follows from it is not told, and the seed is no word."""
    for name, lr in (("slow", 0.1), ("fast", 0.3)):
        for seed in (0, 1):
            more = {"learner": {"lr": lr, "floor": lr / 10}, "log": {"x": name}, "env": {"cap": 3}}
            a_run(tmp_path / f"{name}{seed}", method="grpo", seed=seed, values=solved(20, seed), more=more)
    a_run(tmp_path / "other", method="vspo", seed=0, values=solved(20, 0), more={"learner": {"lr": 0.1, "floor": 0.01}})
    found = arms(find_runs([str(tmp_path)]))
    assert [(arm.label, arm.seeds) for arm in found] == [
        ("grpo, learner.lr=0.1", (0, 1)),
        ("grpo, learner.lr=0.3", (0, 1)),
        ("vspo", (0,)),
    ]


def test_another_part_is_told_by_its_name(tmp_path: Path) -> None:
    for reward, node in (("env", {"_target_": "agentrl.x.Env"}), ("prs", {"_target_": "agentrl.x.PRS", "beta": 2})):
        more = {"reward": node, "choices": {"reward": reward}}
        a_run(tmp_path / reward, method="grpo", seed=0, values=solved(20, 0), more=more)
    assert [arm.label for arm in arms(find_runs([str(tmp_path)]))] == ["grpo, reward=env", "grpo, reward=prs"]


def test_a_folder_may_be_named_twice(tmp_path: Path) -> None:
    runs = grid(tmp_path, {"grpo": [20, 21]})
    assert len(find_runs([str(runs), str(runs / "webshop" / "grpo" / "0")])) == 2
    assert one_panel(find_runs([str(runs)]), "")[1] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "report: no folder; give folders of runs: agentrl report FOLDER..."),
        (["nowhere"], "nowhere: there is no such folder"),
        (["."], ".: no run there; expected a config.yaml"),
        ([".", "report.metric=sucess"], "report.metric: got 'sucess', expected one of success, score"),
        ([".", "report.pannel=x"], "did you mean 'panel'?"),
        ([".", "report.effects=[0]"], "expected differences above 0"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = report(capsys, *words)
    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_no_finished_run(tmp_path: Path) -> None:
    a_run(tmp_path / "cut", method="ppo", seed=0, values={}, status="failed")
    with pytest.raises(ConfigError, match="no finished run among 1: cut: failed at step 8 of 8"):
        command.find([str(tmp_path)], SETTINGS, 0)


def test_metric_and_decoding_are_chosen(tmp_path: Path) -> None:
    grid(tmp_path, {"grpo": [10, 10], "vspo": [10, 10]})
    for metric, decoding, expected in (("success", "greedy", 1.0), ("score", "sampled", 0.5 + 0.5 * 10 / TASKS)):
        found = command.find([str(tmp_path)], Settings(metric, Decoding(decoding), "", 200, [0.1]), 0)
        assert found.found[0].arms[0].mean.mean == pytest.approx(expected)


def test_costs_and_origins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(tmp_path / "runs", {"grpo": [10, 10]})
    (runs / "webshop" / "grpo" / "0" / "calls.jsonl").write_text("{}\n{}\n{}\n")
    (cost,) = command.find([str(runs)], SETTINGS, 0).costs
    assert (cost.episodes, cost.tokens, cost.calls, cost.cpu_s, cost.gpu_s, cost.warm_s) == (64, 800, 3, 12.5, None, 30)
    report(capsys, str(runs), f"out={tmp_path / 'out'}")
    page = texts(tmp_path / "out")[".html"]
    for told in ("0123456789 +", "beef", "agentrl train seed=0", "a" * 16, "torch", "2.13.0"):
        assert told in page


HOSTILE = "<script>document.title='x'</script>|$x$ & `a` \\input{/etc/passwd}_%"


def test_text_of_runs_is_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, word in enumerate((HOSTILE, "\x1b[31mred\u202e\ud800")):
        a_run(tmp_path / "runs" / str(i), method="grpo", seed=0, values=solved(9, 0), more={"env": {"word": word}})
    code, _, _ = report(capsys, str(tmp_path / "runs"), f"out={tmp_path / 'out'}")
    assert code == 0
    found = texts(tmp_path / "out")
    assert "<script" not in found[".html"]
    assert "&lt;script&gt;" in found[".html"]
    assert "\\<script\\>" in found[".md"]
    assert r"\textless{}script\textgreater{}" in found[".tex"]
    assert r"\textbackslash{}input\{/etc/passwd\}\_\%" in found[".tex"]
    assert all("\x1b" not in text and "\u202e" not in text for text in found.values())
    assert "\\x1b[31mred\\u202e" in found[".html"]
    rows = [line for line in found[".md"].splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows if "script" in line} <= {
        len(re.findall(r"(?<!\\)\|", line)) for line in rows if "script" not in line
    }


def needs_nothing_else(page: str) -> None:
    """No script, nothing fetched, every id once and every reference to one of them."""
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"<(script|link|img|iframe|object|embed|base|form)\b", page)
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', page)
    assert set(used) <= set(ids)


def test_the_same_runs_give_the_same_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(tmp_path / "runs", {"grpo": [10, 12], "vspo": [9, 14]})
    found: list[dict[str, Any]] = []
    for name in ("one", "two"):
        report(capsys, str(runs), f"out={tmp_path / name}")
        found.append(texts(tmp_path / name))
    assert found[0] == found[1]
    needs_nothing_else(found[0][".html"])
    assert json.loads(found[0][".json"])["settings"]["metric"] == "success"
    assert yaml.safe_load((runs / "webshop" / "grpo" / "0" / "config.yaml").read_text())["seed"] == 0
