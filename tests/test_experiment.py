"""Recipes: every shipped one composes at both scales; a small one runs, is shared, goes on, and reports; mistakes."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from agentrl import config
from agentrl.config import CONF
from agentrl.experiment import Comparison, Job, panel_words
from tests.test_cli import told

RECIPES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))

SMALL = """
_target_: agentrl.experiment.Comparison
title: Two methods
source: a paper, table 1
words: [env=tool_planning, env.size=200, env.max_turns=3, eval.tasks=6, eval.samples=1, eval.before=false,
  tasks_per_step=2, rollout.group_size=2]
scales:
  laptop: {seeds: [0, 1], words: [steps=2]}
  paper: {seeds: [0], words: [model=qwen3_1_7b]}
rows:
  DIRECT: {words: [steps=0]}
  GRPO: {words: [method=grpo], paper: [steps=500]}
panels:
  hard: [env.difficulty=hard, eval.tasks=4]
columns:
  SR: {value: success}
  hard: {value: success, panel: hard, decoding: greedy}
published:
  columns: [SR]
  rows: {GRPO: [0.5], PPO: [0.75]}
claims:
  - {better: GRPO, than: DIRECT, column: SR}
notes: [A world of ours.]
"""


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "small.yaml").write_text(SMALL)
    return folder


def composed(name: str, scale: str, *words: str, folder: Path | None = None) -> Any:
    return config.compose("run_experiment", [f"experiment={name}", f"scale={scale}", *words], folder)


def built(name: str, scale: str) -> tuple[Any, Any]:
    cfg = composed(name, scale)
    config.check(cfg)
    return cfg, config.build(cfg.experiment)


@pytest.mark.parametrize("scale", ["laptop", "paper"])
@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_compose(name: str, scale: str) -> None:
    """Every row, at both scales, is a valid command line; a recipe names its paper, or is ours without a paper's scale;
    on a laptop there are at least three seeds."""
    cfg, recipe = built(name, scale)
    from_paper = re.search(r"arXiv:\d{4}\.\d{5}", recipe.source)
    assert from_paper or recipe.source.startswith("ours")
    if isinstance(recipe, Comparison):
        assert ("paper" in recipe.scales) == bool(from_paper)
        assert len(recipe.scales["laptop"].seeds) >= 3
        if scale in recipe.scales:
            recipe.refuse_mistakes(recipe.jobs(recipe.scales[scale], cfg), None)


def test_published_columns_and_rows_are_used() -> None:
    """A typing mistake in the name of a published column would silently hide the paper's numbers."""
    for name in RECIPES:
        _, recipe = built(name, "laptop")
        if isinstance(recipe, Comparison) and recipe.published.columns:
            assert set(recipe.published.columns) & set(recipe.columns), name
            assert set(recipe.published.rows) & set(recipe.rows), name


@pytest.mark.slow
def test_a_small_experiment(recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its runs are real processes. A run that fails is told and costs only its cell; what is done is not done again."""
    out = tmp_path / "out"
    words = ["train", "experiment=small", f"out={out}", "--config-dir", str(recipes)]
    two = [*words, "rows=[GRPO]", "workers=2"]
    shown = told(capsys, *two, "dry_run=true")[1]
    place = Path(
        next(word.partition("=")[2] for word in shlex.split(shown.splitlines()[0]) if "run_dir=" in word)
    ).parent
    place.mkdir(parents=True)
    (place / "1").write_text("a file where a folder is wanted")
    assert told(capsys, *two)[0] == 1
    result = json.loads((out / "small_laptop" / "table.json").read_text())
    assert len(result["values"]["GRPO"]["SR"]) == 1
    assert result["failed"] == [str(place / "1")]
    assert "Failed: GRPO, seed 1" in (out / "small_laptop" / "report.md").read_text()

    code, text, err = told(capsys, *words, "seeds=[0]")
    assert code == 0, err
    assert "2 runs, 1 of them done already" in text
    report = (out / "small_laptop" / "report.md").read_text()
    assert "| PPO (paper alone) | (0.75) |" in report
    assert "GRPO higher than DIRECT in SR" in report
    assert report in text
    assert (out / "small_laptop" / "curves.png").stat().st_size > 5000
    result = json.loads((out / "small_laptop" / "table.json").read_text())
    assert [len(paths) for paths in result["runs"].values()] == [1, 1]
    assert all(len(seed) == 6 for seed in result["values"]["GRPO"]["SR"])
    assert all(len(seed) == 4 for seed in result["values"]["DIRECT"]["hard"])
    assert result["values"]["GRPO"]["episodes"] == [{"": 4.0}]
    assert not result["failed"]

    begin = time.time()
    assert "2 runs, 2 of them done already" in told(capsys, *words, "seeds=[0]")[1]
    assert not [path for path in (out / "runs").rglob("summary.json") if path.stat().st_mtime > begin]


def test_commands_and_shared_runs(recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"out={tmp_path}"
    code, text, _ = told(
        capsys, "train", "experiment=small", out, "dry_run=true", "eval.tasks=3", "--config-dir", str(recipes)
    )
    lines = [shlex.split(line) for line in text.splitlines()]
    assert (code, len(lines)) == (0, 4)
    assert not list(tmp_path.glob("runs"))
    seeds = [next(word for word in line if word.startswith("seed=")) for line in lines]
    assert seeds == ["seed=0", "seed=1", "seed=0", "seed=1"]
    assert all(line.index("eval.tasks=3") > line.index("eval.tasks=6") for line in lines)
    assert lines[0].index("steps=0") > lines[0].index("eval.tasks=3")
    folders = {next(word for word in line if word.startswith("run_dir=")) for line in lines}
    assert len(folders) == 4
    _, other, _ = told(
        capsys, "train", "experiment=small", out, "dry_run=true", "scale=paper", "--config-dir", str(recipes)
    )
    assert "steps=500" in other


def test_a_scale_that_a_recipe_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "train", "experiment=demo", "scale=paper")
    assert (code, "experiment=demo has only scale=laptop" in err) == (2, True)


def test_mistakes_are_told_before_anything_runs(
    recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["train", "experiment=small", f"out={tmp_path}", "--config-dir", str(recipes)]
    for words, expected in (
        (["stepz=3"], "row 'DIRECT'"),
        (["rows=[GRPQ]"], "GRPQ is no row here; rows: DIRECT, GRPO"),
        (["scale=pape"], "expected one of [laptop, paper]"),
        (["steps=-1", "rows=[GRPO]"], "steps: got -1"),
    ):
        code, _, err = told(capsys, *base, *words)
        assert (code, expected in err) == (2, True), err
    code, _, err = told(capsys, "train", "experiment=smal", "--config-dir", str(recipes))
    assert code == 2
    assert "did you mean 'small'?" in err
    assert not list(tmp_path.glob("runs"))


@pytest.mark.parametrize(
    ("line", "other", "expected"),
    [
        ("better: GRPO", "better: GRP", "'GRP' is none of experiment.rows"),
        ("column: SR", "column: S", "'S' is none of experiment.columns"),
        ("panel: hard", "panel: soft", "expected one of experiment.panels: hard"),
        ("GRPO: [0.5]", "GRPO: [0.5, 1]", "expected 1 values"),
        ("value: success}", "value: success, digit: 1}", "digit"),
        ("  paper: {seeds", "  papers: {seeds", "got laptop, papers, expected laptop"),
    ],
)
def test_mistakes_of_a_recipe(recipes: Path, line: str, other: str, expected: str) -> None:
    assert line in SMALL
    (recipes / "experiment" / "small.yaml").write_text(SMALL.replace(line, other, 1))
    with pytest.raises(ValueError, match=re.escape(expected)):
        config.check(composed("small", "laptop", folder=recipes))


def test_words_that_a_further_panel_takes() -> None:
    words = ["env=robotouille", "env.recipes=[burger]", "method=grpo", "steps=4", "model=tiny", "eval.before=false"]
    words += [
        "eval.tasks=300",
        "eval.temperature=0.5",
        "+reward@eval.scores.x=judge",
        "reward=binary",
        "rollout.pool=3",
    ]
    assert panel_words(words, ["env.recipes=[]"]) == [
        "env=robotouille",
        "env.recipes=[burger]",
        "model=tiny",
        "eval.temperature=0.5",
        "+reward@eval.scores.x=judge",
        "env.recipes=[]",
    ]


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    job = Job("GRPO", 3, ("method=grpo",), tmp_path / "3")
    assert job.next() == ["train", "method=grpo", "seed=3", "log=files", f"run_dir={tmp_path}/3"]
    (tmp_path / "3" / "checkpoints" / "step_000004").mkdir(parents=True)
    (tmp_path / "3" / "config.yaml").touch()
    (tmp_path / "3" / "checkpoints" / "step_000004" / "manifest.json").touch()
    assert job.next() == ["train", f"resume={tmp_path}/3"]
