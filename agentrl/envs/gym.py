"""Text environments of Gymnasium, as they are: ``env=gym env.id=package.module:Name-v0``.

What is shown is the observation where it is text (or a dict of texts), else what ``render()`` says in the ``ansi``
mode. What is said is an action of a Text space as it is, or of a Discrete space the action's name (``env.actions``) or
number. A task is a seed of ``reset``. One real turn of ``env.id=FrozenLake-v1 env.kwargs.is_slippery=false``
``env.actions=[left,down,right,up]``::

      (Right)
    S[F]FF
    FHFH
    FFFH
    HFFG
    > down

Snapshots are the actions so far, played again from the seed: environments of others need not be copyable, but must
follow from their seed. Differs from Gymnasium: an action outside the space changes nothing, costs a turn and is
answered with the valid ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.envs.base import Expert, FieldsTravel, Step
from agentrl.errors import ConfigError, EnvError
from agentrl.ranges import require_least
from agentrl.seeds import derive
from agentrl.types import Message, Messages, Split, Task

FIRST_SEED: Mapping[Split, int] = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # no split reaches the next
COLOUR = re.compile(r"\x1b\[([0-9;]*)m")  # of a terminal: what a rendering marks by colour gets brackets
SHOWN = 20  # actions listed to one who said something else


@dataclass(frozen=True)
class Gymnasium(FieldsTravel):
    """The schema of conf/env/gym.yaml, where every number has its unit."""

    id: str
    kwargs: dict[str, Any]
    actions: list[str]
    rules: str
    success_return: float
    train_tasks: int
    val_tasks: int
    test_tasks: int
    max_turns: int

    def __post_init__(self) -> None:
        require_least(self, "env", train_tasks=1, val_tasks=1, test_tasks=1, max_turns=1)
        most = FIRST_SEED["val"]
        if max(self.train_tasks, self.val_tasks, self.test_tasks) > most:
            raise ConfigError(f"env.train_tasks, val_tasks, test_tasks: expected at most {most} each")

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "env": "gym",
            "id": self.id,
            "kwargs": dict(self.kwargs),
            "gymnasium": _gymnasium().__version__,
            "actions": list(self.actions),
            "success_return": self.success_return,
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """One task for each seed; the seeds of the splits do not meet."""
        count, first = getattr(self, f"{split}_tasks"), FIRST_SEED[split]
        return [Task(f"{self.id}/{seed}", split, str(seed), {"seed": seed}) for seed in range(first, first + count)]

    def start(self, task: Task) -> GymEpisode:
        return GymEpisode(self, task)

    def restore(self, state: Any) -> GymEpisode:
        """An equal episode: the same seed, the same actions."""
        task, said = state
        episode = GymEpisode(self, task)
        for text in said:
            episode.step(Message("assistant", text))
        return episode

    def expert(self, noise: float, seed: int) -> Expert:
        """Raises EnvError: nobody knows the goal of an environment of somebody else."""
        raise EnvError(f"env=gym: {self.id} has no expert; take a method that needs none, such as grpo or vspo")

    def make(self) -> Any:
        """A new environment of Gymnasium. Raises ConfigError naming what is missing."""
        gymnasium = _gymnasium()
        try:
            made = gymnasium.make(self.id, disable_env_checker=True, **self.kwargs)
            if "ansi" in made.metadata.get("render_modes", ()) and "render_mode" not in self.kwargs:
                made = gymnasium.make(self.id, disable_env_checker=True, render_mode="ansi", **self.kwargs)
        except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
            raise ConfigError(
                f"env.id={self.id}: Gymnasium cannot make it ({' '.join(str(error).split())}); give a registered id, "
                "with its module before it (package.module:Name-v0) where importing that registers it, and its "
                "arguments as env.kwargs"
            ) from None
        return made

    def close(self) -> None:
        """Episodes close their own."""


class GymEpisode:
    """One play of one seed."""

    def __init__(self, env: Gymnasium, task: Task) -> None:
        self.task = task
        self._rules = env.rules
        self._gym = env.make()
        self._said: list[str] = []
        self._over = False
        seed = int(task.data["seed"])
        seen, info = self._gym.reset(seed=seed)
        self._numbers = _numbers(self._gym.action_space, env.actions)
        self._mask = info.get("action_mask")
        self._shown = self._text(seen)

    @property
    def goal(self) -> Messages:
        return (Message("system", self._rules),) if self._rules else ()

    @property
    def observation(self) -> Messages:
        return (Message("user", self._shown),)

    def step(self, action: Message) -> Step:
        """Play one action; one that is none changes nothing and is answered with some valid ones."""
        self._said.append(action.content)
        if self._over:
            return Step(self.observation, done=True, parsed=False)
        text = action.content.strip()
        space = self._gym.action_space
        if not (text in self._numbers if self._numbers else space.contains(text)):
            valid = f" Valid are: {', '.join(self.actions()[:SHOWN])}." if self._numbers else ""
            return Step((Message("user", f"{self._shown}\n(That was no action.{valid})"),), parsed=False)
        chosen = self._numbers[text] if self._numbers else text
        seen, reward, terminated, truncated, info = self._gym.step(chosen)
        self._over, self._mask = bool(terminated or truncated), info.get("action_mask")
        self._shown = self._text(seen)
        return Step(self.observation, float(reward), self._over)

    def actions(self) -> list[str]:
        """The names of a Discrete space, those that ``info["action_mask"]`` allows; some texts of a Text space."""
        if self._numbers:
            return [name for name, number in self._numbers.items() if self._mask is None or self._mask[number]]
        space = self._gym.action_space
        space.seed(derive(int(self.task.data["seed"]), len(self._said)) % 2**31)
        return [str(space.sample()) for _ in range(3)]

    def snapshot(self) -> Any:
        return self.task, tuple(self._said)

    def close(self) -> None:
        self._gym.close()

    def _text(self, seen: Any) -> str:
        """The observation as text; rendered where it is none. Raises EnvError where neither can be had."""
        if isinstance(seen, str):
            return seen
        if isinstance(seen, Mapping) and all(isinstance(value, str) for value in seen.values()):
            return "\n".join(f"{key}: {value}" for key, value in seen.items())
        shown = self._gym.render() if self._gym.render_mode == "ansi" else None
        if not isinstance(shown, str):
            raise EnvError(
                f"env=gym: the observation is a {type(seen).__name__} and there is no rendering as text; wrap the "
                "environment so that it observes text, or has the render mode 'ansi'"
            )
        return COLOUR.sub(lambda found: "]" if found[1] in ("", "0") else "[", shown).strip()


def _numbers(space: Any, names: Sequence[str]) -> dict[str, int]:
    """Name -> number of each action of a Discrete space; nothing for a Text space. Raises ConfigError."""
    spaces = _gymnasium().spaces
    if isinstance(space, spaces.Text):
        return {}
    if not isinstance(space, spaces.Discrete):
        raise ConfigError(f"env=gym: actions are {space}, expected a Text or a Discrete space; wrap the environment")
    numbers = range(int(space.start), int(space.start + space.n))
    if names and len(names) != len(numbers):
        raise ConfigError(f"env.actions: got {len(names)} names, expected {len(numbers)}, one for each action")
    return dict(zip(names or map(str, numbers), numbers, strict=True))


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ImportError:
        raise ConfigError("env=gym: Gymnasium is not installed; install it with pip install 'agentrl[gym]'") from None
    return gymnasium
