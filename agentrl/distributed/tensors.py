"""Tensors of which each process has a share (torch's DTensor): whole again, and filled from the leader's."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor

from agentrl.distributed.team import Team


def is_share(tensor: torch.Tensor) -> bool:
    """Has this process only some rows of it?"""
    return isinstance(tensor, DTensor)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of all processes' shares; one that is not shared stays as it is. All processes call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_into(team: Team, share: torch.Tensor, full: torch.Tensor | None, device: torch.device) -> None:
    """Fill ``share`` (a DTensor: this process's rows of it) with the leader's ``full`` tensor; of all processes."""
    whole = torch.empty(share.shape, dtype=share.dtype, device=device) if full is None else full.to(device, share.dtype)
    team.spread(whole.contiguous())
    if isinstance(share, DTensor):
        rows = -(-whole.shape[0] // team.size)
        whole = whole[team.rank * rows : (team.rank + 1) * rows]
        share = share.to_local()
    share.copy_(whole)
