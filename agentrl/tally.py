"""What the learner's forward pass tells for free: entropy, clipping, drift, and the gap between learner and engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agentrl.batch import Batch, Outputs, Work
from agentrl.ops import k3, masked_sum, ratio, sum_by

SUMS = (
    "loss", "tokens", "entropy", "known", "ratio", "kl_old", "active", "high", "low", "fresh", "bias", "spread", "kl",
    "kl_ref", "pairs", "margin", "right",
)  # fmt: skip
FLAT = 0.01  # in units of reward; returns whose deviation is no larger have no variance worth explaining


class Tally:
    """Sums over the micro-batches of one optimiser step, divided once at the end.

    ``on_policy``: the policy is still the one that played, so that its logprobs should equal the engine's; ``pairs``:
    the groups are pairs.
    """

    def __init__(self, on_policy: bool, pairs: bool = False) -> None:
        self._on_policy = on_policy
        self._pairs = pairs
        self._sums: torch.Tensor | float = 0.0
        self._rows = 0
        self._work = [0, 0, 0]  # tokens of the rows, computed, with padding
        self._referred = False
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
        ref = out.logprobs if batch.ref_logprobs is None else batch.ref_logprobs
        margins = self._margins(batch, out.logprobs - ref)
        sums = (
            loss,
            mask.sum(),
            masked_sum(out.entropy, mask),
            known.sum(),
            masked_sum(ratio(out.logprobs, old), known),
            masked_sum(k3(old, out.logprobs), known),
            active.sum(),
            (clipped & (batch.advantages > 0)).sum(),
            (clipped & (batch.advantages < 0)).sum(),
            fresh.sum(),
            masked_sum(ratio(out.logprobs, rollout), fresh),
            masked_sum(ratio(apart, torch.zeros_like(apart)), fresh),
            masked_sum(k3(rollout, out.logprobs), fresh),
            masked_sum(k3(out.logprobs, ref), mask),
            torch.tensor(len(margins)),
            margins.sum(),
            (margins > 0).sum(),
        )
        self._sums = self._sums + torch.stack([value.detach().double().to(out.logprobs.device) for value in sums])
        self._referred = self._referred or batch.ref_logprobs is not None
        self._gap = torch.clamp(apart.max(), min=self._gap)
        self._old_gap = torch.clamp((out.logprobs - old).abs().max(), min=self._old_gap)
        self._rows += batch.rows

    def take_in(self, other: Tally) -> None:
        """Add the sums of another process's micro-batches."""
        if isinstance(other._sums, torch.Tensor):
            self._sums = self._sums + other._sums
        self._rows += other._rows
        self._referred = self._referred or other._referred
        self._gap = torch.as_tensor(other._gap).clamp(min=self._gap)
        self._old_gap = torch.as_tensor(other._old_gap).clamp(min=self._old_gap)
        self._work = [ours + theirs for ours, theirs in zip(self._work, other._work, strict=True)]

    def add_work(self, batch: Batch, work: Work) -> None:
        """What the forward pass of a micro-batch took."""
        rows = int(batch.attention_mask.sum(-1)[batch.unique].sum())
        self._work = [total + more for total, more in zip(self._work, (rows, work.tokens, work.padded), strict=True)]

    def metrics(self) -> dict[str, float]:
        """Means over sampled tokens of the rows that were computed; see the metric table for each."""
        sums = self._sums.tolist() if isinstance(self._sums, torch.Tensor) else [0.0] * len(SUMS)
        s = dict(zip(SUMS, sums, strict=True))
        metrics = {"learner/loss": s["loss"], "learner/rows": float(self._rows), "learner/tokens": s["tokens"]}
        rows, computed, padded = self._work
        if padded:
            metrics |= {"learner/padding": 1.0 - computed / padded, "learner/shared": 1.0 - computed / rows}
        if s["tokens"]:
            metrics["learner/entropy"] = s["entropy"] / s["tokens"]
        if s["known"]:
            metrics |= {
                "learner/ratio": s["ratio"] / s["known"],
                "learner/kl_old": s["kl_old"] / s["known"],
                "learner/clip_frac": (s["high"] + s["low"]) / max(s["active"], 1.0),
                "learner/clipped_high": s["high"] / max(s["active"], 1.0),
                "learner/clipped_low": s["low"] / max(s["active"], 1.0),
                "learner/old_gap": float(self._old_gap),
            }
        if self._referred and s["tokens"]:
            metrics["learner/kl_ref"] = s["kl_ref"] / s["tokens"]
        if s["pairs"]:
            metrics |= {
                "learner/pairs": s["pairs"],
                "learner/pair_margin": s["margin"] / s["pairs"],
                "learner/pair_accuracy": s["right"] / s["pairs"],
            }
        if self._on_policy and s["fresh"]:
            metrics |= {
                "learner/logprob_gap": float(self._gap),
                "learner/mismatch_bias": s["bias"] / s["fresh"],
                "learner/mismatch_spread": s["spread"] / s["fresh"],
                "learner/mismatch_kl": s["kl"] / s["fresh"],
            }
        return metrics

    def _margins(self, batch: Batch, gap: torch.Tensor) -> torch.Tensor:
        """``[pairs]``: log-ratio to the reference of the chosen play minus that of the rejected one."""
        if not self._pairs:
            return gap.new_zeros(0)
        margins = sum_by((batch.advantages * gap).sum(-1), batch.group)
        first = torch.unique(batch.group, return_inverse=True)[1]
        return gap.new_zeros(int(first.max()) + 1).scatter(0, first, margins)


@torch.no_grad()
def critic_metrics(batches: Sequence[Batch]) -> dict[str, float]:
    """How well the critic foretold the returns of a step before learning from them; nothing without a critic.

    ``1 - var(returns - values) / var(returns)``: 1 is perfect, 0 no better than a constant; left out where the returns
    hardly differ (by no more than ``FLAT`` on average), which leaves nothing to explain.
    """
    values = [batch.values[batch.loss_mask] for batch in batches if batch.values is not None]
    returns = [batch.returns[batch.loss_mask] for batch in batches if batch.returns is not None]
    if not values or not returns or not len(told := torch.cat(values).double()):
        return {}
    came = torch.cat(returns).double()
    metrics = {"learner/value": float(told.mean()), "learner/value_error": float(((came - told) ** 2).mean().sqrt())}
    spread = float(came.var(correction=0))
    if spread <= FLAT**2:
        return metrics
    return metrics | {"learner/explained_variance": 1.0 - float((came - told).var(correction=0)) / spread}
