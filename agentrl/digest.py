"""A digest of named tensors that learner and engine compute alike, on any device.

Each tensor's bits are summed with pseudo-random odd multipliers of their positions, modulo 2**64: exact integer
arithmetic, so the order of summation and the device do not matter; a single changed bit always changes the sum, several
miss each other with probability about 2**-64. Then name, shape and sum of all tensors go through BLAKE2b.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

CHUNK = 1 << 24  # elements at once: bounds the memory to a few hundred MiB
GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit integer


@dataclass(frozen=True)
class Digest:
    """Of named tensors; as text 32 hex digits. ``tensors``: (name, shape and sum) of each, sorted."""

    tensors: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for name, about in self.tensors:
            digest.update(f"{name} {about}\n".encode())
        return digest.hexdigest()

    def differing(self, other: Digest) -> list[str]:
        """Names of the tensors that are not equal, or that one of the two lacks."""
        return sorted({name for name, _ in set(self.tensors) ^ set(other.tensors)})


def weights_digest(weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype = torch.float32) -> Digest:
    """Over (name, shape, values cast to ``dtype``); the order of the pairs does not matter."""
    found = ((name, f"{tuple(tensor.shape)} {_sum(tensor.detach().to(dtype))}") for name, tensor in weights)
    return Digest(tuple(sorted(found)))


def names(found: Sequence[str]) -> str:
    """Names of tensors in a sentence: the first, and how many more."""
    return f"'{found[0]}'" + (f" and {len(found) - 1} other tensor(s)" if len(found) > 1 else "")


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
