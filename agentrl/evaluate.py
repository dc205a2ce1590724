"""Play without learning on a fixed panel, greedily and sampled, and say how sure one can be."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.panel import Panel
from agentrl.rollout.base import Stage
from agentrl.rollout.independent import Independent
from agentrl.seeds import derive
from agentrl.stats import wilson
from agentrl.types import Group, Split, Stop, Trajectory


@dataclass(frozen=True)
class Evaluate:
    """What to play: the first ``tasks`` tasks of ``split``, once greedily and ``samples`` times at ``temperature``.

    ``every``: also evaluate on the val split each so many optimiser steps (0: only before and after training).
    ``scores``: rewards by name (:mod:`agentrl.rewards`) that score the plays too, without anyone learning from it.
    """

    split: str
    tasks: int
    samples: int
    temperature: float
    before: bool
    every: int
    val_tasks: int
    scores: dict[str, Any]
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

    def owes_val(self, step: int, last: int, updates: int) -> bool:
        """Is the val panel to be played after ``step`` optimiser steps, of which the last batch made ``updates``? It
        was last played after ``last``."""
        return self.every > 0 and last < step and step % self.every < updates

    def run(self, stage: Stage, panel: Panel, seed: int) -> Evaluation:
        """Play the panel greedily and sampled."""
        blocks: dict[str, Any] = {}
        plays: list[dict[str, Any]] = []
        for decoding, temperature, samples in (("greedy", 0.0, 1), ("sampled", self.temperature, self.samples)):
            groups = self._play(stage, panel, temperature, samples, seed)
            lines = self._lines(groups)
            blocks[decoding] = block(groups, self.max_turns) | {"scores": _means([line["scores"] for line in lines])}
            plays += [{"decoding": decoding, **line} for line in lines]
        return Evaluation(blocks, plays)

    def _lines(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """One record for each play that the environment did not fail."""
        scored = {name: reward.score(groups, 0, 1) for name, reward in self.scores.items()}
        lines = []
        for number, group in enumerate(groups):
            for place, play in enumerate(group.trajectories):
                if play.stop is not Stop.env_error:
                    judged = {name: found[number].trajectories[place] for name, found in scored.items()}
                    lines.append(_line(play, self.max_turns) | {"scores": _scores(judged)})
        return lines

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


@dataclass(frozen=True)
class Evaluation:
    """``blocks``: ``{"greedy": block, "sampled": block}``, see :func:`block`; ``plays``: a record of each play."""

    blocks: dict[str, Any]
    plays: list[dict[str, Any]]


def block(groups: Sequence[Group], cap: int) -> dict[str, Any]:
    """Numbers of the plays that the environment did not fail; ``interval``: 95 %, Wilson.

    ``steps`` and ``steps_success`` are the ASAT and ASST of arXiv:2509.20616: mean steps over all plays, where a play
    without success counts the cap, and over the successful ones (None without any). Under one cap
    ``steps = success * steps_success + (1 - success) * cap``. A step is an action and the cap is ``cap``; a task that
    names its own (``task.data["cap"]``) counts the environment's steps (``info["steps"]``) where these differ.
    ``parts``: means of the parts of the environment's final reward, where it names them.
    """
    plays = [t for group in groups for t in group.valid]
    wins = [t for t in plays if t.success]
    low, high = wilson(len(wins), len(plays))
    return {
        "success": len(wins) / len(plays) if plays else 0.0,
        "return": statistics.fmean(t.env_return for t in plays) if plays else 0.0,
        "n": len(plays),
        "interval": [low, high],
        "turns": statistics.fmean(len(t.turns) for t in plays) if plays else 0.0,
        "steps": statistics.fmean(_steps(t, cap) for t in plays) if plays else 0.0,
        "steps_success": statistics.fmean(_steps(t, cap) for t in wins) if wins else None,
        "failed": sum(t.stop is Stop.env_error for group in groups for t in group.trajectories),
        "parts": _means([_parts(t) for t in plays]),
    }


def _line(play: Trajectory, cap: int) -> dict[str, Any]:
    return {
        "task": play.task.id,
        "member": play.member,
        "success": float(play.success),
        "return": play.env_return,
        "turns": len(play.turns),
        "steps": _steps(play, cap),
        "steps_success": _steps(play, cap) if play.success else None,
        "stop": str(play.stop),
        "parts": _parts(play),
    }


def _parts(play: Trajectory) -> dict[str, float]:
    """The parts of the environment's final reward, where it names them."""
    named = play.turns[-1].info.get("reward_parts", {}) if play.turns else {}
    return {name: float(value) for name, value in named.items()}


def _scores(judged: Mapping[str, Trajectory]) -> dict[str, float]:
    """Each reward by its name, its parts as ``<name>.<part>``; a play that a judge could not score has none."""
    found: dict[str, float] = {}
    for name, play in judged.items():
        if play.stop is not Stop.env_error:
            found |= {name: play.reward} | {f"{name}.{part}": value for part, value in play.reward_parts.items()}
    return found


def _means(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name over the lines that have it."""
    columns: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line.items():
            columns.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in columns.items()}


def _steps(play: Trajectory, cap: int) -> int:
    """Steps of a successful play, else the most it might have had."""
    own = int(play.task.data.get("cap", 0))
    if not play.success:
        return own or cap
    return int(play.turns[-1].info.get("steps", len(play.turns))) if own else len(play.turns)


def flat(prefix: str, result: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation as metrics: ``<prefix>/greedy_success`` and so on; ``n`` is the number of episodes."""
    return {
        f"{prefix}/{decoding}_{name}": float(result[decoding][name])
        for decoding in ("greedy", "sampled")
        for name in ("success", "return", "n", "steps", "steps_success")
        if result[decoding].get(name) is not None
    }
