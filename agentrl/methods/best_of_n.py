"""Best-of-N: N whole plays of each task, and DPO on the best of them against the worst.

The outcome-supervised baseline of RRO (arXiv:2505.20737)::

    w = argmax_i R(e_i),  l = argmin_i R(e_i),  i = 1..N;   a pair if R(w) > R(l)
    J = log sigma( beta [log pi/pi_ref (w) - log pi/pi_ref (l)] )

N is ``rollout.group_size``, R the training reward. Pairs and objective are those of :mod:`agentrl.methods.dpo`; the
rollout and the values make the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrl.methods.dpo import DPO


@dataclass(frozen=True)
class BestOfN(DPO):
    """DPO on the best and the worst of N plays."""
