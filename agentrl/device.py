"""Which device a run computes on: the one meaning of ``device: auto``."""

from __future__ import annotations

import os

import torch

from agentrl.errors import ConfigError


def resolve_device(device: str) -> torch.device:
    """``auto`` is a GPU where there is one. Raises ConfigError on a device that this machine lacks."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: got '{device}', expected auto, cpu, cuda or cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: got '{device}', but PyTorch sees {torch.cuda.device_count()} GPU(s) here; use device=auto or "
            "device=cpu"
        )
    return found


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, in its order, by the names that CUDA_VISIBLE_DEVICES knows them by: what
    ``cuda:N`` means here is the name at place N."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
