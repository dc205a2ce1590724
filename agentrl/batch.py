"""Tensors of one optimiser step: frozen records, made late.

``Batch`` is what a method's objective reads. All tensors are aligned ``[batch, seq]``: position ``t`` of
``logprobs``-like tensors belongs to token ``t`` of the row given the tokens before it (position 0 is never trained).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Layout:
    """Which tokens are sampled and whose they are: all that ``Method.weights`` may look at."""

    loss_mask: torch.Tensor  # [batch, seq] bool, True exactly on sampled tokens
    play: torch.Tensor  # [batch] int64, which play the row is of: numbers of the whole step, in order
    group: torch.Tensor  # [batch] int64, which group, likewise

    def of(self, rows: torch.Tensor) -> Layout:
        """The rows of an index or a mask ``[batch]``."""
        return Layout(self.loss_mask[rows], self.play[rows], self.group[rows])


@dataclass(frozen=True, slots=True)
class Batch:
    """One row is one sample: a prompt, sampled tokens, and (in ``history``) environment tokens between them.

    Rows that hold identical tokens are computed once: ``unique`` maps each row to its place in
    ``input_ids`` / ``attention_mask``, which are ``[unique_rows, seq]``. Everything else is ``[batch, seq]``.
    ``weights`` sum to 1 over the whole (global) batch before any split, so that parts add up exactly.
    The rows of a play, and the plays of a group, stand next to each other in the order they were played.
    """

    input_ids: torch.Tensor  # [unique_rows, seq] int64
    attention_mask: torch.Tensor  # [unique_rows, seq] bool
    unique: torch.Tensor  # [batch] int64
    play: torch.Tensor  # [batch] int64, which play of the step the row is of
    group: torch.Tensor  # [batch] int64, which group of the step
    loss_mask: torch.Tensor  # [batch, seq] bool, True exactly on sampled tokens
    advantages: torch.Tensor  # [batch, seq] float32; before Method.credit what Method.advantages answered
    weights: torch.Tensor  # [batch, seq] float32
    rollout_logprobs: torch.Tensor  # [batch, seq] float32, the engine's; NaN where no engine sampled
    old_logprobs: torch.Tensor  # [batch, seq] float32, of the policy before this batch's first update
    fresh: torch.Tensor  # [batch] bool, sampled by the policy_version that learns from them
    ref_logprobs: torch.Tensor | None = None  # [batch, seq], if the method needs them
    values: torch.Tensor | None = None  # [batch, seq], the critic's before the first update, if the method needs them
    returns: torch.Tensor | None = None  # [batch, seq], what the values should have been: from Method.credit
    row: torch.Tensor | None = None  # [batch] int64, the row's number in the batch of the whole step

    @property
    def rows(self) -> int:
        return int(self.loss_mask.shape[0])

    @property
    def tokens(self) -> int:
        """Sampled tokens in the batch."""
        return int(self.loss_mask.sum())

    def to_plays(self, tensor: torch.Tensor) -> torch.Tensor:
        """``[batch, seq]`` -> ``[plays, tokens]``: the sampled tokens of each play in order, zeros behind them.

        Over all its rows: turns and tokens of a play become one line, whatever the context made of them.
        """
        play, index = self._places()
        line = tensor.new_zeros([int(places.max()) + 1 if len(places) else 0 for places in (play, index)])
        line[play, index] = tensor[self.loss_mask]
        return line

    def to_rows(self, line: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`to_plays`; ``[batch, seq]``, zero where the loss mask is off."""
        play, index = self._places()
        tensor = line.new_zeros(self.loss_mask.shape)
        tensor[self.loss_mask] = line[play, index]
        return tensor

    @property
    def turn_starts(self) -> torch.Tensor:
        """``[batch, seq]`` bool: the first sampled token of each turn (of turns that other tokens stand between)."""
        before = torch.nn.functional.pad(self.loss_mask[:, :-1], (1, 0))
        return self.loss_mask & ~before

    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(play from 0, index in its line) of each sampled token, row by row."""
        counts = self.loss_mask.sum(-1)
        play = torch.unique_consecutive(self.play, return_inverse=True)[1].repeat_interleave(counts)
        start = torch.searchsorted(play, play)  # where the tokens of each play begin
        return play, torch.arange(len(play), device=play.device) - start


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model says about a batch, ``[batch, seq]``; zero where the loss mask is off."""

    logprobs: torch.Tensor
    entropy: torch.Tensor
    values: torch.Tensor | None = None  # the critic's, of the state before each sampled token, if the method needs them
