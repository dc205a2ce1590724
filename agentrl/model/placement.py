"""Where a model lives."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model lives: its device, the dtype of its weights, and whether it computes in bfloat16 (autocast)."""

    device: torch.device
    dtype: torch.dtype
    autocast: bool

    def describe(self) -> str:
        """``cpu, float32`` for people."""
        name = str(self.dtype).removeprefix("torch.")
        return f"{self.device}, {name}" + (" weights, bfloat16 compute" if self.autocast else "")
