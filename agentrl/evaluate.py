"""Play without learning on a fixed panel, greedily and sampled, and say how sure one can be."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.panel import Panel
from agentrl.rollout.base import Stage
from agentrl.rollout.independent import Independent
from agentrl.seeds import derive
from agentrl.stats import wilson
from agentrl.types import Group, Split, Stop


@dataclass(frozen=True)
class Evaluate:
    """What to play: the first ``tasks`` tasks of ``split``, once greedily and ``samples`` times at ``temperature``.

    ``every``: also evaluate on the val split each so many optimiser steps (0: only before and after training).
    """

    split: str
    tasks: int
    samples: int
    temperature: float
    every: int
    val_tasks: int
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float

    def __post_init__(self) -> None:
        if self.split not in ("train", "val", "test"):
            raise ValueError(f"eval.split: got '{self.split}', expected train, val or test")

    @property
    def panel_split(self) -> Split:
        """``split`` as a checked word."""
        return self.split  # type: ignore[return-value]

    def run(self, stage: Stage, panel: Panel, seed: int) -> dict[str, Any]:
        """``{"greedy": block, "sampled": block}``; every block: success, return, n, interval (95 %, Wilson)."""
        greedy = self._play(stage, panel, 0.0, 1, seed)
        sampled = self._play(stage, panel, self.temperature, self.samples, seed)
        return {"greedy": block(greedy), "sampled": block(sampled)}

    def _play(self, stage: Stage, panel: Panel, temperature: float, samples: int, seed: int) -> list[Group]:
        rollout = Independent(
            group_size=samples,
            temperature=temperature,
            max_turns=self.max_turns,
            action_tokens=self.action_tokens,
            context_tokens=self.context_tokens,
            max_failed=self.max_failed,
            pool=0,
        )
        return rollout.play(stage, panel.tasks, seed=derive(seed, "evaluate"), step=0)


def block(groups: list[Group]) -> dict[str, Any]:
    """Success and return over the episodes that the environment did not fail."""
    plays = [t for group in groups for t in group.valid]
    wins = sum(t.success for t in plays)
    low, high = wilson(wins, len(plays))
    return {
        "success": wins / len(plays) if plays else 0.0,
        "return": statistics.fmean(t.env_return for t in plays) if plays else 0.0,
        "n": len(plays),
        "interval": [low, high],
        "turns": statistics.fmean(len(t.turns) for t in plays) if plays else 0.0,
        "failed": sum(t.stop is Stop.env_error for group in groups for t in group.trajectories),
    }


def flat(prefix: str, result: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation as metrics: ``<prefix>/greedy_success`` and so on; ``n`` is the number of episodes."""
    return {
        f"{prefix}/{decoding}_{name}": float(result[decoding][name])
        for decoding in ("greedy", "sampled")
        for name in ("success", "return", "n")
    }
