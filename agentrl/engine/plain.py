"""Any Hugging Face causal model as the torch engine's forward pass: slower than ``lean``, but general."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from agentrl.engine.forward import right_padded


class PlainForward:
    """Drives a module through its own ``forward`` with its own cache; prompts are padded on the left."""

    def __init__(self, module: Any) -> None:
        self._module = module.eval()

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        return {name: p.data for name, p in self._module.named_parameters()}

    def start(self, prompts: Sequence[tuple[int, ...]], rows: Sequence[int]) -> tuple[PlainDecoding, torch.Tensor]:
        device = self._module.device
        flipped = right_padded([prompt[::-1] for prompt in prompts], device)
        ids = flipped.flip(1)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        mask = torch.arange(ids.shape[1] - 1, -1, -1, device=device)[None] < lengths[:, None]
        out = self._module(
            input_ids=ids, attention_mask=mask.long(), position_ids=_positions(mask), use_cache=True, logits_to_keep=1
        )
        index = torch.tensor(rows, device=device)
        out.past_key_values.batch_select_indices(index)
        return PlainDecoding(self._module, out.past_key_values, mask[index]), out.logits[:, -1]

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._module(input_ids=ids, use_cache=False).logits
        return found


class PlainDecoding:
    """Rows in a Hugging Face cache."""

    def __init__(self, module: Any, cache: Any, mask: torch.Tensor) -> None:
        self._module = module
        self._cache = cache
        self._mask = mask

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        out = self._module(
            input_ids=tokens[:, None], attention_mask=self._mask.long(), position_ids=_positions(self._mask)[:, -1:],
            past_key_values=self._cache, use_cache=True,
        )  # fmt: skip
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """[rows, seq] positions that count real tokens only."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
