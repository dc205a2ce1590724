"""What the learner thought of the sampled tokens of one batch when it first learned from them: for the log.

Before the batch's first optimiser step that is the policy that played (so its distance to the engine's logprobs is the
mismatch of the two); after it, in later minibatches, the policy has moved on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Outputs


class Seen:
    """Gathers logprobs and entropies micro-batch by micro-batch; nothing leaves the device before :meth:`by_play`.

    ``plays`` and ``tokens``: of each row of the step, the play it is of and how many sampled tokens it has;
    ``computed``: which rows stand in the step's batch, whose ``Batch.row`` counts them.
    """

    def __init__(self, plays: Sequence[int], tokens: Sequence[int], computed: Sequence[int]) -> None:
        self._plays = plays
        self._tokens = tokens
        self._computed = computed
        self._parts: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def add(self, batch: Batch, out: Outputs) -> None:
        """One micro-batch and what the policy says of it, ``[batch, seq]``."""
        if batch.row is not None:
            mask = batch.loss_mask
            self._parts.append((batch.row, torch.stack([out.logprobs[mask], out.entropy[mask]]).float()))

    def take_in(self, other: Seen) -> None:
        """Add the micro-batches that another process gathered."""
        self._parts += other._parts

    def by_play(self) -> dict[int, NDArray[np.float32]]:
        """``[2, tokens]`` for each play: logprobs and entropies of its sampled tokens, NaN where none was computed."""
        rows: list[NDArray[np.float32]] = [np.full((2, count), np.nan, np.float32) for count in self._tokens]
        for numbers, values in reversed(self._parts):  # what was seen first has the last word
            places = [self._computed[number] for number in numbers.tolist()]
            ends = np.cumsum([self._tokens[place] for place in places])[:-1]
            for place, part in zip(places, np.split(values.cpu().numpy(), ends, axis=1), strict=True):
                rows[place] = part
        plays: dict[int, list[NDArray[np.float32]]] = {}
        for play, row in zip(self._plays, rows, strict=True):
            plays.setdefault(play, []).append(row)
        return {play: np.concatenate(parts, axis=1) for play, parts in plays.items()}
