"""What the learner does for methods on pairs, with DPO as the example."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrl.samples import collate, micro_batches, micro_groups, rows
from agentrl.types import Group
from tests.learning import TinyPolicy, group, learner, method, play, random_groups, turn

CPU = torch.device("cpu")


def pairs(seed: int = 0, window: bool = False, shared: bool = True) -> list[Group]:
    """Pairs of several turns; if ``shared``, two have the same chosen play, and one rejects what another chose."""
    found = random_groups(seed, tasks=5, size=2, window=window)
    if not shared:
        return found
    found[1] = replace(found[1], trajectories=(found[0].trajectories[0], found[1].trajectories[1]))
    found[3] = replace(found[3], trajectories=(found[3].trajectories[0], found[2].trajectories[0]))
    return [
        replace(g, trajectories=tuple(replace(p, task=g.task, member=i) for i, p in enumerate(g.trajectories)))
        for g in found
    ]


def step(groups: list[Group], policy: TinyPolicy, micro_tokens: int = 10**6) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one step, measured from a reference some way off."""
    one = learner(policy)
    one.hand.reference = TinyPolicy(5)  # type: ignore[assignment]
    seen: list[torch.Tensor] = []
    one.hand.optimizer.step = lambda: seen.append(  # type: ignore[method-assign, assignment]
        torch.cat([p.grad.flatten().clone() for p in policy.parameters() if p.grad is not None])
    )
    dpo = method("dpo", beta=0.5, sft_coef=0.1)
    (batch,) = one.collate(groups, dpo)
    one.config = replace(one.config, micro_tokens=micro_tokens)
    return one.update(batch, dpo)["learner/loss"], seen[0]


@pytest.mark.parametrize("window", [False, True])
def test_whole_batch_equals_the_sum_of_its_micro_batches(window: bool) -> None:
    for dtype, shared, tolerance in ((torch.float32, True, 3e-6), (torch.float64, False, 1e-12)):
        groups = pairs(window=window, shared=shared)
        whole = step(groups, TinyPolicy(dtype=dtype), micro_tokens=1_000_000)
        for micro_tokens in (1, 60, 200):
            part = step(groups, TinyPolicy(dtype=dtype), micro_tokens=micro_tokens)
            assert part[0] == pytest.approx(whole[0], rel=1e-6)
            assert (part[1] - whole[1]).norm() < tolerance * whole[1].norm()


@pytest.mark.parametrize("window", [False, True])
def test_the_loss_of_the_learner_is_the_mean_over_pairs(window: bool) -> None:
    groups = pairs(window=window)
    alone = [step([g], TinyPolicy()) for g in groups]
    whole = step(groups, TinyPolicy())
    assert whole[0] == pytest.approx(sum(loss for loss, _ in alone) / 5, rel=1e-5)
    wanted = torch.stack([gradient for _, gradient in alone]).mean(0)
    assert (whole[1] - wanted).norm() < 1e-5 * wanted.norm()


def test_computing_equal_rows_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    once = step(pairs(window=True), TinyPolicy())

    def apart(*given: Any) -> Any:
        batch = collate(*given)
        assert len(batch.input_ids) < batch.rows
        ids, mask = batch.input_ids[batch.unique], batch.attention_mask[batch.unique]
        return replace(batch, input_ids=ids, attention_mask=mask, unique=torch.arange(batch.rows))

    monkeypatch.setattr("agentrl.learner.learner.collate", apart)
    twice = step(pairs(window=True), TinyPolicy())
    assert once[0] == pytest.approx(twice[0], rel=1e-5)
    assert (once[1] - twice[1]).norm() < 1e-6 * once[1].norm()


def test_micro_batches_hold_whole_groups_within_the_budget() -> None:
    groups = pairs(window=True)
    batch = collate(rows(groups, method("dpo").advantages), method("dpo").weights, True, CPU)
    for budget in (1, 60, 120, 10_000):
        parts = micro_groups(batch, budget, shared=False)
        assert sorted(row for part in parts for row in part) == list(range(batch.rows))
        micros = micro_batches(batch, budget, shared=False, whole_groups=True)
        owners = [set(micro.group.tolist()) for micro in micros]
        assert sum(map(len, owners)) == 5
        assert all(
            micro.input_ids.numel() <= budget or len(owner) == 1 for micro, owner in zip(micros, owners, strict=True)
        )
        assert sum(micro.weights.sum().item() for micro in micros) == pytest.approx(1.0)
        assert sum(micro.tokens for micro in micros) == batch.tokens
    assert len(micro_groups(batch, 10_000, shared=False)) == 1


def test_the_first_loss_is_log_two_and_the_margin_of_the_pairs_grows() -> None:
    one = learner(steps=30)
    dpo = method("dpo")
    reports = [one.learn(pairs(), dpo) for _ in range(30)]
    assert reports[0]["learner/loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert reports[0]["learner/kl_ref"] == 0.0
    assert reports[0]["learner/pair_margin"] == pytest.approx(0.0, abs=1e-6)
    assert reports[0]["learner/pairs"] == 5
    assert reports[-1]["learner/loss"] < 0.9 * math.log(2)
    assert reports[-1]["learner/pair_margin"] > 1.0
    assert reports[-1]["learner/kl_ref"] > 0.0


def test_margin_and_accuracy_by_hand() -> None:
    """Log-ratios of +1 per token: pairs of 3 against 1 token (margin 2) and of 1 against 2 (margin -1)."""

    def pair(name: str, chosen: int, rejected: int) -> Group:
        plays = [play([turn((1, 2), range(3, 3 + n))], 1.0 - i, name, i) for i, n in enumerate((chosen, rejected))]
        return Group(plays[0].task, tuple(plays))

    class Surer(TinyPolicy):
        def outputs(self, *given: Any) -> Any:
            out = super().outputs(*given)
            return replace(out, logprobs=out.logprobs - given[2].float())

    one = learner()
    one.hand.reference = Surer()  # type: ignore[assignment]
    metrics = one.learn([pair("a", 3, 1), pair("b", 1, 2)], method("dpo"))
    assert metrics["learner/pair_margin"] == pytest.approx(0.5, abs=1e-5)
    assert metrics["learner/pair_accuracy"] == 0.5
    assert metrics["learner/kl_ref"] == pytest.approx(math.exp(-1.0), rel=1e-5)  # k3 of a gap of 1


def test_a_reference_of_the_round_follows_the_policy_and_needs_no_copy() -> None:
    one = learner(minibatches=1, epochs=3)
    dpo = method("dpo", reference="round")
    batches = one.collate(pairs(), dpo)
    losses = [one.update(batch, dpo)["learner/loss"] for batch in batches]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-6)
    assert losses[2] < losses[1] < losses[0]  # inside a round it stays where it was
    again = one.update(one.collate(pairs(), dpo)[0], dpo)
    assert again["learner/loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert one.hand.reference is None


def test_no_pairs_are_steps_without_gradient() -> None:
    policy = TinyPolicy()
    before = policy.flat()
    for changes in ({}, {"reference": "round"}):
        metrics = learner(policy, minibatches=2).learn([], method("dpo", **changes))
        assert metrics["learner/skipped_steps"] == 2.0
        assert "learner/pairs" not in metrics
    assert torch.equal(policy.flat(), before)


def test_fewer_pairs_than_minibatches() -> None:
    metrics = learner(minibatches=2).learn(pairs()[:1], method("dpo"))
    assert metrics["learner/skipped_steps"] == 1.0


def test_a_pair_of_equal_plays_teaches_nothing() -> None:
    policy = TinyPolicy()
    before = policy.flat()
    metrics = learner(policy).learn([group([1.0, 0.0])], method("dpo"))
    assert metrics["learner/loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert metrics["learner/skipped_steps"] == 1.0
    assert torch.equal(policy.flat(), before)
