"""The promise of the front page: on the bundled shop, on a CPU, a policy gets better by reinforcement alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrl import config, loop


@pytest.mark.slow
def test_vspo_learns_to_shop(tmp_path: Path) -> None:
    """The defaults of ``agentrl train method=vspo env=webshop``, a third of the way."""
    overrides = ["method=vspo", "env=webshop", "steps=40", "eval.tasks=50", "log=files", f"run_dir={tmp_path}"]
    cfg = config.compose("train", overrides)
    config.check(cfg)
    summary = loop.train(cfg)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    success = [line["rollout/success"] for line in lines if "rollout/success" in line]
    first, last = sum(success[:2]) / 2, sum(success[-4:]) / 4
    assert last - first >= 0.2, success
    before, after = summary["eval"]["before"]["sampled"], summary["eval"]["after"]["sampled"]
    assert after["success"] > before["success"] + 0.2, (before, after)
    assert max(line.get("learner/logprob_gap", 0.0) for line in lines) < 1e-4
