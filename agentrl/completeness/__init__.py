"""Were all tool calls that a query needs made? Requirements, how calls are matched to them, and checkers.

Plain data in, numbers out: rewards and metrics read ``task.data["requirements"]`` and the calls that an environment
recorded in ``turn.info["calls"]``, and know nothing of the environment itself. RLTR's completeness (arXiv:2508.19598):
γ(τ) = 1 iff every needed call is among the calls made; the answer's quality is not judged.
"""

from agentrl.completeness.checkers import Checker, Client, Exact, Judged, Noisy
from agentrl.completeness.matching import Call, Match, calls_of, match, scores
from agentrl.completeness.values import equal, standard

__all__ = [
    "Call",
    "Checker",
    "Client",
    "Exact",
    "Judged",
    "Match",
    "Noisy",
    "calls_of",
    "equal",
    "match",
    "scores",
    "standard",
]
