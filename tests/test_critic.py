"""The critic: what it values, whom its gradient reaches, that it learns and is resumed exactly."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.critic import Critic
from agentrl.errors import CheckpointError
from agentrl.model import Policy
from agentrl.types import Group
from tests.families import pretrained
from tests.learning import TinyPolicy, learner, method, play, random_groups, turn, with_true_logprobs
from tests.toy import save_toy_model

CPU = torch.device("cpu")


def critic(width: int = 16, gradient: bool = False, lr: float = 1e-2, seed: int = 0) -> Critic:
    return Critic(width, CPU, gradient=gradient, lr=lr, betas=(0.9, 0.95), seed=seed)


def real(folder: Path, **changes: Any) -> Policy:
    return pretrained(save_toy_model(folder), **changes).build("cpu")


def stirred(one: Critic) -> Critic:
    """With a last layer that is not zero."""
    torch.manual_seed(3)
    torch.nn.init.normal_(one.head[-1].weight)  # type: ignore[arg-type]
    return one


def test_values_are_zero_at_the_start_and_drawn_from_the_seed() -> None:
    hidden = torch.randn(5, 16)
    assert critic()(hidden).tolist() == [0.0] * 5
    one, same, other = (stirred(critic(seed=seed))(hidden) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_making_a_critic_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    critic()
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}, {"dtype": "mixed"}, {"gradient_checkpointing": True}])
def test_a_token_is_valued_by_the_state_before_it(changes: dict[str, Any], tmp_path: Path) -> None:
    policy = real(tmp_path, **changes)
    one = stirred(critic(policy.width))
    ids = torch.tensor([[4, 5, 6, 2, 8, 7], [4, 7, 2, 0, 0, 0]])
    attention = ids != 0
    mask = torch.tensor([[0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0]]).bool()
    out = policy.outputs(ids, attention, mask, 1.0, 2, one)
    assert out.values is not None
    hidden = policy.module.base_model(input_ids=ids).last_hidden_state
    for row, position in mask.nonzero().tolist():
        wanted = one(hidden[row, position - 1][None])[0]
        assert out.values[row, position].item() == pytest.approx(wanted.item(), abs=5e-2 if changes else 1e-5)
    assert (out.values[~mask] == 0).all()
    assert out.values.dtype == torch.float32
    assert policy.outputs(ids, attention, mask, 1.0, 2).values is None


def gradients(gradient: bool, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(of the policy, of the critic's head) in one step of PPO with a critic that has learned something."""
    policy = TinyPolicy()
    groups = with_true_logprobs(random_groups(0), policy)
    one = learner(policy, critic_gradient=gradient, **changes.pop("learner", {}))
    one.hand.critic = stirred(one.hand.new_critic())
    given = method("ppo", **changes)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    (batch,) = one.collate(groups, given)
    head = list(one.hand.critic.head.parameters())
    one.hand.critic._optimizer.step = lambda: seen.append(  # type: ignore[method-assign, assignment]
        (_flat(policy.parameters()), _flat(head))
    )
    one.update(batch, given)
    return seen[0]


def _flat(parameters: Any) -> torch.Tensor:
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])


def test_the_value_loss_reaches_the_policy_only_where_it_may() -> None:
    apart, more = gradients(False), gradients(False, value_coef=5.0)
    assert torch.equal(apart[0], more[0])
    torch.testing.assert_close(more[1], 10.0 * apart[1])
    shared, stronger = gradients(True), gradients(True, value_coef=5.0)
    assert (shared[0] - apart[0]).norm() > 1e-3 * apart[0].norm()
    assert (stronger[0] - shared[0]).norm() > 1e-3 * apart[0].norm()
    torch.testing.assert_close(shared[1], apart[1])


@pytest.mark.parametrize("gradient", [False, True])
def test_the_critics_gradient_does_not_depend_on_micro_batches(gradient: bool) -> None:
    whole = gradients(gradient, learner={"micro_tokens": 10**6})
    for micro_tokens in (1, 40):
        part = gradients(gradient, learner={"micro_tokens": micro_tokens})
        for ours, theirs in zip(part, whole, strict=True):
            assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_the_critic_learns_what_to_expect() -> None:
    """Two states with different fates: the values part, and explain the returns."""
    policy = TinyPolicy()
    one = learner(policy, lr=1e-9, critic_lr=1e-2, steps=60)
    plays = [play([turn(((5, 6) if good else (7, 8)), (3, 4))], float(good), "t", i) for i, good in enumerate([1, 0])]
    groups = with_true_logprobs([Group(plays[0].task, tuple(plays))], policy)
    given = method("ppo", kl_coef=0.0)
    reports = [one.learn(groups, given) for _ in range(60)]
    assert reports[0]["learner/explained_variance"] == pytest.approx(0.0, abs=1e-6)
    assert reports[0]["learner/value_error"] == pytest.approx(0.5**0.5, abs=1e-6)
    assert reports[-1]["learner/explained_variance"] > 0.95
    assert reports[-1]["learner/value"] == pytest.approx(0.5, abs=0.05)
    assert reports[-1]["learner/critic_grad_norm"] > 0.0


def test_equal_advantages_teach_the_critic_alone() -> None:
    policy = TinyPolicy()
    one = learner(policy, weight_decay=0.1)
    groups = [replace(g, trajectories=tuple(replace(p, reward=0.5) for p in g.trajectories)) for g in random_groups(0)]
    before = policy.flat()
    metrics = one.learn(with_true_logprobs(groups, policy), method("ppo", kl_coef=0.0))
    assert torch.equal(policy.flat(), before)
    assert not one.moved
    assert metrics["learner/skipped_steps"] == 1.0
    assert "learner/explained_variance" not in metrics  # the returns are all equal
    assert one.hand.critic is not None
    assert one.hand.critic.head[-1].bias.item() > 0.0  # type: ignore[operator, union-attr]


def test_no_plays_are_steps_without_gradient() -> None:
    for changes in ({}, {"whiten_rewards": True}):
        metrics = learner(minibatches=2).learn([], method("ppo", **changes))
        assert metrics["learner/skipped_steps"] == 2.0
        assert metrics["learner/critic_grad_norm"] == 0.0


def test_it_is_resumed_exactly() -> None:
    policy = TinyPolicy()
    given = method("ppo")
    whole = learner(policy, minibatches=2, schedule="cosine")
    whole.anchor()
    batches = [with_true_logprobs(random_groups(seed), policy) for seed in range(3)]
    for groups in batches[:2]:
        whole.learn(groups, given)
    buffer = io.BytesIO()
    torch.save([whole.state_dict(), policy.model.state_dict()], buffer)
    buffer.seek(0)
    state, weights = torch.load(buffer)
    wanted = whole.learn(batches[2], given)
    other = TinyPolicy()
    again = learner(other, minibatches=2, schedule="cosine")
    again.anchor()
    other.model.load_state_dict(weights)
    again.load_state_dict(state)
    assert again.learn(batches[2], given) == wanted
    assert torch.equal(other.flat(), policy.flat())
    assert whole.hand.critic is not None
    assert again.hand.critic is not None
    for name, tensor in whole.hand.critic.head.state_dict().items():
        assert torch.equal(again.hand.critic.head.state_dict()[name], tensor)


def test_the_critic_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="critic was saved as"):
        critic(8).load_state_dict(critic(16).state_dict())


def test_methods_without_a_critic_get_none() -> None:
    one = learner()
    metrics = one.learn(random_groups(0), method("grpo"))
    assert one.hand.critic is None
    assert "critic" not in one.state_dict()
    assert not [name for name in metrics if "value" in name or "critic" in name]
