"""What the torch engine needs of a model: prefill prompts, go on token by token, score given tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch


class Decoding(Protocol):
    """Rows that are being continued, with their keys and values."""

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to every row, [rows]; logits of the next one, [rows, vocabulary]."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these (ascending indices)."""
        ...


class Forward(Protocol):
    """A model that holds the engine's own weights."""

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The weights in use by checkpoint name, tied ones once; writing into them changes the model."""
        ...

    def start(self, prompts: Sequence[tuple[int, ...]], rows: Sequence[int]) -> tuple[Decoding, torch.Tensor]:
        """Read ``prompts`` (each once, shortest first).

        Row r continues prompt ``rows[r]``. Next-token logits [prompts, vocabulary].
        """
        ...

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """[rows, seq] ids, padded on the right -> [rows, seq, vocabulary]."""
        ...


def right_padded(sequences: Sequence[tuple[int, ...]], device: torch.device) -> torch.Tensor:
    """[rows, longest] int64, zeros behind."""
    width = max(map(len, sequences))
    return torch.tensor([[*sequence, *(0,) * (width - len(sequence))] for sequence in sequences], device=device)
