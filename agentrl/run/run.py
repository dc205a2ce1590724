"""What one run owns, and what it does with it: play, save, restore."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.ahead import Ahead
from agentrl.checkpoint import Checkpoints, latest
from agentrl.config import Config
from agentrl.digest import weights_digest
from agentrl.distributed.team import Team
from agentrl.engine.base import Engine
from agentrl.errors import ConfigError
from agentrl.evaluate import Evaluate
from agentrl.guards import Guard
from agentrl.interrupt import Stop
from agentrl.kept import Kept, forget, keep
from agentrl.learner import Learner
from agentrl.log.base import Many, RunFacts, open_logs
from agentrl.log.files import cut, lengths
from agentrl.measure import Clock
from agentrl.methods.base import Method
from agentrl.model import DISK, Policy
from agentrl.panel import Panel
from agentrl.records import group_from_json, group_to_json
from agentrl.rewards.base import Reward
from agentrl.rollout.base import Rollout, Stage
from agentrl.rollout.supply import TaskOrder
from agentrl.seeds import derive
from agentrl.sync import Sync
from agentrl.types import Group, Task
from agentrl.warmstart import Start
from agentrl.watchdog import beat, patience


@dataclass
class Player:
    """What evaluation needs: a stage, a panel and a log. Training builds on it."""

    cfg: Config
    folder: Path
    stage: Stage
    policy: Policy
    evaluate: Evaluate
    panel: Panel
    clock: Clock
    facts: dict[str, Any]

    @property
    def engine(self) -> Engine:
        return self.stage.engine

    @property
    def seed(self) -> int:
        return int(self.cfg.seed)

    def open_log(self, steps: int, first_step: int = 0) -> Many:
        """The logs that the config names, writing into the run's folder."""
        sinks = [config.build(node) for _, node in config.targets(self.cfg.log)]
        return open_logs(sinks, RunFacts(self.folder, steps, config.plain(self.cfg), first_step, self.facts))

    def close(self) -> None:
        """Free engine and environment."""
        self.engine.close()
        self.stage.env.close()


@dataclass
class Run(Player):
    """All that one training run owns. ``step`` counts optimiser steps, ``episodes`` everything that was played."""

    rollout: Rollout
    reward: Reward
    method: Method
    learner: Learner
    sync: Sync
    checkpoints: Checkpoints
    tasks: TaskOrder
    updates: int  # optimiser steps that one batch makes
    past: deque[Group]  # of the last batches, as many as the method draws from
    start: Start | None  # the warm start, if there is one
    team: Team  # the processes that learn together
    guard: Guard
    ahead: Ahead = field(default_factory=Ahead)
    log: Many = field(default_factory=lambda: Many(()))
    stop: Stop = field(default_factory=Stop)
    step: int = 0
    episodes: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)  # of the last batch and the evaluations after it
    validated: int = 0  # the step at which the val panel was last played
    saved: int | None = None  # the step whose checkpoint holds what is here

    @property
    def steps(self) -> int:
        return int(self.cfg.steps)

    def play(self, tasks: Sequence[Task], call: int = 0) -> list[Group]:
        """Scored groups of these tasks by the current policy; ``call`` tells repeated plays of one step apart."""
        return self._counted(self._scored(tasks, self.step, call))

    def next_batch(self) -> list[Group]:
        """Scored groups of the next tasks of the training order: played now, unless they were played ahead."""
        return self._counted(self.ahead.take(lambda: self._scored(self._draw(), self.step)))

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """What the engine does while the learner learns: with ``max_staleness=1`` it plays the next batch by the
        weights that it has, else it rests."""
        step = self.step + self.updates
        if not int(self.cfg.max_staleness) or step >= self.steps:
            self.engine.rest()
            yield
            return
        tasks = self._draw()
        with self.ahead.meanwhile(lambda: self._scored(tasks, step), self.clock):
            yield

    def _draw(self) -> list[Task]:
        return self.tasks.draw(int(self.cfg.tasks_per_step))

    def _scored(self, tasks: Sequence[Task], step: int, call: int = 0) -> list[Group]:
        groups = self.rollout.play(self.stage, tasks, seed=derive(self.seed, "play", call), step=step)
        beat("reward", "scoring the plays")
        return self.reward.score(groups, step // self.updates, self.steps // self.updates)

    def _counted(self, groups: list[Group]) -> list[Group]:
        self.episodes += sum(group.spent.episodes for group in groups)
        return groups

    @contextmanager
    def droppable(self) -> Iterator[None]:
        """Play inside; whatever ends it early, the run is then as if nothing had been played. SIGTERM does.

        Raises Dropped.
        """
        before = self.tasks.position, self.episodes, self.ahead.ready
        try:
            with self.stop.droppable():
                yield
        except BaseException:
            self.tasks.position, self.episodes, self.ahead.ready = before
            raise

    def save(self) -> None:
        """A checkpoint from which the run continues exactly, unless there is one of this step. Raises DiskError."""
        if self.saved == self.step:
            return
        state = {
            "step": self.step,
            "episodes": self.episodes,
            "position": self.tasks.position,
            "results": self.results,
            "validated": self.validated,
            "logs": lengths(self.folder),
            "seconds": self.clock.summary(),
            "ahead": None if self.ahead.ready is None else [group_to_json(group) for group in self.ahead.ready],
            "past": [group_to_json(group) for group in self.past],
            "panel": self.panel.hash,
            "start": asdict(self.start) if self.start else None,
        }
        parts = {"learner": self.learner.state_dict(), "run": state}
        with self.clock.phase("save"), patience("disk", "writing a checkpoint", writing_s(self.policy)):
            self.checkpoints.save(self.folder, self.step, parts, self.policy.save, self.metrics)
            forget(self.folder, self.checkpoints.keep)
        self.saved = self.step

    def keep(self, groups: Sequence[Group], metrics: Mapping[str, float] | None = None, error: str = "") -> Path:
        """Keep what the learner was given for the batch at hand, before ``step`` counts it: with the ``metrics`` that
        it reported, or with the ``error`` with which it refused. Gives the file."""
        digest = "" if metrics is None else str(weights_digest(self.policy.named_weights()))
        start = asdict(self.start) if self.start else None
        return keep(self.folder, Kept(self.step + self.updates, self.step, groups, digest, metrics or {}, error, start))

    def close(self) -> None:
        """Free engine, environment and the other learner processes."""
        try:
            super().close()
        finally:
            self.team.close()

    def begin(self) -> None:
        """Take the weights the run starts from; a KL term is measured from them. Raises CheckpointError."""
        if self.start is not None:
            self.policy.restore(self.start.model)
        if "ref_logprobs" in self.method.needs:
            self.learner.anchor()

    def restore(self) -> None:
        """Continue from the newest good checkpoint of the run's folder. Raises CheckpointError, ConfigError."""
        found = latest(self.folder, lambda text: print(f"agentrl: {text}"))
        state = found.parts["run"]
        if state["panel"] != self.panel.hash:
            raise ConfigError(
                f"resume={self.folder}: the run was measured on panel {state['panel']}, this environment now makes "
                f"panel {self.panel.hash}; "
                "its data or settings changed, so results could not be compared. Restore them, or start a new run"
            )
        self.start = Start(**state["start"]) if state["start"] else None
        if "ref_logprobs" in self.method.needs:
            if self.start:
                self.start.verify()
            self.begin()
        self.policy.restore(found.model)
        self.learner.load_state_dict(found.parts["learner"])
        self.step, self.episodes, self.results = state["step"], state["episodes"], state["results"]
        self.tasks.position = state["position"]
        self.clock.resume(state["seconds"])
        self.past.extend(group_from_json(group) for group in state["past"])
        if state["ahead"] is not None:
            self.ahead.ready = [group_from_json(group) for group in state["ahead"]]
        self.validated, self.saved = state.get("validated", self.step), self.step
        cut(self.folder, state.get("logs", lengths(self.folder)))
        self.checkpoints.drop_old(self.folder, self.step)
        forget(self.folder, self.checkpoints.keep)


def writing_s(policy: Policy) -> float:
    """Seconds in which a checkpoint must be written: weights and two moments of the trained ones, in float32."""
    trained = sum(p.numel() for p in policy.parameters())
    return (4 * policy.parameters_count + 8 * trained) / DISK
