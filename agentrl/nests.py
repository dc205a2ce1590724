"""Nests of dicts and lists with tensors at some of their leaves, such as ``optimizer.state_dict()``, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

TENSOR, PAIRS = "__tensor__", "__pairs__"  # marks in the JSON: a tensor's key; a dict whose keys are not all strings


def flatten(part: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """Split a nest into its tensors by dotted key, and the rest as JSON with marks where the tensors were.

    Raises TypeError for a leaf that is neither a tensor nor JSON.
    """
    tensors: dict[str, torch.Tensor] = {}
    return tensors, _strip(part, "", tensors)


def unflatten(tensors: Mapping[str, torch.Tensor], rest: Any) -> Any:
    """The inverse of :func:`flatten`; tuples come back as lists."""
    if isinstance(rest, list):
        return [unflatten(tensors, item) for item in rest]
    if not isinstance(rest, dict):
        return rest
    if TENSOR in rest:
        return tensors[rest[TENSOR]]
    pairs = rest[PAIRS] if PAIRS in rest else rest.items()
    return {key: unflatten(tensors, value) for key, value in pairs}


def _strip(value: Any, key: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        # A clone of its own: safetensors refuses tensors that share memory.
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: key}
    if isinstance(value, Mapping):
        items = [(k, _strip(v, f"{key}.{k}" if key else str(k), tensors)) for k, v in value.items()]
        simple = all(isinstance(k, str) and k not in (TENSOR, PAIRS) for k, _ in items)
        return dict(items) if simple else {PAIRS: [list(item) for item in items]}
    if isinstance(value, list | tuple):
        return [_strip(item, f"{key}.{i}" if key else str(i), tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(
        f"checkpoint: {key} is a {type(value).__name__}; expected tensors, numbers, words, lists and dicts of them"
    )
