"""The real loop where it is easily wrong: environment tokens, repeated tasks, batches without a lesson, past groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.errors import ConfigError
from agentrl.learner import Learner
from agentrl.model import Policy
from tests.toy import save_toy_model
from tests.toy_run import toy_train

METHODS = ["sft", "grpo", "dapo", "vspo"]
SHORT = ["steps=2", "eval.tasks=2", "eval.samples=1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def graded(method: str) -> list[str]:
    """VSPO's own reward hardly tells a random policy's plays apart."""
    return [f"method={method}", *(["reward.quality=env_return"] if method == "vspo" else [])]


@pytest.mark.parametrize("method", METHODS)
def test_in_a_history_environment_tokens_get_exactly_no_gradient(
    method: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss reaches the logprobs of the sampled tokens of each play, stop tokens included, and no others."""
    sampled: dict[tuple[int, ...], list[int]] = {}
    scored: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
    learn, outputs = Learner.learn, Policy.outputs

    def learned(self: Learner, groups: Any, given: Any, version: int) -> Any:
        for play in (p for group in groups for p in group.valid):
            ids = play.turns[-1].prompt_ids + play.turns[-1].action_ids
            spans = [(len(t.prompt_ids), len(t.prompt_ids) + len(t.action_ids)) for t in play.turns]
            assert all(ids[a:b] == t.action_ids for (a, b), t in zip(spans, play.turns, strict=True))
            sampled[ids] = [i for a, b in spans for i in range(a, b)]
            assert len(play.turns) == 2
        return learn(self, groups, given, version)

    def watched(self: Policy, ids: Any, attention: Any, loss_mask: Any, *rest: Any) -> Any:
        out = outputs(self, ids, attention, loss_mask, *rest)
        if out.logprobs.requires_grad:
            out.logprobs.retain_grad()
            scored.append((ids, attention, loss_mask, out.logprobs))
        return out

    monkeypatch.setattr(Learner, "learn", learned)
    monkeypatch.setattr(Policy, "outputs", watched)
    toy_train(model, tmp_path, *graded(method), *SHORT, "context=history")
    touched = 0
    for ids, attention, mask, logprobs in scored:
        for row, length in enumerate(attention.sum(-1).tolist()):
            places = mask[row].nonzero().squeeze(-1).tolist()
            assert places == sampled[tuple(ids[row, :length].tolist())]
        if logprobs.grad is not None:
            assert (logprobs.grad[~mask] == 0).all()
            touched += int((logprobs.grad[mask] != 0).sum())
    assert touched > 0


def test_more_tasks_a_step_than_there_are(model: Path, tmp_path: Path) -> None:
    """The same task twice in a batch: two groups, each with samples of its own."""
    toy_train(model, tmp_path, "method=grpo", *SHORT, "tasks_per_step=20")
    records = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    assert max(line["rollout/episodes"] for line in metrics(tmp_path) if "rollout/episodes" in line) == 160
    assert records


@pytest.mark.parametrize("method", METHODS)
def test_a_run_whose_every_episode_fails_learns_nothing_and_does_not_crash(
    method: str, model: Path, tmp_path: Path
) -> None:
    allowed = ["env.fails=true", "rollout.max_failed=1", "eval.max_failed=1", "learner.minibatches=2"]
    result = toy_train(model, tmp_path, f"method={method}", *SHORT, *allowed)
    assert result["status"] == "done"
    assert result["eval"]["after"]["sampled"]["n"] == 0
    lines = [line for line in metrics(tmp_path) if "learner/skipped_steps" in line]
    assert [line["learner/skipped_steps"] for line in lines] == [2.0]


def test_dapo_plays_on_after_the_last_task_of_its_pool(model: Path, tmp_path: Path) -> None:
    """Rewards that are always equal: every extra round is played, and the batch stays whole."""
    result = toy_train(
        model, tmp_path, "method=dapo", *SHORT, "reward=binary", "rollout.pool=3", "tasks_per_step=4",
        "rollout.max_turns=1", "method.max_rounds=2",
    )  # fmt: skip
    assert result["episodes"] == 2 * 8 * (4 + 2 * 4)


def test_a_buffer_reaches_the_method(model: Path, tmp_path: Path) -> None:
    """With source=buffer later batches hold groups of earlier ones; with source=batch they cannot."""

    def stale(source: str) -> bool:
        overrides = [*graded("vspo"), f"method.source={source}", "method.replace=low_value", "method.low_quantile=1.0"]
        toy_train(model, tmp_path / source, *overrides, "steps=4", "eval.tasks=2", "eval.samples=1")
        lines = (tmp_path / source / "trajectories.jsonl").read_text().splitlines()
        return any(
            turn["version"] < record["step"] - 1 for record in map(json.loads, lines) for turn in record["turns"]
        )

    assert stale("buffer")
    assert not stale("batch")


def test_work_that_cannot_teach_is_refused_before_it_starts(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got groups of 1 play, but method=grpo compares"):
        toy_train(model, tmp_path, "method=grpo", "rollout.group_size=1")
    with pytest.raises(ConfigError, match=r"tasks_per_step=2: got fewer tasks than learner\.minibatches=3"):
        toy_train(model, tmp_path, "method=grpo", "steps=3", "learner.minibatches=3", "tasks_per_step=2")
    with pytest.raises(ConfigError, match=r"eval\.val_tasks: the val split .* has 4 tasks, got 50"):
        toy_train(model, tmp_path, "method=grpo", "eval.every=1", "eval.val_tasks=50")


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
