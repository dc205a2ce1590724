"""Real input: the original's products and goals, in its own words and in the compact ones, through the real loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "webshop"
SMALL = """
    env=webshop env.max_turns=3 tasks_per_step=2 learner.minibatches=1 steps=2 eval.tasks=4 log=files
    model.context_tokens=8192
"""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the official WebShop files are not at {DATA}")


def train(run_dir: Path, *overrides: str) -> tuple[dict[str, Any], list[dict[str, float]], list[dict[str, Any]]]:
    """(summary, metrics of the steps, plays) of a run of two steps."""
    cfg = config.compose("train", [*SMALL.split(), f"env.data={DATA}", f"run_dir={run_dir}", *overrides])
    config.check(cfg)
    summary = loop.train(cfg)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    plays = [json.loads(line) for line in (run_dir / "trajectories.jsonl").read_text().splitlines()]
    return summary, [line for line in lines if "learner/loss" in line], plays


@pytest.mark.parametrize("view", ["text", "compact"])
def test_vspo_plays_and_learns_on_the_official_products(view: str, tmp_path: Path) -> None:
    """A policy that has never seen such pages earns nothing yet, so an entropy bonus stands in for a lesson."""
    overrides = ["method=vspo", "rollout.group_size=2", "method.entropy_coef=0.01", f"env.view={view}"]
    summary, steps, plays = train(tmp_path, *overrides)
    assert summary["status"] == "done"
    assert summary["facts"]["env"]["products"] == 1000
    assert summary["facts"]["env"]["view"] == view
    assert summary["eval"]["after"]["sampled"]["n"] == 4
    assert [line["learner/skipped_steps"] for line in steps] == [0.0, 0.0]
    assert max(line["learner/logprob_gap"] for line in steps) < 1e-4
    assert all(len(play["turns"]) == 3 or play["stop"] == "done" for play in plays)
    opening = json.dumps(plays[0]["first_observation"])
    assert ("WebShop [SEP] Instruction: [SEP] " in opening) == (view == "text")


@pytest.mark.parametrize("view", ["text", "compact"])
def test_sft_learns_from_an_expert_that_shops_there(view: str, tmp_path: Path) -> None:
    few = ["eval.before=false", "eval.tasks=1", "eval.samples=1"]
    words = ["method=sft", "rollout.noise=0", f"env.view={view}", "env.max_turns=12", *few]
    summary, steps, plays = train(tmp_path, *words)
    assert summary["status"] == "done"
    assert all(line["learner/grad_norm"] > 0 for line in steps)
    assert all(line["rollout/parsed"] == 1.0 for line in steps)
    assert max(len(turn["prompt_ids"]) for play in plays for turn in play["turns"]) > 256  # whole pages of results
    assert max(play["env_return"] for play in plays) > 0.5
