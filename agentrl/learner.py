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
from agentrl.distributed.team import Alone, Team, deal
from agentrl.distributed.tensors import is_share, spread_into, whole
from agentrl.errors import CheckpointError, ConfigError, DivergedError, TeamError
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

FULL_LR = 1e-6  # the rate of conf/learner/full.yaml; adapters that learn no faster are a mistake
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
    offload: bool = False  # runs of versions without it go on

    def __post_init__(self) -> None:
        require_positive(self, "learner", "lr", "critic_lr", "max_grad_norm")
        require_positive(self, "learner", "minibatches", "epochs", "micro_tokens", "chunk_tokens")
        if self.tis_cap and self.old_logprobs == OldLogprobs.rollout:
            raise ConfigError(
                f"learner.tis_cap: got {self.tis_cap:g} with old_logprobs=rollout, whose importance weights are all 1; "
                "set learner.old_logprobs=recompute or learner.tis_cap=0"
            )

    def build(self, policy: Policy, *, temperature: float, steps: int, seed: int, team: Team | None = None) -> Learner:
        """A learner of this policy; ``temperature`` is the rollout's, ``steps`` the batches of the whole run, ``team``
        those who learn with it (None: nobody)."""
        return Learner(self, policy, team or Alone(), temperature=temperature, steps=steps, seed=seed)

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

    def __init__(self, config: AdamW, policy: Policy, team: Team, *, temperature: float, steps: int, seed: int) -> None:
        self.config = config
        self.policy = policy
        self._team = team
        team.seat("learner", self)
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
        self._device = policy.device if team.lockstep else self._parameters[0].device
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def cautions(self) -> list[str]:
        """Settings that are allowed and hardly ever meant, a line each."""
        lr, found = self.config.lr, []
        if self.policy.adapter is not None and lr <= FULL_LR:
            found.append(
                f"warning: learner.lr={lr:g} is a rate for full weights, at which adapters hardly learn; take "
                "learner=lora (2e-5), or learner.lr=1e-5 and above"
            )
        if self.policy.adapter is None and self.policy.dtype == torch.bfloat16:
            found.append(
                "warning: model.dtype=bfloat16 keeps 8 bits of each weight, which round most of a small step away; "
                "take model.dtype=mixed (float32 weights, bfloat16 compute)"
            )
        return found

    def anchor(self) -> None:
        """Make the policy as it is now the reference of the KL term (done by the first batch that needs it)."""
        self._team.tell("learner.keep_reference")

    def keep_reference(self) -> None:
        """This process's part of :meth:`anchor`."""
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
        self._team.tell("learner.begin", self.step)
        self.moved = False
        self._on_policy = True

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

    def begin(self, step: int) -> None:
        """Another batch of groups, after ``step`` of them: its learning rates."""
        factor = self.config.factor(step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.lr * factor
        if self._critic is not None:
            self._critic.set_lr(self.config.critic_lr * factor)
        self.step = step + 1

    def update(self, batch: Batch, method: Method) -> dict[str, float]:
        """One optimiser step on one batch of :meth:`collate`. Raises DivergedError, TeamError.

        The metrics of the mismatch between learner and engine are reported while the policy is still the one that
        played, for the tokens that it played itself.
        """
        pairs = "pairs" in method.needs
        shared = self.policy.shares(batch.input_ids.shape[1])
        parts = micro_batches(batch, self._micro_tokens(batch), shared, whole_groups=pairs)
        shares = [[parts[i] for i in hand] for hand in self._hands(parts)]
        most = max(map(len, shares))
        (tally, _), *others = self._team.each("learner.gradient", [(s, most, method, self._on_policy) for s in shares])
        for other, seen in others:
            tally.take_in(other)
            self._seen.take_in(seen)
        norms: list[float] = self._team.each("learner.add_up", [()] * self._team.size)
        norm = norms[0]
        metrics: dict[str, float] = tally.metrics()
        self._refuse(batch, metrics, norm)
        if set(norms) != {norm}:
            raise TeamError(
                f"learner: the processes found gradient norms {', '.join(map(str, norms))} for the same gradient; they "
                "no longer hold equal weights. Resume from the last checkpoint; if it comes again, this is a bug"
            )
        skipped = norm == 0.0
        critic_norm = self._team.tell("learner.move", not skipped)
        if critic_norm is not None:
            metrics["learner/critic_grad_norm"] = critic_norm
        if not skipped:
            self.moved = True
            self._on_policy = False
        lr = float(self._optimizer.param_groups[0]["lr"])
        return metrics | {"learner/grad_norm": norm, "learner/lr": lr, "learner/skipped_steps": float(skipped)}

    def _micro_tokens(self, batch: Batch) -> int:
        """Most padded tokens of a micro-batch: what the config says, or fewer, so that every process has some."""
        if self._team.size == 1:
            return self.config.micro_tokens
        tokens = int(batch.attention_mask.sum())
        return min(self.config.micro_tokens, max(1, -(-tokens // self._team.size)))

    def _hands(self, parts: Sequence[Batch]) -> list[list[int]]:
        """Which of the parts each process gets."""
        return deal([part.input_ids.numel() for part in parts], self._team.size)

    def gradient(self, parts: Sequence[Batch], most: int, method: Method, on_policy: bool) -> tuple[Tally, Seen]:
        """This process's share of a gradient; ``most``: the micro-batches of the process that has most. Gives what it
        counted and what the policy thought."""
        if self._team.rank:
            self._seen = Seen((), (), ())
        tally = Tally(on_policy=on_policy, pairs="pairs" in method.needs)
        self.policy.train()
        for part in parts:
            beat("learner", "a micro-batch of batch", str(self.step))
            self._backward(part, method, tally)
        for _ in range(most - len(parts) if self._team.lockstep else 0):
            self._idle(self.policy).logprobs.sum().mul(0.0).backward()  # type: ignore[no-untyped-call]
        self.policy.eval()
        return tally, self._seen

    def _idle(self, model: Scorer) -> Outputs:
        """A forward pass over nothing, so that the others can make theirs with this process's share of the weights."""
        ids = torch.zeros(1, 2, dtype=torch.int64, device=self._device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        return model.outputs(ids, mask, mask, self._temperature, self.config.chunk_tokens)

    def add_up(self) -> float:
        """Sum the gradients over all processes, and cut them to the largest norm; gives their norm."""
        beat("learner", "adding up the gradients of batch", str(self.step))
        self._team.add_up(p for p in self._parameters if not is_share(p))
        if self._critic is not None:
            self._team.add_up(self._critic.head.parameters())
        return float(whole(torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm)))

    def move(self, moving: bool) -> float | None:
        """The step of this process's optimisers, if ``moving`` that of the policy too; gives the critic's norm."""
        beat("learner", "the optimiser step of batch", str(self.step))
        norm = None if self._critic is None else self._critic.step(self.config.max_grad_norm)
        if moving:
            self._house(self._parameters[0].device)
            self._optimizer.step()
            self._house(torch.device("cpu"))
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def _house(self, device: torch.device) -> None:
        """Where the moments are from now on, if they rest in host memory between steps."""
        for state in self._optimizer.state.values() if self.config.offload else ():
            state.update({name: value.to(device) for name, value in state.items() if value.dim()})

    def state_dict(self) -> dict[str, Any]:
        """What exact continuation needs beside the policy's weights: ``optimizer`` (as torch has it), ``step``, and
        ``critic`` (its weights and its own optimiser) where there is one. The same for any number of processes.

        The reference of a KL term is not in it: call :meth:`anchor` on the policy the run started from.
        """
        state = {"optimizer": self._team.tell("learner.moments"), "step": self.step}
        return state if self._critic is None else state | {"critic": self._critic.state_dict()}

    def moments(self) -> dict[str, Any] | None:
        """The optimiser's state, gathered where the learner leads."""
        found = self._optimizer.state_dict()
        leads = self._team.rank == 0
        kept: dict[int, dict[str, torch.Tensor]] = {}
        for number, values in sorted(found["state"].items()):
            beat("disk", "gathering the optimiser's state")
            full = {name: whole(value) for name, value in sorted(values.items())}
            if leads:
                kept[number] = {name: value.cpu() for name, value in full.items()}
        return {"state": kept, "param_groups": found["param_groups"]} if leads else None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken. Raises CheckpointError when it belongs to another model."""
        saved = sum(len(group["params"]) for group in state["optimizer"]["param_groups"])
        if saved != len(self._parameters):
            raise CheckpointError(
                f"checkpoint: the optimiser state has {saved} tensors, this policy trains {len(self._parameters)}; "
                "resume with the model and learner settings of the run that wrote it"
            )
        moments = state["optimizer"]["state"]
        about = {
            "names": {number: {name: list(value.shape) for name, value in v.items()} for number, v in moments.items()},
            "param_groups": state["optimizer"]["param_groups"],
            "step": int(state["step"]),
            "critic": state.get("critic"),
        }
        self._team.each("learner.take", [(about, moments if rank == 0 else {}) for rank in range(self._team.size)])

    def take(self, about: Mapping[str, Any], moments: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
        """This process's part of :meth:`load_state_dict`: its shares of the leader's ``moments``."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for number, names in sorted(about["names"].items()):
            state[number] = {}
            for name, shape in sorted(names.items()):
                like = self._parameters[number].detach() if shape else torch.zeros((), device=self._device)
                share = torch.zeros_like(like)
                spread_into(self._team, share, moments.get(number, {}).get(name), self._device)
                state[number][name] = share
        self._optimizer.load_state_dict({"state": state, "param_groups": about["param_groups"]})
        self.step = about["step"]
        if about["critic"] is not None:
            self.have_critic()
            assert self._critic is not None
            self._critic.load_state_dict(about["critic"])

    def have_critic(self) -> None:
        """A new critic."""
        self._critic = self._new_critic()

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
            self._team.tell("learner.have_critic")
        if recompute or method.needs & {"values", "round_logprobs"}:
            own = self._pass("policy", batch)
            batch = replace(
                batch,
                old_logprobs=own.logprobs if recompute else batch.old_logprobs,
                ref_logprobs=own.logprobs if "round_logprobs" in method.needs else None,
                values=own.values,
            )
        if "ref_logprobs" in method.needs:
            if self._reference is None:
                self.anchor()
            batch = replace(batch, ref_logprobs=self._pass("reference", batch).logprobs)
        return batch

    def _credit(self, batch: Batch, method: Method) -> Batch:
        """The method's credit over the whole batch, then the importance weights of the sampler's tokens."""
        batch = method.credit(batch)
        if not self.config.tis_cap:
            return batch
        played = torch.where(torch.isfinite(batch.rollout_logprobs), batch.rollout_logprobs, batch.old_logprobs)
        weights = truncated_importance(batch.old_logprobs, played, self.config.tis_cap)
        return replace(batch, advantages=batch.advantages * weights)

    def _pass(self, model: str, batch: Batch) -> Outputs:
        """What ``policy`` or ``reference`` says of a batch, without gradient, ``[batch, seq]``: logprobs, and the
        policy's values."""
        logprobs = torch.zeros(batch.input_ids.shape, device=self._device)
        values = torch.zeros_like(logprobs)
        rows = micro_rows(batch, self._micro_tokens(batch), self.policy.shares(batch.input_ids.shape[1]))
        parts = [take(batch, part) for part in rows]
        hands = self._hands(parts)
        most = max(map(len, hands))
        told = self._team.each("learner.look", [(model, [parts[i] for i in hand], most) for hand in hands])
        for hand, answers in zip(hands, told, strict=True):
            for i, out in zip(hand, answers, strict=True):
                logprobs[rows[i], : out.logprobs.shape[1]] = out.logprobs.float()
                if out.values is not None:
                    values[rows[i], : out.values.shape[1]] = out.values
        spread = values[batch.unique] if model == "policy" and self._critic is not None else None
        return Outputs(logprobs[batch.unique], torch.zeros_like(logprobs)[batch.unique], spread)

    @torch.no_grad()
    def look(self, name: str, parts: Sequence[Batch], most: int) -> list[Outputs]:
        """This process's share of a pass without gradient, as :meth:`gradient`."""
        model = self.policy if name == "policy" else self._reference
        assert model is not None
        found = []
        for part in parts:
            beat("learner", "a forward pass over batch", str(self.step))
            found.append(self._outputs(model, part))
        for _ in range(most - len(parts) if self._team.lockstep else 0):
            self._idle(model)
        return found

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
        if not wanted and self._team.lockstep:
            wanted = [(distinct.logprobs, torch.zeros_like(distinct.logprobs))]
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
