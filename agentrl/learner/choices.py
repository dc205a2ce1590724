"""Words that conf/learner/*.yaml may choose, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum, auto


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up; see :data:`SCHEDULES`."""

    constant = auto()
    cosine = auto()
    linear = auto()


#: share of the run after the warm-up, 0..1 -> factor of the learning rate.
SCHEDULES: Mapping[Schedule, Callable[[float], float]] = {
    Schedule.constant: lambda _progress: 1.0,
    Schedule.cosine: lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    Schedule.linear: lambda progress: 1.0 - progress,
}


class OldLogprobs(StrEnum):
    """Whose logprobs are ``old_logprobs``: the engine's of the ``rollout``, or the learner's own, at the price of one
    more forward pass (``recompute``)."""

    rollout = auto()
    recompute = auto()
