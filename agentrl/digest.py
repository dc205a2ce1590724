"""A digest of named tensors that learner and engine compute alike, on any device.

Each tensor's bits are summed with pseudo-random odd multipliers of their positions, modulo 2**64: exact integer
arithmetic, so the order of summation and the device do not matter; a single changed bit always changes the sum, several
miss each other with probability about 2**-64. Then name, shape and sum of all tensors go through BLAKE2b.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch

CHUNK = 1 << 24  # elements at once: bounds the memory to a few hundred MiB
GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit integer


def weights_digest(weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype = torch.float32) -> str:
    """32 hex digits over (name, shape, values cast to ``dtype``); the order of the pairs does not matter."""
    digest = hashlib.blake2b(digest_size=16)
    for line in sorted(f"{name} {tuple(tensor.shape)} {_sum(tensor.detach().to(dtype))}\n" for name, tensor in weights):
        digest.update(line.encode())
    return digest.hexdigest()


def _sum(tensor: torch.Tensor) -> int:
    """Weighted sum of the bit patterns modulo 2**64."""
    bits = tensor.contiguous().flatten().view(torch.int32 if tensor.element_size() == 4 else torch.int16)
    total = 0
    for start in range(0, bits.numel(), CHUNK):
        part = bits[start : start + CHUNK].to(torch.int64)
        place = torch.arange(start, start + part.numel(), device=part.device).mul_(GOLDEN)
        factor = place.bitwise_xor_(place >> 29).mul_(GOLDEN).bitwise_or_(1)
        total += int(part.mul_(factor).sum())
    return total % (1 << 64)
