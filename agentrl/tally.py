"""What the learner's forward pass tells for free: entropy, clipping, drift, and the gap between learner and engine."""

from __future__ import annotations

import torch

from agentrl.batch import Batch, Outputs
from agentrl.ops import k3, masked_sum, ratio

SUMS = ("loss", "tokens", "entropy", "known", "ratio", "kl_old", "active", "clipped", "fresh", "bias", "spread", "kl")


class Tally:
    """Sums over the micro-batches of one optimiser step, divided once at the end.

    ``on_policy``: the policy is still the one that played, so that its logprobs should equal the engine's.
    """

    def __init__(self, on_policy: bool) -> None:
        self._on_policy = on_policy
        self._sums: torch.Tensor | float = 0.0
        self._rows = 0
        self._gap: torch.Tensor | float = 0.0
        self._old_gap: torch.Tensor | float = 0.0

    @torch.no_grad()
    def add(
        self, batch: Batch, out: Outputs, loss: torch.Tensor, gradient: torch.Tensor | None, rest: torch.Tensor
    ) -> None:
        """One micro-batch: its outputs ``[batch, seq]``, its loss, the loss's ``gradient`` to the logprobs, and what of
        it remains without advantages (``rest``)."""
        mask = batch.loss_mask
        known = mask & torch.isfinite(batch.old_logprobs)
        old = torch.where(known, batch.old_logprobs, out.logprobs)
        active = mask & (batch.advantages != 0)
        clipped = active & ((rest if gradient is None else gradient) == rest)
        fresh = mask & batch.fresh[:, None] & torch.isfinite(batch.rollout_logprobs)
        rollout = torch.where(fresh, batch.rollout_logprobs, out.logprobs)
        apart = (out.logprobs - rollout).abs()
        sums = (
            loss,
            mask.sum(),
            masked_sum(out.entropy, mask),
            known.sum(),
            masked_sum(ratio(out.logprobs, old), known),
            masked_sum(k3(old, out.logprobs), known),
            active.sum(),
            clipped.sum(),
            fresh.sum(),
            masked_sum(ratio(out.logprobs, rollout), fresh),
            masked_sum(ratio(apart, torch.zeros_like(apart)), fresh),
            masked_sum(k3(rollout, out.logprobs), fresh),
        )
        self._sums = self._sums + torch.stack([value.detach().double() for value in sums])
        self._gap = torch.clamp(apart.max(), min=self._gap)
        self._old_gap = torch.clamp((out.logprobs - old).abs().max(), min=self._old_gap)
        self._rows += batch.rows

    def metrics(self) -> dict[str, float]:
        """Means over sampled tokens of the rows that were computed; see the metric table for each."""
        sums = self._sums.tolist() if isinstance(self._sums, torch.Tensor) else [0.0] * len(SUMS)
        s = dict(zip(SUMS, sums, strict=True))
        metrics = {"learner/loss": s["loss"], "learner/rows": float(self._rows), "learner/tokens": s["tokens"]}
        if s["tokens"]:
            metrics["learner/entropy"] = s["entropy"] / s["tokens"]
        if s["known"]:
            metrics |= {
                "learner/ratio": s["ratio"] / s["known"],
                "learner/kl_old": s["kl_old"] / s["known"],
                "learner/clip_frac": s["clipped"] / max(s["active"], 1.0),
                "learner/old_gap": float(self._old_gap),
            }
        if self._on_policy and s["fresh"]:
            metrics |= {
                "learner/logprob_gap": float(self._gap),
                "learner/mismatch_bias": s["bias"] / s["fresh"],
                "learner/mismatch_spread": s["spread"] / s["fresh"],
                "learner/mismatch_kl": s["kl"] / s["fresh"],
            }
        return metrics
