"""Builds everything a composed config names: the one place where configs become objects."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from agentrl import config
from agentrl.chat import Chat, Context
from agentrl.checkpoint import Checkpoints
from agentrl.engine.base import Engine
from agentrl.envs.base import Env
from agentrl.errors import ConfigError
from agentrl.evaluate import Evaluate
from agentrl.learner import Learner
from agentrl.log import Log
from agentrl.measure import Clock
from agentrl.methods.base import Method
from agentrl.model import Policy
from agentrl.panel import Panel, panel, require_disjoint
from agentrl.rewards.base import Reward
from agentrl.rollout.base import Rollout, Stage
from agentrl.rollout.supply import TaskOrder
from agentrl.sync import Sync
from agentrl.types import Group


@dataclass
class Run:
    """All that one run owns. ``step`` counts optimiser batches, ``episodes`` everything that was played."""

    cfg: DictConfig
    folder: Path
    stage: Stage
    policy: Policy
    rollout: Rollout
    reward: Reward
    method: Method
    learner: Learner
    sync: Sync
    evaluate: Evaluate
    panel: Panel
    checkpoints: Checkpoints
    log: Log
    tasks: TaskOrder
    facts: dict[str, Any]
    step: int = 0
    episodes: int = 0
    past: deque[Group] = field(default_factory=lambda: deque(maxlen=64))
    clock: Clock = field(default_factory=Clock)
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        return self.stage.engine
