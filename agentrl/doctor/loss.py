"""The loss: its normaliser (A10) and the gradient of its KL term (A12)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import torch

from agentrl.batch import Batch, Outputs
from agentrl.doctor.case import Case, Trial, nothing, trial
from agentrl.doctor.finding import check
from agentrl.samples import collate, rows
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

WHOLE = 1 << 30  # micro_tokens by which a batch is one micro-batch
PARTS = 8  # micro-batches of the small ones, about
WORDS = 12  # tokens of the toy vocabulary


@check(
    "loss: normaliser",
    "loss and gradient do not depend on the size of micro-batches nor on the order of the groups",
    "",
    "method.objective or method.weights averages over the part it is given: average in weights, over the whole batch",
)
def normaliser(case: Case) -> tuple[bool | None, str, str]:
    limit = case.doctor.normaliser if case.exact else case.doctor.normaliser_low
    told = f"relative gap at most {limit:g}" + ("" if case.exact else ", in bfloat16")
    if why := nothing(case):
        return None, why, told
    whole = trial(case, case.used, micro_tokens=WHOLE)
    if not whole.gradient.norm() > 0:
        return None, "the gradient of the whole batch is zero", told
    alone = trial(case, case.used, micro_tokens=max(1, int(whole.metrics["learner/rows"] * _longest(case)) // PARTS))
    shuffled = list(case.used)
    random.Random(0).shuffle(shuffled)
    others = {"small micro-batches": alone, "groups in another order": trial(case, shuffled, micro_tokens=WHOLE)}
    gaps = {name: _gap(whole, other) for name, other in others.items()}
    worst = max(gaps, key=lambda name: gaps[name])
    return gaps[worst] <= limit, f"{gaps[worst]:.1e} ({worst})", told


def _longest(case: Case) -> int:
    """Tokens of the longest row."""
    return max(len(turn.prompt_ids + turn.action_ids) for group in case.used for p in group.valid for turn in p.turns)


def _gap(one: Trial, other: Trial) -> float:
    """The larger of the relative distances of the gradients and of the losses."""
    apart: float = float((one.gradient - other.gradient).norm() / one.gradient.norm())
    a, b = float(one.metrics["learner/loss"]), float(other.metrics["learner/loss"])
    return max(apart, abs(a - b) / max(abs(a), 1e-2))


@check(
    "loss: KL gradient",
    "the expected gradient of the method's KL term is that of exact KL, on a toy vocabulary",
    "",
    "the estimator does not pull towards the reference as it says: take method.kl=k2 or k3_weighted",
)
def kl_gradient(case: Case) -> tuple[bool | None, str, str]:
    method, limit = case.run.method, case.doctor.kl
    told = f"relative distance at most {limit:g}"
    coef = float(getattr(method, "kl_coef", 0.0))
    if "pairs" in method.needs or not coef:
        return None, "the method has no KL term (no kl_coef, or 0)", told
    if "ref_logprobs" not in method.needs:
        return False, f"kl_coef is {coef:g}, but the method does not ask for ref_logprobs", told
    found, by_credit = toy_gradient(method)
    forward, reverse = exact_gradients()
    if by_credit:  # credit may whiten, which scales
        scale = found.norm() / forward.norm().clamp(min=1e-30)
        apart = float((found - scale * forward).norm() / found.norm().clamp(min=1e-30))
        return apart <= max(limit, 1e-5), f"{apart:.1e} up to scale (KL in the reward)", told
    gaps = {"KL(policy, reference)": forward, "KL(reference, policy)": reverse}
    apart_by = {name: float((found / coef - exact).norm() / exact.norm()) for name, exact in gaps.items()}
    near = min(apart_by, key=lambda name: apart_by[name])
    bias = apart_by["KL(policy, reference)"]
    return apart_by[near] <= limit, f"{apart_by[near]:.1e} from {near}; bias {bias:.0%} of KL(policy, reference)", told


def toy() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a policy and of its reference over the toy vocabulary, ``[WORDS]`` float64."""
    draw = torch.Generator().manual_seed(0)
    policy = torch.randn(WORDS, generator=draw, dtype=torch.float64)
    return policy, policy + 0.5 * torch.randn(WORDS, generator=draw, dtype=torch.float64)


def exact_gradients() -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients to the policy's logits of KL(policy, reference) and of KL(reference, policy)."""
    logits, other = toy()
    theta = logits.clone().requires_grad_()
    p, q = torch.log_softmax(theta, -1), torch.log_softmax(other, -1)
    (forward,) = torch.autograd.grad((p.exp() * (p - q)).sum(), theta, retain_graph=True)
    (reverse,) = torch.autograd.grad((q.exp() * (q - p)).sum(), theta)
    return forward, reverse


def toy_gradient(method: Any) -> tuple[torch.Tensor, bool]:
    """Expected gradient to the logits of the method's loss that its KL term alone makes, on-policy, in float64; and
    whether the KL came by ``credit``."""
    logits, other = toy()
    theta = logits.clone().requires_grad_()
    p, q = torch.log_softmax(theta, -1), torch.log_softmax(other, -1)
    batch = toy_batch(method, p.detach())
    with_kl, moved = _loss(method, batch, p, q)
    without, _ = _loss(method, batch, p, p.detach())
    (gradient,) = torch.autograd.grad(with_kl - without, theta)
    return gradient, moved


def _loss(method: Any, batch: Batch, logprobs: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The loss with each token weighted by its probability, so that nothing is left to chance."""
    old = _column(batch, logprobs.detach())
    zeros = torch.zeros_like(old)
    values = zeros if "values" in method.needs else None
    given = replace(
        batch, old_logprobs=old, rollout_logprobs=old, ref_logprobs=_column(batch, reference), values=values,
        advantages=zeros, returns=None,
    )  # fmt: skip
    credited = method.credit(given)
    out = Outputs(_column(batch, logprobs), zeros, values)
    weights = _column(batch, logprobs.detach().exp())
    moved = not torch.equal(credited.advantages, zeros)
    return -(method.objective(credited, out) * weights * batch.loss_mask).sum(), moved


def _column(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """One number for the sampled token of each row, ``[batch, seq]``."""
    return torch.zeros(batch.loss_mask.shape, dtype=values.dtype).masked_scatter(batch.loss_mask, values)


def toy_batch(method: Any, logprobs: torch.Tensor) -> Batch:
    """One group whose plays each sampled one token of the vocabulary, every one once."""
    task = Task("toy", "train", "toy")
    plays = tuple(
        Trajectory(
            task, i, (Turn((WORDS,), (i,), (float(logprobs[i]),), Message("assistant", str(i)), ()),), Stop.done,
            reward=float(i),
        )
        for i in range(WORDS)
    )  # fmt: skip
    found = rows([Group(task, plays)], method.advantages)
    return collate(found, method.weights, False, torch.device("cpu"))


CHECKS = {"loss": (normaliser, kl_gradient)}
