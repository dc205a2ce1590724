"""Policies of which every process of a team has all weights (:class:`Replica`) or a share (:class:`Sharded`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from agentrl.batch import Outputs
from agentrl.chat import Chat
from agentrl.distributed.team import Team
from agentrl.distributed.tensors import spread_into, whole
from agentrl.model import Earlier, Placement, Policy, Scorer
from agentrl.watchdog import beat


class Replica(Policy):
    """All weights in every process; gradients are summed, so that all stay equal."""

    def __init__(self, module: Any, chat: Chat, place: Placement, adapter: Any, team: Team) -> None:
        super().__init__(module, chat, place, adapter)
        self._team = team
        team.seat("policy", self)
        self.receive(list(module.parameters()))

    def put(self, saved: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
        super().put(saved, target)
        self._team.tell("policy.receive")

    @torch.no_grad()
    def receive(self, parameters: Sequence[torch.Tensor] | None = None) -> None:
        """Take over the leader's weights (None: those that learn). All processes call it."""
        for parameter in self.parameters() if parameters is None else parameters:
            beat("learner", "spreading the weights")
            self._team.spread(parameter.data)


class _Whole(nn.Module):
    """Root of the shards: embeddings, last norm and head are there for the whole of a forward pass."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.module = policy.module
        self._policy = policy

    def forward(self, *args: Any) -> tuple[torch.Tensor | None, ...]:
        """The fields of :class:`Outputs`, as the tuple that FSDP looks for tensors in."""
        out = Policy.outputs(self._policy, *args)
        return tuple(getattr(out, field.name) for field in fields(Outputs))


class Sharded(Policy):
    """A share of every weight in each process (FSDP2): gathered layer by layer in each pass, gradients summed in
    float32 as they come. With ``offload`` the shares rest in host memory.

    The module is handed over on the CPU, with real weights where the process leads. Every method that looks at weights
    is one of all processes.
    """

    def __init__(self, module: Any, chat: Chat, place: Placement, adapter: Any, team: Any, *, offload: bool) -> None:
        super().__init__(module, chat, Placement(torch.device("cpu"), place.dtype, place.autocast), adapter)
        self._team = team
        full = {name: parameter.data for name, parameter in module.named_parameters()} if team.rank == 0 else {}
        self.place = place
        self._whole = self._sharded(team, offload)
        team.seat("policy", self)
        self._receive(full, dict(module.named_parameters()))

    def _sharded(self, team: Any, offload: bool) -> Any:
        low = torch.bfloat16 if self.place.autocast else None
        rest = CPUOffloadPolicy(pin_memory=self.device.type == "cuda") if offload else OffloadPolicy()
        mesh = init_device_mesh(self.device.type, (team.size,))
        how: dict[str, Any] = {
            "mesh": mesh,
            "mp_policy": MixedPrecisionPolicy(low, torch.float32, cast_forward_inputs=False),
            "offload_policy": rest,
            "reshard_after_forward": True,
        }
        names = set(self.module._no_split_modules or ())
        for layer in [part for part in self.module.modules() if type(part).__name__ in names]:
            fully_shard(layer, **how)
        root: Any = fully_shard(_Whole(self), **how)
        for part in root.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)  # the weights of the loss are global: gradients add up
                part.set_force_sum_reduction_for_comms(True)
        for buffer in self.module.buffers():
            buffer.data = buffer.data.to(self.device)
        return root

    def outputs(self, *args: Any) -> Outputs:
        return Outputs(*self._whole(*args))

    def logprobs(self, sequences: Sequence[tuple[int, ...]], temperature: float) -> list[list[float]]:
        found: list[list[float]] = self._team.tell("policy.joint_logprobs", list(sequences), temperature)
        return found

    def joint_logprobs(self, sequences: Sequence[tuple[int, ...]], temperature: float) -> list[list[float]]:
        """What ``logprobs`` is in each process."""
        return super().logprobs(sequences, temperature)

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        self._team.begin("policy.give", [("named",)] * self._team.size)
        yield from self._named()
        self._team.finish("policy.give", lambda: None)

    def adapter_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        self._team.begin("policy.give", [("adapter",)] * self._team.size)
        yield from self._adapter()
        self._team.finish("policy.give", lambda: None)

    def give(self, what: str) -> None:
        """Take part while the leader gathers weights."""
        for _ in {"named": self._named, "kept": self._kept, "adapter": self._adapter}[what]():
            pass

    def _adapter(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in super().adapter_weights():
            yield name, self._gathered(tensor)

    def _named(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in super().named_weights():
            yield name, self._gathered(tensor)

    def _kept(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What a checkpoint keeps, on the CPU: all weights, or the adapters'."""
        owner = self.module if self.adapter is None else self.adapter
        for name, parameter in owner.named_parameters():
            if parameter.requires_grad or self.adapter is None:
                beat("disk", "gathering the weights", name)
                yield name, self._gathered(parameter.detach()).cpu()

    def _gathered(self, tensor: torch.Tensor) -> torch.Tensor:
        return whole(tensor.to(self.device))

    def reference(self) -> Scorer:
        """The shares as they are now; the layers have no second copy that could be gathered."""
        return Earlier.of(self)

    def save(self, folder: Path) -> None:
        self._team.begin("policy.give", [("kept",)] * self._team.size)
        weights = dict(self._kept())
        self._team.finish("policy.give", lambda: None)
        (self.module if self.adapter is None else self.adapter).save_pretrained(folder, state_dict=weights)
        self.chat.tokenizer.save_pretrained(folder)

    def put(self, saved: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
        self._team.begin("policy.receive", [()] * self._team.size)
        self._team.finish("policy.receive", lambda: self._receive(saved, target))

    def receive(self) -> None:
        """Take part while the leader puts weights."""
        self._receive({}, self.kept())

    @torch.no_grad()
    def _receive(self, full: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
        for name in sorted(target):
            beat("learner", "spreading the weights", name)
            spread_into(self._team, target[name], full.get(name), self.device)
