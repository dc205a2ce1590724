"""A deterministic world that can be computed exactly: a random tree of words, with rewards at its leaves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from agentrl.chat import Window
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.envs.base import Expert, Step
from agentrl.rollout.base import Stage
from agentrl.types import Message, Messages, Split, Task
from tests.test_model import pretrained
from tests.toy import COLOURS

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """Every inner node has four children. ``leaf``: chance that a node above ``depth`` is a leaf; its reward is one of
    ``rewards``. ``breaks``: paths at which the environment fails. ``count`` sees what is opened and closed."""

    depth: int = 3
    leaf: float = 0.3
    seed: int = 0
    rewards: tuple[float, ...] = (0.0, 0.0, 0.5, 1.0)
    breaks: frozenset[Path_] = frozenset()
    fallen: str = ""  # tasks with this id fail at every action
    count: Counter[str] = field(default_factory=Counter, compare=False)
    max_turns = 4
    success_return = 1.0
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}-{i}", split, f"{split}-{i}", {"colour": COLOURS[i % 4]}) for i in range(40)]

    def start(self, task: Task) -> TreeEpisode:
        return self.restore((task, ()))

    def restore(self, state: Any) -> TreeEpisode:
        self.count["opened"] += 1
        return TreeEpisode(self, *state)

    def expert(self, noise: float, seed: int) -> Expert:
        def act(episode: Any) -> Message:
            values = {word: self.value(episode.task, (*episode.path, word)) for word in COLOURS}
            return Message("assistant", max(values, key=lambda word: values[word]))

        return act

    def ends(self, task: Task, path: Path_) -> bool:
        rng = random.Random(f"{self.seed}/{task.id}/{path}")
        return len(path) >= self.depth or (bool(path) and rng.random() < self.leaf)

    def reward(self, task: Task, path: Path_) -> float:
        if not self.ends(task, path):
            return 0.0
        return random.Random(f"reward/{self.seed}/{task.id}/{path}").choice(self.rewards)

    def value(self, task: Task, path: Path_) -> float:
        """Expected return from behind these actions, when every later word is drawn uniformly."""
        if self.ends(task, path):
            return self.reward(task, path)
        return fmean(self.value(task, (*path, word)) for word in COLOURS)

    def close(self) -> None: ...


@dataclass
class TreeEpisode:
    env: Tree
    task: Task
    path: Path_

    @property
    def goal(self) -> Messages:
        return (Message("user", self.task.data["colour"]),)

    @property
    def observation(self) -> Messages:
        return self._shown()

    def step(self, action: Message) -> Step:
        word = (action.content.split() or ["nothing"])[0]
        if (*self.path, word) in self.env.breaks or self.task.id == self.env.fallen:
            raise RuntimeError("the branch broke")
        self.path = (*self.path, word if word in COLOURS else COLOURS[0])
        done = self.env.ends(self.task, self.path)
        return Step(self._shown(), self.env.reward(self.task, self.path), done)

    def actions(self) -> Sequence[str]:
        return COLOURS

    def snapshot(self) -> Any:
        return (self.task, self.path)

    def close(self) -> None:
        self.env.count["closed"] += 1

    def _shown(self) -> Messages:
        return (Message("user", " ".join(self.path) or "again"),)


class Counting(ScriptedEngine):
    """Draws one of the four words uniformly; counts calls, requests and tokens."""

    def __init__(self, chat: Any) -> None:
        super().__init__(chat, lambda request: COLOURS[request.seed % 4])
        self.count: Counter[str] = Counter()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        answers = super().generate(requests, sampling)
        self.count["calls"] += 1
        self.count["requests"] += len(requests)
        self.count["tokens"] += sum(len(answer.ids) for answer in answers)
        return answers


def tree_stage(model: Path, env: Tree, context: Any = None) -> Stage:
    chat = pretrained(model).chat()
    return Stage(env, Counting(chat), chat, context or Window(0))  # type: ignore[arg-type]
