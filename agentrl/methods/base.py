"""What a method is: a frozen dataclass of the paper's symbols whose functions are its equations.

It never touches a module, an optimiser or a device; it declares what it needs and answers five questions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from agentrl.types import Group, Task

if TYPE_CHECKING:
    import torch

    from agentrl.batch import Batch, Outputs


class Supply(Protocol):
    """Where a method gets more groups from. What it plays is counted in the run's episodes."""

    @property
    def rng(self) -> random.Random:
        """Seeded by (run seed, step)."""
        ...

    @property
    def past(self) -> Sequence[Group]:
        """Groups of the last ``past_batches`` batches, newest last."""
        ...

    def tasks(self, count: int) -> list[Task]:
        """The next tasks of the training order."""
        ...

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        """Fresh groups of these tasks, played by the current policy and scored."""
        ...


class Method(Protocol):
    """The five questions a paper answers."""

    @property
    def needs(self) -> frozenset[str]:
        """What it cannot do without: ``ref_logprobs``, ``values`` (passes the learner pays for), ``siblings`` (groups
        of two plays or more)."""
        ...

    @property
    def past_batches(self) -> int:
        """How many earlier batches ``refill`` draws from (``Supply.past``)."""
        ...

    @property
    def skips_zero_advantage(self) -> bool:
        """True if a row whose advantages are all zero has zero gradient, so that it needs no forward pass."""
        ...

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """Which groups are worth learning from, how often, how strongly? (VSPO, DAPO)"""
        ...

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """How good was each sampled token, given its siblings? ``[trajectory.tokens]`` for each of ``group.valid``."""
        ...

    def weights(self, loss_mask: torch.Tensor) -> torch.Tensor:
        """How are tokens averaged into one number? ``[batch, seq]`` over the global batch, sums to 1."""
        ...

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """The paper's J per token, ``[batch, seq]``, to be maximised."""
        ...
