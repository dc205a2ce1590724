"""The learner's weights into the engine, with proof that they arrived.

After every push three things are checked, and a failure stops the run in the same step:

1. the engine's checksum equals the learner's (every tensor, in the engine's dtype; a tensor that differs is named);
2. in float32, the checksum changed if and only if the optimiser moved the weights (coarser numbers may round a small
   step away);
3. on a few canary sequences the engine's logprobs equal the learner's (to the dtype's precision).

An engine whose weights cannot be read back (vLLM packs them for its kernels) has no checksum: there the canaries stand
for all three, on fixed sequences of the first token ids where no batch has been played yet. An engine that takes an
adapter alone holds a base that never moves: its checksum is of the adapter, and the canaries score both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from agentrl.digest import Digest, names, weights_digest
from agentrl.engine.base import Engine
from agentrl.errors import EngineError
from agentrl.model import Policy
from agentrl.ranges import require_least
from agentrl.watchdog import beat

FIRST_TOKENS = tuple(range(16))  # ids that every vocabulary has


@dataclass(frozen=True, slots=True)
class Seen:
    """An engine before a push: its ``checksum`` (None: cannot be read back; then the canaries' ``logprobs`` are here)
    and the canary ``sequences``."""

    checksum: Digest | None
    sequences: tuple[tuple[int, ...], ...]
    logprobs: list[list[float]]


def pushed(policy: Policy, engine: Engine) -> Iterator[tuple[str, torch.Tensor]]:
    """What this engine's ``load`` takes: all weights, or the adapter alone."""
    return policy.adapter_weights() if engine.adapter_only else policy.named_weights()


@dataclass(frozen=True)
class Sync:
    """When to look how closely. ``canaries``: sequences compared after each push (0: checksums only), the last
    ``canary_tokens`` of each (the first are the same in all): rounding adds up along a sequence, and an engine that
    scores a long one may hold the logits of the whole vocabulary for all of it.

    ``tolerance``: largest gap allowed in |Δ logprob| of a canary token when engine and learner share float32, whose
    rounding alone makes some 1e-6, and above 1e-5 in about one token of 5,000 (between any two kernels, the learner's
    own included: docs/results/engines.md); ``tolerance_low``: the same when either of them is in bfloat16.
    """

    canaries: int
    tolerance: float
    tolerance_low: float
    canary_tokens: int = 256  # runs of versions without it go on

    def __post_init__(self) -> None:
        require_least(self, "sync", canaries=0, canary_tokens=2)

    def look(self, engine: Engine, canaries: Sequence[tuple[int, ...]]) -> Seen:
        """What the engine says before a push, to be compared with what it says after it."""
        beat("sync", "asking what the engine holds before a push")
        before = engine.checksum()
        sequences = tuple(sequence[-self.canary_tokens :] for sequence in canaries[: self.canaries])
        if before is None and not sequences:
            sequences = (FIRST_TOKENS,)
        return Seen(before, sequences, engine.logprobs(sequences) if before is None else [])

    def push(self, policy: Policy, engine: Engine, version: int, moved: bool | None, seen: Seen) -> dict[str, float]:
        """Load the policy's weights as ``version`` and prove it. ``moved`` None: nothing is known of a change;
        ``seen``: the engine before (:meth:`look`).

        Raises EngineError.
        """
        beat("sync", "handing the weights to the engine as version", str(version))
        engine.load(pushed(policy, engine), version)
        beat("sync", "proving the weights of version", str(version))
        after = engine.checksum()
        if after is not None:
            self._require_equal(after, weights_digest(pushed(policy, engine), engine.dtype), version)
        beat("sync", "scoring the canaries of version", str(version))
        found = engine.logprobs(seen.sequences) if seen.sequences else []
        exact = engine.dtype == policy.dtype == torch.float32
        changed = seen.checksum != after if seen.checksum is not None else found != seen.logprobs
        if moved is not None and exact and changed != moved:
            raise EngineError(
                f"sync: the optimiser {'moved' if moved else 'did not move'} the weights, yet the engine's "
                f"{'checksum' if after is not None else 'logprobs'} {'stayed' if moved else 'changed'} at version "
                f"{version}; one of the two holds stale weights"
            )
        return {"sync/canary_gap": self._require_close(found, policy, engine, seen.sequences, version)}

    @staticmethod
    def _require_equal(theirs: Digest, ours: Digest, version: int) -> None:
        if theirs != ours:
            raise EngineError(
                f"sync: after pushing version {version} the engine holds other values than the learner in "
                f"{names(theirs.differing(ours))} (checksums {str(theirs)[:12]} and {str(ours)[:12]}); the engine "
                "would sample from another policy than the one that learns. This is a bug of the engine: report it"
            )

    def _require_close(
        self,
        found: Sequence[Sequence[float]],
        policy: Policy,
        engine: Engine,
        sequences: Sequence[tuple[int, ...]],
        version: int,
    ) -> float:
        """Largest |Δ logprob| between engine and learner over the canary sequences."""
        if not sequences:
            return 0.0
        ours = policy.logprobs(sequences, 1.0)
        gap = max(abs(a - b) for left, right in zip(found, ours, strict=True) for a, b in zip(left, right, strict=True))
        limit = self.tolerance if engine.dtype == policy.compute_dtype == torch.float32 else self.tolerance_low
        if not gap <= limit:
            raise EngineError(
                f"sync: at version {version} engine and learner disagree by {gap:.2e} in the logprob of a token, "
                f"expected at most {limit:.0e}"
                + (
                    "; the engine holds other weights than the learner"
                    if engine.checksum() is None
                    else ", although their checksums are equal; they compute the same weights differently"
                )
            )
        return gap
