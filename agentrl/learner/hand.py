"""What each process does of learning: gradients and forward passes of its share, the steps of its optimisers.

The process that leads (:class:`agentrl.learner.Learner`) asks for it by name:
``team.each("learner.gradient", shares)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from agentrl.batch import Batch, Outputs
from agentrl.critic import Critic
from agentrl.distributed.team import Team
from agentrl.distributed.tensors import is_share, spread_into, whole
from agentrl.methods.base import Method
from agentrl.ops import masked_sum
from agentrl.samples import unique_mask
from agentrl.seeds import derive
from agentrl.seen import Seen
from agentrl.tally import Tally
from agentrl.watchdog import beat

if TYPE_CHECKING:
    from agentrl.learner.adamw import AdamW
    from agentrl.model import Policy, Scorer


class Hand:
    """Owns the optimiser of the weights, or shares of weights, that are here.

    ``step`` counts batches of groups; ``seen`` is what the policy thought of the tokens of the last one;
    ``reference`` and ``critic`` are there once they were needed.
    """

    def __init__(self, config: AdamW, policy: Policy, team: Team, *, temperature: float, steps: int, seed: int) -> None:
        self.config = config
        self.policy = policy
        self._team = team
        team.seat("learner", self)
        self.step = 0
        self.seen = Seen((), (), ())
        self.reference: Scorer | None = None
        self.critic: Critic | None = None
        self._temperature = temperature
        self._steps = steps
        self._seed = seed
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.device = policy.device if team.lockstep else self.parameters[0].device
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def keep_reference(self) -> None:
        """This process's part of :meth:`anchor`."""
        self.reference = self.policy.reference()

    def begin(self, step: int) -> None:
        """Another batch of groups, after ``step`` of them: its learning rates."""
        factor = self.config.factor(step, self._steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor
        if self.critic is not None:
            self.critic.set_lr(self.config.critic_lr * factor)
        self.step = step + 1

    def gradient(self, parts: Sequence[Batch], most: int, method: Method, on_policy: bool) -> tuple[Tally, Seen]:
        """This process's share of a gradient; ``most``: the micro-batches of the process that has most. Gives what it
        counted and what the policy thought."""
        if self._team.rank:
            self.seen = Seen((), (), ())
        tally = Tally(on_policy=on_policy, pairs="pairs" in method.needs)
        self.policy.train()
        for part in parts:
            beat("learner", "a micro-batch of batch", str(self.step))
            self._backward(part, method, tally)
        for _ in range(most - len(parts) if self._team.lockstep else 0):
            self._idle(self.policy).logprobs.sum().mul(0.0).backward()  # type: ignore[no-untyped-call]
        self.policy.eval()
        return tally, self.seen

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
        self.seen.add(batch, leaf)
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

    def add_up(self) -> float:
        """Sum the gradients over all processes, and cut them to the largest norm; gives their norm."""
        beat("learner", "adding up the gradients of batch", str(self.step))
        self._team.add_up(p for p in self.parameters if not is_share(p))
        if self.critic is not None:
            self._team.add_up(self.critic.head.parameters())
        return float(whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)))

    def move(self, moving: bool) -> float | None:
        """The step of this process's optimisers, if ``moving`` that of the policy too; gives the critic's norm."""
        beat("learner", "the optimiser step of batch", str(self.step))
        norm = None if self.critic is None else self.critic.step(self.config.max_grad_norm)
        if moving:
            self._house(self.parameters[0].device)
            self.optimizer.step()
            self._house(torch.device("cpu"))
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _house(self, device: torch.device) -> None:
        """Where the moments are from now on, if they rest in host memory between steps."""
        for state in self.optimizer.state.values() if self.config.offload else ():
            state.update({name: value.to(device) for name, value in state.items() if value.dim()})

    @torch.no_grad()
    def look(self, name: str, parts: Sequence[Batch], most: int) -> list[Outputs]:
        """This process's share of a pass without gradient, as :meth:`gradient`."""
        model = self.policy if name == "policy" else self.reference
        assert model is not None
        found = []
        for part in parts:
            beat("learner", "a forward pass over batch", str(self.step))
            found.append(self._outputs(model, part))
        for _ in range(most - len(parts) if self._team.lockstep else 0):
            self._idle(model)
        return found

    def _idle(self, model: Scorer) -> Outputs:
        """A forward pass over nothing, so that the others can make theirs with this process's share of the weights."""
        ids = torch.zeros(1, 2, dtype=torch.int64, device=self.device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        return model.outputs(ids, mask, mask, self._temperature, self.config.chunk_tokens)

    def _outputs(self, model: Scorer, batch: Batch) -> Outputs:
        """Of the distinct rows, ``[unique_rows, seq]``."""
        c = self.config
        critic = self.critic if model is self.policy else None
        return model.outputs(
            batch.input_ids, batch.attention_mask, unique_mask(batch), self._temperature, c.chunk_tokens, critic
        )

    def moments(self) -> dict[str, Any] | None:
        """The optimiser's state, gathered where the learner leads."""
        found = self.optimizer.state_dict()
        leads = self._team.rank == 0
        kept: dict[int, dict[str, torch.Tensor]] = {}
        for number, values in sorted(found["state"].items()):
            beat("disk", "gathering the optimiser's state")
            full = {name: whole(value) for name, value in sorted(values.items())}
            if leads:
                kept[number] = {name: value.cpu() for name, value in full.items()}
        return {"state": kept, "param_groups": found["param_groups"]} if leads else None

    def take(self, about: Mapping[str, Any], moments: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
        """This process's part of :meth:`load_state_dict`: its shares of the leader's ``moments``."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for number, names in sorted(about["names"].items()):
            state[number] = {}
            for name, shape in sorted(names.items()):
                like = self.parameters[number].detach() if shape else torch.zeros((), device=self.device)
                share = torch.zeros_like(like)
                spread_into(self._team, share, moments.get(number, {}).get(name), self.device)
                state[number][name] = share
        self.optimizer.load_state_dict({"state": state, "param_groups": about["param_groups"]})
        self.step = about["step"]
        if about["critic"] is not None:
            self.have_critic()
            assert self.critic is not None
            self.critic.load_state_dict(about["critic"])

    def have_critic(self) -> None:
        """A new critic."""
        self.critic = self.new_critic()

    def new_critic(self) -> Critic:
        c = self.config
        return Critic(
            self.policy.width,
            self.device,
            gradient=c.critic_gradient,
            lr=c.critic_lr * c.factor(max(self.step - 1, 0), self._steps),
            betas=(c.beta1, c.beta2),
            seed=derive(self._seed, "critic"),
        )
