"""RLTR with its three optimisers: the toy world, the tool world, and equal runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrl import config, loop
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

VARIANTS = ("rltr", "rltr_grpo", "rltr_reinforce_pp")
# the toy world's right answer to both turns is the same word, which no penalty of repeats can like
WORDS = ["model.action_tokens=1", "reward.repeat_penalty=0", "rollout.stop_text=again", "rollout.group_size=16"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("method", VARIANTS)
def test_a_variant_is_a_choice_of_optimiser_reward_and_rollout(method: str, model: Path, tmp_path: Path) -> None:
    cfg = toy_config(model, tmp_path, [f"method={method}"])
    assert cfg.rollout._target_ == "agentrl.rollout.planner.Planner"
    assert cfg.reward._target_ == "agentrl.rewards.completeness.Completeness"
    assert cfg.method.kl_coef == 0.001
    optimiser = {"rltr": "PPO", "rltr_grpo": "GRPO", "rltr_reinforce_pp": "ReinforcePP"}[method]
    assert cfg.method._target_.endswith(optimiser)
    assert cfg.choices.method == method


def solve(model: Path, folder: Path, method: str, seed: int, context: str) -> None:
    """After a cold start on rejected demonstrations, as in the paper."""
    warm = ["warmstart=rejection", "warmstart.steps=3", "warmstart.tasks_per_step=4", "warmstart.samples=2"]
    words = [*WORDS, *warm, f"warmstart.folder={folder}/warm", f"seed={seed}", f"context={context}"]
    result = toy_train(model, folder, f"method={method}", *words, "steps=30")
    before, after = (result["eval"][moment]["sampled"]["success"] for moment in ("before", "after"))
    assert before < 0.5, (before, after)
    assert after > 0.9, (before, after)


@pytest.mark.parametrize("method", VARIANTS)
def test_it_solves_the_toy_world(method: str, model: Path, tmp_path: Path) -> None:
    solve(model, tmp_path, method, 0, "window")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("method", VARIANTS)
def test_it_solves_the_toy_world_with_other_seeds(method: str, seed: int, model: Path, tmp_path: Path) -> None:
    solve(model, tmp_path, method, seed, "window")


def test_it_solves_the_toy_world_with_a_history(model: Path, tmp_path: Path) -> None:
    solve(model, tmp_path, "rltr", 0, "history")


def test_equal_seeds_give_equal_runs(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        toy_train(model, tmp_path / name, "method=rltr", *WORDS, "checker=noisy", "steps=4")
    weights = [(tmp_path / name / "checkpoints/step_000004/model/model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_batch_in_the_tool_world(tmp_path: Path) -> None:
    words = ["method=rltr", "env=tool_planning", "env.size=300", "env.val=10", "env.test=10", "checker=noisy"]
    words += ["steps=2", "tasks_per_step=2", "eval.tasks=4", "log=files", f"run_dir={tmp_path}", "device=cpu"]
    cfg = config.compose("train", words)
    config.check(cfg)
    loop.train(cfg)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if "rollout/reward" in line]
    for part in ("completeness", "complete", "repeats", "errors", "format", "below", "calls"):
        assert f"reward/{part}" in line


def test_an_end_to_end_policy_learns_from_demonstrations_with_answers_and_is_judged(tmp_path: Path) -> None:
    """A cold start of answers, one batch on the judge's word, and a panel scored like table 1."""
    words = ["method=ppo", "reward=judge", "env=tool_planning", "env.answers=true", "env.size=300", "env.val=10"]
    words += ["env.test=20", "warmstart=rejection", "warmstart.steps=20", f"warmstart.folder={tmp_path}/warm"]
    words += ["+reward@eval.scores.answer=judge", "+reward@eval.scores.calls=completeness", "eval.before=false"]
    words += ["steps=2", "tasks_per_step=2", "eval.tasks=20", "log=files", f"run_dir={tmp_path}/run", "device=cpu"]
    cfg = config.compose("train", words)
    config.check(cfg)
    scores = loop.train(cfg)["eval"]["after"]["greedy"]["scores"]
    assert scores["answer.match"] > 0.2  # the base answers with a bare word and never matches
    assert {"answer.helpful", "answer.relevant", "calls.complete"} <= scores.keys()
    lines = [json.loads(line) for line in (tmp_path / "warm").glob("*/trajectories.jsonl").__next__().open()]
    assert lines
    assert all(line["turns"][-1]["action"].startswith("answer ") for line in lines if line["stop"] == "done")
