"""The classic contract of the verifiers package in small, for machines without it: our own words, its names.

Only what ``tests/envs/test_verifiers.py`` plays: environments of one turn, of several and with tools, and rubrics.
"""

from __future__ import annotations

import importlib
import inspect
import json
import signal
from collections.abc import Callable, Sequence
from typing import Any

__version__ = "stand-in"


class Error(Exception):
    """What ends a rollout in order."""


class InfraError(Error):
    """Something below the environment failed."""


class ToolError(Error):
    """A call failed."""


for _kind in (Error, InfraError, ToolError):
    _kind.__module__ = "verifiers.errors"


async def _wait(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


class Rubric:
    def __init__(self, funcs: Sequence[Callable[..., Any]] = (), weights: Sequence[float] = ()) -> None:
        self.funcs, self.weights = list(funcs), list(weights) or [1.0] * len(funcs)

    async def score_rollout(self, state: Any, score_sem: Any) -> None:
        scores = []
        for function in self.funcs:
            given = {name: state.get(name) for name in inspect.signature(function).parameters if name != "state"}
            if "state" in inspect.signature(function).parameters:
                given["state"] = state
            async with score_sem:
                scores.append(float(await _wait(function(**given))))
        state["metrics"] = {function.__name__: score for function, score in zip(self.funcs, scores, strict=True)}
        state["reward"] = sum(weight * score for weight, score in zip(self.weights, scores, strict=True))


class MultiTurnEnv:
    oai_tools: Sequence[Any] = ()

    def __init__(
        self,
        dataset: Any = None,
        eval_dataset: Any = None,
        rubric: Any = None,
        system_prompt: str = "",
        max_turns: int = -1,
    ) -> None:
        self.rubric, self.max_turns = rubric or Rubric(), max_turns
        self.dataset, self.eval_dataset = (self._rows(rows, system_prompt) for rows in (dataset, eval_dataset))
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _rows(self, rows: Any, system: str) -> Any:
        opening = [{"role": "system", "content": system}] if system else []
        return rows and [
            {**row, "example_id": number, "prompt": [*opening, {"role": "user", "content": row["question"]}]}
            for number, row in enumerate(rows)
        ]

    async def init_state(self, row: Any, client: Any, model: str, sampling_args: Any = None) -> dict[str, Any]:
        return {**row, "trajectory": [], "trajectory_id": "x", "error": None, "oai_tools": self.oai_tools}

    async def setup_state(self, state: Any) -> Any:
        return state

    async def is_completed(self, state: Any) -> bool:
        over = state["error"] is not None or state.get("final_env_response") is not None
        state["is_completed"] = over or 0 < self.max_turns <= len(state["trajectory"])
        return bool(state["is_completed"])

    async def get_prompt_messages(self, state: Any) -> Any:
        if not state["trajectory"]:
            return state["prompt"]
        messages = [*state["trajectory"][-1]["prompt"], *state["trajectory"][-1]["completion"]]
        return [*messages, *await self.env_response(messages, state)]  # type: ignore[attr-defined]

    async def add_trajectory_step(self, state: Any, step: Any) -> None:
        state["trajectory"].append(step)

    async def render_completion(self, state: Any) -> None:
        last = state["trajectory"][-1]
        said = [*last["prompt"], *last["completion"], *(state.get("final_env_response") or ())]
        state["completion"] = said[len(state["prompt"]) :]


class SingleTurnEnv(MultiTurnEnv):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_turns=1, **kwargs)


def _schema(name: str, tool: Callable[..., Any]) -> dict[str, Any]:
    properties = {key: {"type": "integer"} for key in inspect.signature(tool).parameters}
    function = {"name": name, "description": tool.__doc__, "parameters": {"type": "object", "properties": properties}}
    return {"type": "function", "function": function}


class ToolEnv(MultiTurnEnv):
    def __init__(self, tools: Sequence[Callable[..., Any]], max_turns: int = 10, **kwargs: Any) -> None:
        super().__init__(max_turns=max_turns, **kwargs)
        self.tool_map = {tool.__name__: tool for tool in tools}
        self.oai_tools = [_schema(name, tool) for name, tool in self.tool_map.items()]

    async def is_completed(self, state: Any) -> bool:
        called = not state["trajectory"] or state["trajectory"][-1]["completion"][-1].get("tool_calls")
        state["is_completed"] = await super().is_completed(state) or not called
        return bool(state["is_completed"])

    async def env_response(self, messages: Any, state: Any) -> Any:
        found = []
        for call in messages[-1]["tool_calls"]:
            try:
                given = json.loads(call["function"]["arguments"])
                told = str(await _wait(self.tool_map[call["function"]["name"]](**given)))
            except Exception as error:
                told = str(error)
            found.append({"role": "tool", "content": told, "tool_call_id": call["id"]})
        return found


def load_environment(env_id: str, **kwargs: Any) -> Any:
    return importlib.import_module(env_id.replace("-", "_")).load_environment(**kwargs)
