"""What a method is: a frozen dataclass of the paper's symbols whose functions are its equations.

It never touches a module, an optimiser or a device; it declares what it needs and answers six questions.

A *pair* is a group of two plays: the first chosen, the second rejected. Each may have several turns, or be the rest of
an episode whose beginning stands inside its first prompt. A method that ``needs`` ``pairs`` answers with advantages +1
on every sampled token of the chosen play and -1 on the rejected one, so that the margin of a pair is ``sum_t A_t
(log pi - log pi_ref)``; its objective gives each token of a pair the pair's own J (see :mod:`agentrl.methods.dpo`).
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

    from agentrl.batch import Batch, Layout, Outputs


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


class Defaults:
    """What a method answers that has nothing to say of its own; to be inherited from."""

    @property
    def past_batches(self) -> int:
        return 0

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """All groups, once."""
        return list(groups)

    def credit(self, batch: Batch) -> Batch:
        """The advantages stay as they are."""
        return batch


class Method(Protocol):
    """The six questions a paper answers."""

    @property
    def needs(self) -> frozenset[str]:
        """What it cannot do without.

        - ``siblings``: groups of two plays or more;
        - ``pairs``: all rows of a group in one call of ``objective``, however the batch is split;
        - ``ref_logprobs``: ``Batch.ref_logprobs`` by the policy the run started from (one more forward pass);
        - ``round_logprobs``: the same by the policy as it is before the batch's first update (instead);
        - ``values``: a critic, ``Batch.values`` before the first update and ``Outputs.values`` (one more pass).
        """
        ...

    @property
    def past_batches(self) -> int:
        """How many earlier batches ``refill`` draws from (``Supply.past``)."""
        ...

    @property
    def skips_zero_advantage(self) -> bool:
        """True if a row whose ``advantages`` are all zero has zero gradient, so that it needs no forward pass."""
        ...

    def refill(self, groups: Sequence[Group], supply: Supply) -> list[Group]:
        """Which groups are worth learning from, how often, how strongly? (VSPO, DAPO)"""
        ...

    def advantages(self, group: Group) -> list[NDArray[np.float32]]:
        """How good was each sampled token, given its siblings? ``[trajectory.tokens]`` for each of ``group.valid``.

        A method that has to see the whole batch first answers with the reward of each token here.
        """
        ...

    def credit(self, batch: Batch) -> Batch:
        """What becomes of it once values, reference and the whole batch are known? (PPO, REINFORCE++)

        ``batch`` holds every row of the step, before it is split into minibatches, in order of group, play and turn;
        the answer is the batch with new ``advantages`` and, where there are ``values``, ``returns``.
        """
        ...

    def weights(self, layout: Layout) -> torch.Tensor:
        """How are tokens averaged into one number? ``[batch, seq]`` over the minibatch, sums to 1."""
        ...

    def objective(self, batch: Batch, out: Outputs) -> torch.Tensor:
        """The paper's J per token, ``[batch, seq]``, to be maximised."""
        ...
