"""One rollout of an environment of the verifiers package, whose every turn is ours to make.

The package's own ``rollout`` asks a model for each turn. Here the same methods of the environment are called in the
same order (``init_state``, ``setup_state``, then at each turn ``is_completed``, ``get_prompt_messages``,
``add_trajectory_step``, at the end ``render_completion`` and the rubric), so what an environment overrides holds.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

from agentrl import toolcalls
from agentrl.envs.base import Step
from agentrl.envs.verifiers.messages import field, ours, theirs, tools
from agentrl.envs.verifiers.own_loop import OwnLoop
from agentrl.errors import AgentRLError, EnvError
from agentrl.types import Message, Messages, Task


class VerifiersEpisode:
    """One play. ``max_turns``: actions after which it is over and scored, if the environment did not end it before."""

    def __init__(
        self, env: Any, row: Mapping[str, Any], task: Task, loop: OwnLoop, timeout_s: float, max_turns: int
    ) -> None:
        self.task = task
        self.said: list[Message] = []
        self._whole = env  # its rubric scores; of a group of environments, one plays
        self._env = _player(env, row)
        self._loop, self._timeout_s, self._max_turns = loop, timeout_s, max_turns
        self._state: Any = None
        self._prompt: Sequence[Any] = ()
        self._over = self._cleaned = False
        self._play(self._begin(row))
        if self._over:
            raise EnvError(f"env=verifiers: task {task.id} is over before the first turn{self._wrong()}")
        self._shown = ours(self._prompt)
        self._first = self._shown
        self.tools = tools(self._state)

    @property
    def goal(self) -> Messages:
        """Everything of the prompt but its last message: system rules, examples."""
        return self._first[:-1]

    @property
    def observation(self) -> Messages:
        return self._first[-1:]

    def step(self, action: Message) -> Step:
        """Play one message; at the end ``info`` holds ``reward_parts`` (each weighted score), ``metrics`` (each score),
        ``stopped`` (the stop condition) and the environment's ``error``, if it had one that the policy caused."""
        self.said.append(action)
        if self._over:
            return Step((), done=True, parsed=False)
        malformed = toolcalls.read(action.content).malformed if self.tools else 0
        self._play(self._turn(theirs(action, self._prompt, len(self.said), bool(self.tools))))
        if self._over:
            return self._end(not malformed)
        before, self._shown = self._shown, ours(self._prompt)
        if self._shown[: len(before)] != before:
            raise EnvError(
                f"env=verifiers: {type(self._env).__name__} rewrites the conversation between turns; expected each "
                "prompt to begin with the one before it"
            )
        return Step(self._shown[len(before) + 1 :], parsed=not malformed)

    def actions(self) -> list[str]:
        """None are known: anything may be said."""
        return []

    def snapshot(self) -> Any:
        return self.task, tuple(self.said)

    def close(self) -> None:
        """Let the environment free what an unfinished rollout holds."""
        if not self._cleaned and not self._loop.held:
            self._play(self._clean())

    async def _begin(self, row: Mapping[str, Any]) -> None:
        state = await self._env.init_state(deepcopy(dict(row)), _no_client(type(self._env)), "policy", None)
        self._state = state
        try:
            self._state = await self._env.setup_state(state) or state
        except Exception as error:
            self._remember(error)
        await self._next()

    async def _turn(self, said: Any) -> None:
        state = self._state
        step = {
            "prompt": self._prompt, "completion": [said], "response": None, "tokens": None, "reward": None,
            "advantage": None, "is_truncated": False, "trajectory_id": field(state, "trajectory_id"), "extras": {},
        }  # fmt: skip
        await self._env.add_trajectory_step(state, step)
        await self._next()
        if not self._over and len(self.said) >= self._max_turns:
            self._over = True
        if self._over:
            await self._finish()

    async def _next(self) -> None:
        """The next prompt, or the end."""
        state = self._state
        self._over = await self._env.is_completed(state)
        if self._over:
            return
        if state.get("trajectory") and len(self.said) >= self._max_turns:
            return  # nobody would read what the environment says now
        try:
            self._prompt = await self._env.get_prompt_messages(state)
        except Exception as error:
            self._remember(error)
        if state.get("error") is not None or state.get("final_env_response") is not None:
            self._over = await self._env.is_completed(state)

    async def _finish(self) -> None:
        """As the package does it: the completion, cleaning up, the rubric."""
        await self._env.render_completion(self._state)
        await self._clean()
        error = self._state.get("error")
        if error is not None and not _caused_by_policy(error):
            return
        score = self._whole.rubric.score_rollout
        if "score_sem" in inspect.signature(score).parameters:
            await score(self._state, score_sem=nullcontext())
        else:
            await score(self._state)

    async def _clean(self) -> None:
        """Once: up to 0.1.9 ``is_completed`` does it when it says so, later nobody but the caller."""
        if self._cleaned:
            return
        self._cleaned = True
        if hasattr(self._env, "cleanup"):
            await self._env.cleanup(self._state)
        elif not self._state.get("is_completed") and hasattr(self._env, "_cleanup"):
            await self._env._cleanup(self._state)

    def _end(self, parsed: bool) -> Step:
        state = self._state
        error = state.get("error")
        if error is not None and not _caused_by_policy(error):
            raise EnvError(f"env=verifiers: the environment failed{self._wrong()}")
        reward = state["reward"]
        metrics = {str(name): float(value) for name, value in (state.get("metrics") or {}).items()}
        if not isinstance(reward, int | float) or not math.isfinite(reward):
            raise EnvError(f"env=verifiers: the rubric says {reward!r}; expected a finite number")
        inner = getattr(self._env, "rubric", self._whole.rubric)
        parts = {name: weight * metrics[name] for name, weight in _weights(inner) if weight and name in metrics}
        rest = float(reward) - sum(parts.values())
        info: dict[str, Any] = {
            "reward_parts": parts | ({"rest": rest} if abs(rest) > 1e-6 else {}),
            "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
            "stopped": str(state.get("stop_condition") or "max_turns"),
        }
        told = {"error": self._wrong().removeprefix(": ")} if error is not None else {}
        final = state.get("final_env_response")
        return Step(ours(final) if final else (), float(reward), True, parsed, {**info, **told})

    def _remember(self, error: Exception) -> None:
        """An error of the package's own kind ends a rollout in order. Raises any other."""
        if not any(kind.__module__ == "verifiers.errors" for kind in type(error).__mro__):
            raise error
        self._state["error"] = error

    def _wrong(self) -> str:
        error = self._state.get("error")
        cause = getattr(error, "__cause__", None) or error
        return f": {type(error).__name__} ({cause})" if error is not None else ""

    def _play(self, work: Any) -> None:
        """Run a coroutine on the environment's loop. Raises EnvError, whatever the environment raises."""
        try:
            self._loop.run(work, self._timeout_s, f"env=verifiers: a turn of {type(self._env).__name__}")
        except AgentRLError:
            raise
        except Exception as error:  # of somebody else's code
            told = f"{type(error).__name__} ({' '.join(str(error).split())})"
            raise EnvError(f"env=verifiers: {type(self._env).__name__} raised {told}") from error


def _player(env: Any, row: Mapping[str, Any]) -> Any:
    """Of a group of environments the one that plays a row: by its task (up to 0.1.9), later by ``info["env_id"]``."""
    if hasattr(env, "get_env_for_task"):
        return env.get_env_for_task(row.get("task"))
    if not hasattr(env, "env_map"):
        return env
    info = row.get("info") or {}
    name = (json.loads(info) if isinstance(info, str) else info).get("env_id")
    if not isinstance(name, str) or name not in env.env_map:
        raise EnvError(f"env=verifiers: a row is of {name!r}; expected one of {', '.join(env.env_map)}")
    return env.env_map[name]


def _caused_by_policy(error: Any) -> bool:
    """Errors of tools come from a call; others from what lies below the environment."""
    return any(kind.__name__ == "ToolError" for kind in type(error).__mro__)


def _weights(rubric: Any) -> Iterator[tuple[str, float]]:
    """Name and weight of each reward function, those of a group of rubrics included."""
    for inner in getattr(rubric, "rubrics", ()):
        yield from _weights(inner)
    for function, weight in zip(getattr(rubric, "funcs", ()), getattr(rubric, "weights", ()), strict=False):
        yield str(getattr(function, "__name__", function)), float(weight)


def _no_client(kind: type) -> Any:
    """A client that is never asked: nothing up to 0.1.9, later an instance of the package's own class is demanded."""
    found = getattr(inspect.getmodule(kind.init_state), "Client", None) if hasattr(kind, "init_state") else None
    if found is None:
        return None
    return type("NoClient", (found,), dict.fromkeys(getattr(found, "__abstractmethods__", ())))(None)
