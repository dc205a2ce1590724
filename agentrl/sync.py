"""The learner's weights into the engine, with proof that they arrived.

After every push three things are checked, and a failure stops the run in the same step:

1. the engine's checksum equals the learner's (every tensor, in the engine's dtype);
2. in float32, the checksum changed if and only if the optimiser moved the weights (coarser numbers may round a small
   step away);
3. on a few canary sequences the engine's logprobs equal the learner's (to the dtype's precision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from agentrl.digest import weights_digest
from agentrl.engine.base import Engine
from agentrl.errors import EngineError
from agentrl.model import Policy


@dataclass(frozen=True)
class Sync:
    """When to look how closely. ``canaries``: sequences compared after each push (0: checksums only).

    ``tolerance``: largest gap allowed in |Δ logprob| of a canary token when engine and learner share float32;
    ``tolerance_low``: the same when either of them is in bfloat16.
    """

    canaries: int
    tolerance: float
    tolerance_low: float

    def push(
        self,
        policy: Policy,
        engine: Engine,
        version: int,
        moved: bool | None,
        canaries: Sequence[tuple[int, ...]],
        temperature: float,
    ) -> dict[str, float]:
        """Load the policy's weights as ``version`` and prove it. Raises EngineError."""
        before = engine.checksum()
        engine.load(policy.named_weights(), version)
        after = engine.checksum()
        ours = weights_digest(policy.named_weights(), engine.dtype)
        if after != ours:
            raise EngineError(
                f"sync: after pushing version {version} the engine's weights have checksum {after[:12]}, the "
                f"learner's {ours[:12]}; "
                "the engine would sample from another policy than the one that learns. This is a bug of the engine: "
                "report it"
            )
        exact = engine.dtype == policy.dtype == torch.float32
        if moved is not None and exact and (before != after) != moved:
            raise EngineError(
                f"sync: the optimiser {'moved' if moved else 'did not move'} the weights, yet the engine's checksum "
                f"{'stayed' if moved else 'changed'} at version {version}; one of the two holds stale weights"
            )
        gap = self._canary_gap(policy, engine, canaries[: self.canaries], temperature)
        limit = self.tolerance if engine.dtype == policy.compute_dtype == torch.float32 else self.tolerance_low
        if gap > limit:
            raise EngineError(
                f"sync: at version {version} engine and learner disagree by {gap:.2e} in the logprob of a token, "
                f"expected at most {limit:.0e} "
                "although their checksums are equal; they compute the same weights differently"
            )
        return {"sync/canary_gap": gap}

    def _canary_gap(
        self, policy: Policy, engine: Engine, canaries: Sequence[tuple[int, ...]], temperature: float
    ) -> float:
        """Largest |Δ logprob| between engine and learner over the canary sequences."""
        if not canaries:
            return 0.0
        theirs = engine.logprobs(canaries, temperature)
        ours = policy.logprobs(canaries, temperature)
        return max(
            abs(a - b) for left, right in zip(theirs, ours, strict=True) for a, b in zip(left, right, strict=True)
        )
