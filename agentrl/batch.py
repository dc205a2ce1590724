"""Tensors of one optimiser step: frozen records, made late.

``Batch`` is what a method's objective reads. All tensors are aligned ``[batch, seq]``: position ``t`` of
``logprobs``-like tensors belongs to token ``t`` of the row given the tokens before it (position 0 is never trained).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """One row is one sample: a prompt, sampled tokens, and (in ``history``) environment tokens between them.

    Rows that hold identical tokens are computed once: ``unique`` maps each row to its place in
    ``input_ids`` / ``attention_mask``, which are ``[unique_rows, seq]``. Everything else is ``[batch, seq]``.
    ``weights`` sum to 1 over the whole (global) batch before any split, so that parts add up exactly.
    """

    input_ids: torch.Tensor  # [unique_rows, seq] int64
    attention_mask: torch.Tensor  # [unique_rows, seq] bool
    unique: torch.Tensor  # [batch] int64
    loss_mask: torch.Tensor  # [batch, seq] bool, True exactly on sampled tokens
    advantages: torch.Tensor  # [batch, seq] float32
    weights: torch.Tensor  # [batch, seq] float32
    rollout_logprobs: torch.Tensor  # [batch, seq] float32, the engine's
    old_logprobs: torch.Tensor  # [batch, seq] float32, of the policy before this batch's first update
    fresh: torch.Tensor  # [batch] bool, sampled by the newest policy_version of the batch
    ref_logprobs: torch.Tensor | None = None  # [batch, seq], if the method needs them

    @property
    def rows(self) -> int:
        return int(self.loss_mask.shape[0])

    @property
    def tokens(self) -> int:
        """Sampled tokens in the batch."""
        return int(self.loss_mask.sum())


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model says about a batch, ``[batch, seq]``; zero where the loss mask is off."""

    logprobs: torch.Tensor
    entropy: torch.Tensor
