"""RLTR's table 3: agreement by hand, the order it shows, and what the recipes of RLTR share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentrl import config
from agentrl.agreement import agreement
from agentrl.errors import ConfigError


def study(tmp_path: Path, *words: str) -> Any:
    """The recipe's object and the config of its command."""
    cfg = config.compose("run_experiment", ["experiment=rltr_table3", f"out={tmp_path}", *words])
    return config.build(cfg.experiment), cfg


def test_agreement_by_hand() -> None:
    """Three of five right; of the positives two hits, one miss, one false."""
    truth, said = [True, True, True, False, False], [True, True, False, True, False]
    assert agreement(list(zip(truth, said, strict=True))) == (pytest.approx(60.0), pytest.approx(100 * 4 / 6))
    assert agreement([(False, False)]) == (100.0, 0.0)
    assert agreement([(True, False)]) == (0.0, 0.0)


def test_the_study_gives_the_paper_s_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Completeness agrees better with the truth than the answer, and a loophole makes that worse."""
    recipe, cfg = study(tmp_path, "experiment.plays=300", "experiment.noise=0.3", "seeds=[0,1]")
    result = recipe.run(cfg)
    values = {
        name: [result["values"][seed][name] for seed in (0, 1)]
        for name in ("answer, judge without noise", *(n for n in result["values"][0] if "flip" in n))
    }
    exact, one, three, answer, believing = (sum(acc for acc, _ in pair) / 2 for pair in values.values())
    assert exact > 85.0
    assert one == pytest.approx(75.0, abs=5.0)
    assert three > one > answer > believing
    report = (tmp_path / "rltr_table3_laptop" / "report.md").read_text()
    assert report in capsys.readouterr().out
    assert "| completeness reward (paper) | 74.59 | 84.64 |" in report
    assert json.loads((tmp_path / "rltr_table3_laptop" / "table.json").read_text())["failed"] == []
    assert "judged" not in report


def test_studies_are_equal_for_equal_seeds_and_others_for_others(tmp_path: Path) -> None:
    recipe, _ = study(tmp_path, "experiment.plays=60")
    env = recipe.env()
    first = recipe.study(env, 0, False)
    assert first == recipe.study(env, 0, False)
    assert first != recipe.study(env, 1, False)


def test_a_dry_run_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, cfg = study(tmp_path, "dry_run=true")
    assert recipe.run(cfg) == {"failed": []}
    assert "trains nothing" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_what_it_refuses(tmp_path: Path) -> None:
    recipe, cfg = study(tmp_path, "extra=['steps=4']")
    with pytest.raises(ConfigError, match="it trains nothing"):
        recipe.run(cfg)
    with pytest.raises(ConfigError, match="expected at least one each"):
        study(tmp_path, "experiment.plays=0")
    with pytest.raises(ConfigError, match=r"experiment\.noise: got 2"):
        study(tmp_path, "experiment.noise=2")


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_the_first_two_tables_share_their_runs(scale: str, tmp_path: Path) -> None:
    folders = []
    for name in ("rltr_table1", "rltr_table2"):
        cfg = config.compose("run_experiment", [f"experiment={name}", f"scale={scale}", f"out={tmp_path}"])
        recipe = config.build(cfg.experiment)
        folders.append({(job.row, job.folder) for job in recipe.jobs(recipe.scales[scale], cfg)})
    assert {row for row, _ in folders[0] & folders[1]} == {"E2E RL (PPO)", "RLTR (PPO)"}
