from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from agentrl.batch import Batch
from agentrl.errors import ConfigError
from agentrl.samples import collate, rows
from agentrl.types import Group
from tests.learning import group, learner, method, play, random_groups, turn


def batch_of(groups: list[Group], gap: float = 0.0) -> Batch:
    """The batch as the learner hands it to ``credit``; ``gap``: log pi_old - log pi_ref at every token."""
    given = method("reinforce_pp")
    batch = collate(rows(groups, given.advantages), given.weights, False, torch.device("cpu"))
    return replace(batch, ref_logprobs=(batch.old_logprobs - gap) * batch.loss_mask)


def test_advantages_by_hand() -> None:
    """Rewards 1 and 0, two tokens each, KL .1 per token: returns .8, .9, -.2, -.1; mean .35, std sqrt(.2525)."""
    found = method("reinforce_pp", kl_coef=0.1).credit(batch_of([group([1.0, 0.0])], gap=1.0))
    wanted = [(x - 0.35) / math.sqrt(0.2525) for x in (0.8, 0.9, -0.2, -0.1)]
    assert found.advantages[found.loss_mask].tolist() == pytest.approx(wanted, rel=1e-5)


def test_returns_go_over_all_turns_and_skip_environment_tokens() -> None:
    one = play([turn((1, 2), (3, 4)), turn((1, 2, 3, 4, 9, 9, 9), (5,))], 1.0)
    two = play([turn((1, 2), (3,))], 0.0, member=1)
    found = method("reinforce_pp", gamma=0.5, kl_coef=0.0).credit(batch_of([Group(one.task, (one, two))]))
    returns = torch.tensor([0.25, 0.5, 1.0, 0.0])
    wanted = (returns - returns.mean()) / returns.std(correction=0)
    torch.testing.assert_close(found.advantages[found.loss_mask], wanted, rtol=1e-4, atol=1e-5)


def test_whitening_is_over_the_whole_batch_with_all_its_minibatches() -> None:
    one = learner(minibatches=3)
    batches = one.collate(random_groups(0, tasks=6), method("reinforce_pp", kl_coef=0.0))
    inside = torch.cat([batch.advantages[batch.loss_mask] for batch in batches])
    assert inside.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert inside.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    assert all(abs(batch.advantages[batch.loss_mask].mean().item()) > 1e-3 for batch in batches)


def test_equal_rewards_teach_nothing() -> None:
    assert not method("reinforce_pp", kl_coef=0.0).credit(batch_of([group([0.4] * 4)])).advantages.any()


def test_its_numbers_say_what_it_needs() -> None:
    assert method("reinforce_pp").needs == {"ref_logprobs"}
    assert method("reinforce_pp", kl_coef=0.0).needs == frozenset()
    with pytest.raises(ConfigError, match=r"method\.gamma: got 2"):
        method("reinforce_pp", gamma=2.0)
