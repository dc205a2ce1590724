"""Policies: Hugging Face causal language models behind a small door.

A :class:`Policy` answers what a learner asks: log-probabilities of given tokens with gradients, weights under their
checkpoint names, a frozen reference, a folder that ``transformers`` (or ``peft``) loads. Hidden states are computed
once, the output head only at positions that predict trained tokens, in chunks, so that logits never dominate memory.
"""

from agentrl.model.loading import DISK, IMPORT_S
from agentrl.model.placement import Placement
from agentrl.model.policy import Earlier, Policy, Scorer
from agentrl.model.pretrained import Parts, Pretrained

__all__ = ["DISK", "IMPORT_S", "Earlier", "Parts", "Placement", "Policy", "Pretrained", "Scorer"]
