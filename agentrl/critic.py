"""The critic of the methods that need one: a value head on the policy's hidden states, with an optimiser of its own.

Why a head and not a second model: one forward pass answers logprobs and values, the memory of a critic is that of two
small matrices, and full weights, adapters, saving and resuming work alike. By default (``gradient`` off) nothing of the
value loss reaches the policy, whose update is then the method's policy gradient alone; the price is that the features
the values are read from were not made for them. With ``gradient`` on, the trunk learns for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from agentrl.errors import CheckpointError, DivergedError


class Critic:
    """``V(s)``: LayerNorm, linear, tanh, linear to 1, in float32; 0 everywhere at the start.

    ``width``: of the hidden states; ``gradient``: whether the value loss reaches what they come from.
    """

    def __init__(
        self, width: int, device: torch.device, *, gradient: bool, lr: float, betas: tuple[float, float], seed: int
    ) -> None:
        self._gradient = gradient
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inner, last = nn.Linear(width, width), nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Sequential(norm, inner, nn.Tanh(), last).to(device)
        self._optimizer = torch.optim.AdamW(self.head.parameters(), lr=lr, betas=betas, weight_decay=0.0, fused=True)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[n, width]`` hidden states before sampled tokens -> ``[n]`` values."""
        if not self._gradient:
            hidden = hidden.detach()
        with torch.autocast(hidden.device.type, enabled=False):
            values: torch.Tensor = self.head(hidden.float()).squeeze(-1)
        return values

    def set_lr(self, lr: float) -> None:
        """Learning rate of the steps to come."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def step(self, max_norm: float) -> float:
        """Learn from the gradient at hand, cut to ``max_norm``, and give its norm; at norm 0 nothing moves.

        Raises DivergedError.
        """
        norm = float(nn.utils.clip_grad_norm_(self.head.parameters(), max_norm))
        if not math.isfinite(norm):
            raise DivergedError(f"critic: gradient norm {norm:g}, expected a finite number; lower learner.critic_lr")
        if norm > 0.0:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"head": self.head.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken. Raises CheckpointError when it belongs to another model."""
        wanted = {name: tuple(tensor.shape) for name, tensor in self.head.state_dict().items()}
        saved = {name: tuple(tensor.shape) for name, tensor in state["head"].items()}
        if saved != wanted:
            raise CheckpointError(
                f"checkpoint: the critic was saved as {saved}, this model has {wanted}; resume with the model of the "
                "run that wrote it"
            )
        self.head.load_state_dict(dict(state["head"]))
        self._optimizer.load_state_dict(dict(state["optimizer"]))
