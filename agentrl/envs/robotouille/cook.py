"""The expert: plays shortest plans, with a noise dial.

At every turn, with probability ``noise``, it errs: it takes any valid action, each equally likely (which may by
chance be a good one). Otherwise it takes the first optimal action in the order of the list of valid actions, or, where
the planner's budget is too small for a proof, the first action of the plan that it has.
"""

from __future__ import annotations

import random
from typing import Any

from agentrl.envs.base import Episode
from agentrl.errors import EnvError
from agentrl.types import Message


class Cook:
    """Plays episodes in the words of their view. Draws from its own generator: equal (noise, seed), equal play."""

    def __init__(self, noise: float, seed: int) -> None:
        if not 0.0 <= noise <= 1.0:
            raise EnvError(f"expert noise is {noise}; expected a number from 0 (shortest plans) to 1 (random play)")
        self._noise = noise
        self._rng = random.Random(f"cook/{seed}")

    def __call__(self, episode: Episode) -> Message:
        valid = list(episode.actions())
        advise: Any = getattr(episode, "advice")  # noqa: B009
        if self._rng.random() < self._noise:
            return Message("assistant", self._rng.choice(valid))
        return Message("assistant", advise().actions[0])
