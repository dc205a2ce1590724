"""Method meets model: credit becomes a change of weights. ``learner`` leads, a ``hand`` is what each process does."""

from agentrl.learner.adamw import AdamW
from agentrl.learner.choices import OldLogprobs, Schedule
from agentrl.learner.learner import Learner

__all__ = ["AdamW", "Learner", "OldLogprobs", "Schedule"]
