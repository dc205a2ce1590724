"""A run: all that it owns (``run``), built from a composed config (``building``)."""

from agentrl.run.building import player, training_run
from agentrl.run.run import Player, Run, writing_s

__all__ = ["Player", "Run", "player", "training_run", "writing_s"]
