"""How one token is drawn: a request carries its own stream of uniforms, so its batch mates cannot change it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: Sequence[int], count: int) -> NDArray[np.float64]:
    """``[len(seeds), count]`` uniforms in [0, 1).

    Column t is output t of SplitMix64 (Steele et al., 2014) started at the seed: a function of (seed, t), so no
    generator has to be kept.
    """
    start = np.array([seed % (1 << 64) for seed in seeds], dtype=np.uint64)
    z = start[:, None] + GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    found: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found


def choose(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [rows] and their logprobs [rows] (float32) from ``logits`` [rows, vocabulary] and ``uniform`` [rows].

    By inverse CDF over the whole vocabulary; greedy, with untempered logprobs, at temperature 0.
    """
    logp = torch.log_softmax(logits.float() / (temperature or 1.0), dim=-1)
    if temperature == 0:
        value, index = logp.max(dim=-1)
        return index, value
    total = logp.exp().cumsum(-1, dtype=torch.float64)
    index = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True).clamp_(max=logits.shape[-1] - 1)
    return index[:, 0], logp.gather(-1, index)[:, 0]
