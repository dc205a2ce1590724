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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout, Outputs
from agentrl.distributed.team import Team, deal
from agentrl.errors import CheckpointError, DivergedError, TeamError
from agentrl.learner.choices import OldLogprobs
from agentrl.learner.hand import Hand
from agentrl.methods.base import Method
from agentrl.ops import truncated_importance
from agentrl.samples import collate, computed, credited, micro_batches, micro_rows, pick, rows, take
from agentrl.seeds import derive
from agentrl.seen import Seen
from agentrl.tally import critic_metrics
from agentrl.types import Group

if TYPE_CHECKING:
    from agentrl.learner.adamw import AdamW
    from agentrl.model import Policy

FULL_LR = 1e-6  # the rate of conf/learner/full.yaml; adapters that learn no faster are a mistake
IDENTITY_TOLERANCE = 1e-3  # nats; how far an unchanged policy may differ from itself between two forward passes


class Learner:
    """Leads: gives credit, shares out, says when the weights move. What each process does of it is ``hand``'s.

    ``step`` counts batches of groups. Of the last one, ``moved`` tells whether it moved the weights, and ``advantages``
    what each token was credited with: ``[group][valid play][token]``; ``seen`` what the policy thought of them
    (:mod:`agentrl.seen`): ``[group][valid play]`` arrays ``[2, tokens]`` of logprobs and entropies.
    """

    def __init__(self, config: AdamW, policy: Policy, team: Team, *, temperature: float, steps: int, seed: int) -> None:
        self.config = config
        self.policy = policy
        self.hand = Hand(config, policy, team, temperature=temperature, steps=steps, seed=seed)
        self._team = team
        self.moved = False
        self.advantages: list[list[NDArray[np.float32]]] = []
        self.seen: list[list[NDArray[np.float32]]] = []
        self._places: list[int] = []
        self._seed = seed
        self._on_policy = False

    @property
    def step(self) -> int:
        return self.hand.step

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
        whole = collate(found, weights, method.skips_zero_advantage, self.hand.device, version)
        whole = self._credit(self._complete(whole, method), method)
        told = dict(zip(places, credited(order, found, method.skips_zero_advantage, whole), strict=True))
        self.advantages = [told[place] for place in range(len(groups))]
        self._places = places
        self.hand.seen = Seen(
            [row.play for row in found],
            [len(row.advantages) for row in found],
            computed(found, method.skips_zero_advantage),
        )
        group = whole.group.tolist()
        shares = [[row for row, number in enumerate(group) if low <= number < high] for low, high in bounds]
        return [pick(whole, share) for share in shares] * self.config.epochs

    def _looked(self, groups: Sequence[Group]) -> list[list[NDArray[np.float32]]]:
        """What was ``seen``, by groups in their own order; plays are numbered in the order of ``_places``."""
        found = self.hand.seen.by_play()
        none = np.zeros((2, 0), np.float32)
        number = count()
        told = {place: [found.get(next(number), none) for _ in groups[place].valid] for place in self._places}
        return [told[place] for place in range(len(groups))]

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
            self.hand.seen.take_in(seen)
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
        lr = float(self.hand.optimizer.param_groups[0]["lr"])
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

    def state_dict(self) -> dict[str, Any]:
        """What exact continuation needs beside the policy's weights: ``optimizer`` (as torch has it), ``step``, and
        ``critic`` (its weights and its own optimiser) where there is one. The same for any number of processes.

        The reference of a KL term is not in it: call :meth:`anchor` on the policy the run started from.
        """
        state = {"optimizer": self._team.tell("learner.moments"), "step": self.step}
        return state if self.hand.critic is None else state | {"critic": self.hand.critic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken. Raises CheckpointError when it belongs to another model."""
        saved = sum(len(group["params"]) for group in state["optimizer"]["param_groups"])
        if saved != len(self.hand.parameters):
            raise CheckpointError(
                f"checkpoint: the optimiser state has {saved} tensors, this policy trains {len(self.hand.parameters)}; "
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

    def _complete(self, batch: Batch, method: Method) -> Batch:
        """Add what costs a forward pass of its own: the policy's logprobs and values, the reference's logprobs."""
        recompute = self.config.old_logprobs == OldLogprobs.recompute
        if "values" in method.needs and self.hand.critic is None:
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
            if self.hand.reference is None:
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
        logprobs = torch.zeros(batch.input_ids.shape, device=self.hand.device)
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
        spread = values[batch.unique] if model == "policy" and self.hand.critic is not None else None
        return Outputs(logprobs[batch.unique], torch.zeros_like(logprobs)[batch.unique], spread)

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
