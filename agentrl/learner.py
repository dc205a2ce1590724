"""Where credit becomes a change of weights: rows in, optimiser steps out. Method meets model.

One batch of groups is credited as a whole (``method.credit``), then gives ``minibatches`` optimiser steps over disjoint
shares of the groups. For each of them

    loss = -(method.objective * weights).sum()

with weights fixed over the whole share before it is split into micro-batches, so that any split adds up to the same
loss and the same gradient. A share without any gradient (all rewards equal) leaves weights and optimiser untouched.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.critic import Critic
from agentrl.errors import CheckpointError, ConfigError, DivergedError
from agentrl.methods.base import Method
from agentrl.ops import masked_sum, truncated_importance
from agentrl.ranges import require_positive
from agentrl.samples import collate, computed, credited, micro_batches, micro_rows, pick, rows, take, unique_mask
from agentrl.seeds import derive
from agentrl.seen import Seen
from agentrl.tally import Tally, critic_metrics
from agentrl.types import Group
from agentrl.watchdog import beat

if TYPE_CHECKING:
    from agentrl.model import Policy, Scorer

IDENTITY_TOLERANCE = 1e-3  # nats; how far an unchanged policy may differ from itself between two forward passes


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up; see :data:`SCHEDULES`."""

    constant = auto()
    cosine = auto()
    linear = auto()


#: share of the run after the warm-up, 0..1 -> factor of the learning rate.
SCHEDULES: Mapping[Schedule, Callable[[float], float]] = {
    Schedule.constant: lambda _progress: 1.0,
    Schedule.cosine: lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    Schedule.linear: lambda progress: 1.0 - progress,
}


class OldLogprobs(StrEnum):
    """Whose logprobs are ``old_logprobs``: the engine's of the ``rollout``, or the learner's own, at the price of one
    more forward pass (``recompute``)."""

    rollout = auto()
    recompute = auto()


@dataclass(frozen=True)
class AdamW:
    """The schema of conf/learner/*.yaml, where every number has its unit and source."""

    lr: float
    beta1: float
    beta2: float
    weight_decay: float
    schedule: Schedule
    warmup_steps: int
    max_grad_norm: float
    minibatches: int
    epochs: int
    micro_tokens: int
    chunk_tokens: int
    old_logprobs: OldLogprobs
    tis_cap: float
    mismatch_limit: float
    critic_lr: float
    critic_gradient: bool

    def __post_init__(self) -> None:
        require_positive(self, "learner", "lr", "critic_lr", "max_grad_norm")
        require_positive(self, "learner", "minibatches", "epochs", "micro_tokens", "chunk_tokens")
        if self.tis_cap and self.old_logprobs == OldLogprobs.rollout:
            raise ConfigError(
                f"learner.tis_cap: got {self.tis_cap:g} with old_logprobs=rollout, whose importance weights are all 1; "
                "set learner.old_logprobs=recompute or learner.tis_cap=0"
            )

    def build(self, policy: Policy, *, temperature: float, steps: int, seed: int) -> Learner:
        """A learner of this policy; ``temperature`` is the rollout's, ``steps`` the batches of the whole run."""
        return Learner(self, policy, temperature=temperature, steps=steps, seed=seed)

    @property
    def updates(self) -> int:
        """Optimiser steps that one batch makes."""
        return self.minibatches * self.epochs

    def batches(self, steps: int, name: str = "steps") -> int:
        """Batches that make so many optimiser steps. Raises ConfigError, calling them ``name``, on a remainder."""
        if steps % self.updates:
            raise ConfigError(
                f"{name}={steps}: one batch makes {self.updates} optimiser steps (learner.minibatches x "
                f"learner.epochs), so {name} must be a multiple of {self.updates}; try {name}="
                f"{(steps // self.updates + 1) * self.updates}"
            )
        return steps // self.updates

    def factor(self, step: int, steps: int) -> float:
        """Learning rate of batch ``step`` of ``steps`` as a share of ``lr``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        return SCHEDULES[self.schedule](min(progress, 1.0))


class Learner:
    """Owns the optimiser.

    ``step`` counts batches of groups. Of the last one, ``moved`` tells whether it moved the weights, and ``advantages``
    what each token was credited with: ``[group][valid play][token]``; ``seen`` what the policy thought of them
    (:mod:`agentrl.seen`): ``[group][valid play]`` arrays ``[2, tokens]`` of logprobs and entropies.
    """

    def __init__(self, config: AdamW, policy: Policy, *, temperature: float, steps: int, seed: int) -> None:
        self.config = config
        self.policy = policy
        self.step = 0
        self.moved = False
        self.advantages: list[list[NDArray[np.float32]]] = []
        self.seen: list[list[NDArray[np.float32]]] = []
        self._seen = Seen((), (), ())
        self._places: list[int] = []
        self._temperature = temperature
        self._steps = steps
        self._seed = seed
        self._on_policy = False
        self._reference: Scorer | None = None
        self._critic: Critic | None = None
        self._parameters = [p for p in policy.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def anchor(self) -> None:
        """Make the policy as it is now the reference of the KL term (done by the first batch that needs it)."""
        self._reference = self.policy.reference()

    def learn(self, groups: Sequence[Group], method: Method, version: int | None = None) -> dict[str, float]:
        """All optimiser steps of one batch of groups; metrics are means over the steps that report them.

        ``version``: the policy's policy_version, by which plays of older weights are known (None: the newest played).
        """
        batches = self.collate(groups, method, version)
        reports = [self.update(batch, method) for batch in batches]
        self.seen = self._looked(groups)
        names = dict.fromkeys(name for report in reports for name in report)
        values = {name: [report[name] for report in reports if name in report] for name in names}
        metrics = {name: sum(column) / len(column) for name, column in values.items()}
        metrics["learner/skipped_steps"] = sum(values.get("learner/skipped_steps", []))
        return metrics | critic_metrics(batches[: self.config.minibatches])

    def collate(self, groups: Sequence[Group], method: Method, version: int | None = None) -> list[Batch]:
        """One batch for each optimiser step: shares of the groups (drawn by run seed and step), ``epochs`` times over.

        Credit is given over all groups together, before they are shared out. A share holds whole groups; where groups
        are fewer than ``minibatches`` (failed demonstrations left out), some shares are empty: steps without gradient.
        """
        places = list(range(len(groups)))
        random.Random(derive(self._seed, "learner", self.step)).shuffle(places)
        order = [groups[place] for place in places]
        parts = self.config.minibatches
        bounds = [(i * len(order) // parts, (i + 1) * len(order) // parts) for i in range(parts)]
        self._begin()

        def weights(layout: Layout) -> torch.Tensor:
            """The method's, each share of the groups by itself."""
            found = torch.zeros(layout.loss_mask.shape)
            for low, high in bounds:
                share = (layout.group >= low) & (layout.group < high)
                found[share] = method.weights(layout.of(share)).float()
            return found

        found = rows(order, method.advantages)
        whole = collate(found, weights, method.skips_zero_advantage, self._device, version)
        whole = self._credit(self._complete(whole, method), method)
        told = dict(zip(places, credited(order, found, method.skips_zero_advantage, whole), strict=True))
        self.advantages = [told[place] for place in range(len(groups))]
        self._places = places
        self._seen = Seen(
            [row.play for row in found],
            [len(row.advantages) for row in found],
            computed(found, method.skips_zero_advantage),
        )
        group = whole.group.tolist()
        shares = [[row for row, number in enumerate(group) if low <= number < high] for low, high in bounds]
        return [pick(whole, share) for share in shares] * self.config.epochs

    def _looked(self, groups: Sequence[Group]) -> list[list[NDArray[np.float32]]]:
        """What was ``seen``, by groups in their own order; plays are numbered in the order of ``_places``."""
        found = self._seen.by_play()
        none = np.zeros((2, 0), np.float32)
        number = count()
        told = {place: [found.get(next(number), none) for _ in groups[place].valid] for place in self._places}
        return [told[place] for place in range(len(groups))]

    def _begin(self) -> None:
        """Another batch of groups: its learning rates, and nothing moved yet."""
        factor = self.config.factor(self.step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.lr * factor
        if self._critic is not None:
            self._critic.set_lr(self.config.critic_lr * factor)
        self.step += 1
        self.moved = False
        self._on_policy = True

    def update(self, batch: Batch, method: Method) -> dict[str, float]:
        """One optimiser step on one batch of :meth:`collate`. Raises DivergedError.

        The metrics of the mismatch between learner and engine are reported while the policy is still the one that
        played, for the tokens that it played itself.
        """
        pairs = "pairs" in method.needs
        tally = Tally(on_policy=self._on_policy, pairs=pairs)
        self.policy.train()
        shared = self.policy.shares(batch.input_ids.shape[1])
        for part in micro_batches(batch, self.config.micro_tokens, shared, whole_groups=pairs):
            beat("learner", "a micro-batch of batch", str(self.step))
            self._backward(part, method, tally)
        self.policy.eval()
        beat("learner", "the optimiser step of batch", str(self.step))
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm))
        metrics = tally.metrics()
        self._refuse(batch, metrics, norm)
        if self._critic is not None:
            metrics["learner/critic_grad_norm"] = self._critic.step(self.config.max_grad_norm)
        skipped = norm == 0.0
        if not skipped:
            self._optimizer.step()
            self.moved = True
            self._on_policy = False
        self._optimizer.zero_grad(set_to_none=True)
        lr = float(self._optimizer.param_groups[0]["lr"])
        return metrics | {"learner/grad_norm": norm, "learner/lr": lr, "learner/skipped_steps": float(skipped)}

    def state_dict(self) -> dict[str, Any]:
        """What exact continuation needs beside the policy's weights: ``optimizer`` (as torch has it), ``step``, and
        ``critic`` (its weights and its own optimiser) where there is one.

        The reference of a KL term is not in it: call :meth:`anchor` on the policy the run started from.
        """
        state = {"optimizer": self._optimizer.state_dict(), "step": self.step}
        return state if self._critic is None else state | {"critic": self._critic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken. Raises CheckpointError when it belongs to another model."""
        saved = sum(len(group["params"]) for group in state["optimizer"]["param_groups"])
        if saved != len(self._parameters):
            raise CheckpointError(
                f"checkpoint: the optimiser state has {saved} tensors, this policy trains {len(self._parameters)}; "
                "resume with the model and learner settings of the run that wrote it"
            )
        self._optimizer.load_state_dict(dict(state["optimizer"]))
        self.step = int(state["step"])
        if "critic" in state:
            self._critic = self._new_critic()
            self._critic.load_state_dict(state["critic"])

    def _new_critic(self) -> Critic:
        c = self.config
        return Critic(
            self.policy.width,
            self._device,
            gradient=c.critic_gradient,
            lr=c.critic_lr * c.factor(max(self.step - 1, 0), self._steps),
            betas=(c.beta1, c.beta2),
            seed=derive(self._seed, "critic"),
        )

    def _complete(self, batch: Batch, method: Method) -> Batch:
        """Add what costs a forward pass of its own: the policy's logprobs and values, the reference's logprobs."""
        recompute = self.config.old_logprobs == OldLogprobs.recompute
        if "values" in method.needs and self._critic is None:
            self._critic = self._new_critic()
        if recompute or method.needs & {"values", "round_logprobs"}:
            own = self._pass(self.policy, batch)
            batch = replace(
                batch,
                old_logprobs=own.logprobs if recompute else batch.old_logprobs,
                ref_logprobs=own.logprobs if "round_logprobs" in method.needs else None,
                values=own.values,
            )
        if "ref_logprobs" in method.needs:
            if self._reference is None:
                self.anchor()
            assert self._reference is not None
            batch = replace(batch, ref_logprobs=self._pass(self._reference, batch).logprobs)
        return batch

    def _credit(self, batch: Batch, method: Method) -> Batch:
        """The method's credit over the whole batch, then the importance weights of the sampler's tokens."""
        batch = method.credit(batch)
        if not self.config.tis_cap:
            return batch
        played = torch.where(torch.isfinite(batch.rollout_logprobs), batch.rollout_logprobs, batch.old_logprobs)
        weights = truncated_importance(batch.old_logprobs, played, self.config.tis_cap)
        return replace(batch, advantages=batch.advantages * weights)

    @torch.no_grad()
    def _pass(self, model: Scorer, batch: Batch) -> Outputs:
        """What a model says of a batch, without gradient, ``[batch, seq]``: logprobs, and the policy's values."""
        logprobs = torch.zeros(batch.input_ids.shape, device=self._device)
        values = torch.zeros_like(logprobs)
        for part in micro_rows(batch, self.config.micro_tokens, self.policy.shares(batch.input_ids.shape[1])):
            beat("learner", "a forward pass over batch", str(self.step))
            out = self._outputs(model, take(batch, part))
            logprobs[part, : out.logprobs.shape[1]] = out.logprobs.float()
            if out.values is not None:
                values[part, : out.values.shape[1]] = out.values
        spread = values[batch.unique] if model is self.policy and self._critic is not None else None
        return Outputs(logprobs[batch.unique], torch.zeros_like(logprobs)[batch.unique], spread)

    def _outputs(self, model: Scorer, batch: Batch) -> Outputs:
        """Of the distinct rows, ``[unique_rows, seq]``."""
        c = self.config
        critic = self._critic if model is self.policy else None
        return model.outputs(
            batch.input_ids, batch.attention_mask, unique_mask(batch), self._temperature, c.chunk_tokens, critic
        )

    def _backward(self, batch: Batch, method: Method, tally: Tally) -> None:
        """Add one micro-batch's gradient.

        The method's equation is differentiated first, down to the logprobs, entropies and values of its rows; rows of
        equal tokens are then summed, and the model is gone through once, or not at all where nothing is left.
        """
        distinct = self._outputs(self.policy, batch)
        if distinct.work is not None:
            tally.add_work(batch, distinct.work)
        ends = [end for end in (distinct.logprobs, distinct.entropy, distinct.values) if end is not None]
        leaves = [end.detach()[batch.unique].requires_grad_() for end in ends]
        leaf = Outputs(leaves[0], leaves[1], leaves[2] if len(leaves) > 2 else None)
        self._seen.add(batch, leaf)
        loss = -masked_sum(method.objective(batch, leaf) * batch.weights, batch.loss_mask)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        tally.add(batch, leaf, loss, gradients[0], self._without_advantages(batch, leaf, method))
        wanted = [
            (end, torch.zeros_like(end).index_add_(0, batch.unique, gradient.to(end.dtype)))
            for end, gradient in zip(ends, gradients, strict=True)
            if gradient is not None and bool(gradient.any())
        ]
        if wanted:
            torch.autograd.backward([end for end, _ in wanted], [gradient for _, gradient in wanted])

    def _without_advantages(self, batch: Batch, leaf: Outputs, method: Method) -> torch.Tensor:
        """Gradient of the loss to the logprobs if all advantages were zero (KL alone): tells clipped tokens apart."""
        if method.skips_zero_advantage:
            return torch.zeros_like(leaf.logprobs)
        rest = replace(batch, advantages=torch.zeros_like(batch.advantages))
        loss = -masked_sum(method.objective(rest, leaf) * batch.weights, batch.loss_mask)
        (gradient,) = torch.autograd.grad(loss, (leaf.logprobs,), allow_unused=True)
        return torch.zeros_like(leaf.logprobs) if gradient is None else gradient

    def _refuse(self, batch: Batch, metrics: Mapping[str, float], norm: float) -> None:
        """Stop before a broken gradient reaches the weights."""
        where, loss = f"learner: batch {self.step} ({batch.rows} rows)", metrics["learner/loss"]
        if not (math.isfinite(norm) and math.isfinite(loss)):
            hint = "lower learner.lr or learner.max_grad_norm"
            if not bool(torch.isfinite(batch.old_logprobs[batch.loss_mask]).all()):
                hint = "the plays carry no logprobs: use method=sft or learner.old_logprobs=recompute"
            raise DivergedError(f"{where}: loss {loss:g}, gradient norm {norm:g}, expected finite numbers; {hint}")
        spread = metrics.get("learner/mismatch_spread", 1.0)
        if self.config.mismatch_limit and spread > self.config.mismatch_limit:
            raise DivergedError(
                f"{where}: learner and engine differ by a factor of {spread:.3f} per token on average, expected at "
                f"most learner.mismatch_limit={self.config.mismatch_limit:g}; they hold other weights or temperatures"
            )
        exact = self._on_policy and self.config.old_logprobs == OldLogprobs.recompute
        if exact and metrics.get("learner/old_gap", 0.0) > IDENTITY_TOLERANCE:
            raise DivergedError(
                f"{where}: before any update the policy's logprobs differ from its own by "
                f"{metrics['learner/old_gap']:.2e}, expected at most {IDENTITY_TOLERANCE:g}; "
                "is there dropout or other noise in the model?"
            )
