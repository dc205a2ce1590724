"""The settings of a learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrl.distributed.team import Alone, Team
from agentrl.errors import ConfigError
from agentrl.learner.choices import SCHEDULES, OldLogprobs, Schedule
from agentrl.learner.learner import Learner
from agentrl.ranges import require_positive

if TYPE_CHECKING:
    from agentrl.model import Policy


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
