"""Processes of this machine that live for one function each (an :class:`agentrl.cluster.base.Hands`)."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from typing import Any

import torch

from agentrl.errors import ConfigError

HERE = "127.0.0.1"
LEAVING_S = 5.0  # processes may take so long to end by themselves
PRELOAD = ("agentrl.engine.torch_engine", "transformers", "transformers.models.auto.modeling_auto")


class Forks:
    """``count`` of them; process N computes on GPU N of this machine. Raises ConfigError where there are fewer."""

    host = HERE

    def __init__(self, count: int, kind: str) -> None:
        there = torch.cuda.device_count() if kind == "cuda" else count + 1
        if count >= there:
            raise ConfigError(
                f"parallel.processes: got {count + 1}, but PyTorch sees {there} GPU(s) here and each process needs its "
                "own; ask for fewer, or have processes on several machines with cluster=ray or torchrun "
                "(docs/cluster.md)"
            )
        self._hired: list[Any] = []

    def gpu(self, number: int) -> int:
        return number

    def hire(self, life: Callable[[Any], None], given: Sequence[Any]) -> None:
        """From a server that has imported what they need, once for all."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOAD, life.__module__])
        for number, one in enumerate(given, 1):
            process = context.Process(target=life, args=(one,), name=f"learner {number}")
            self._hired.append(process)
            process.start()

    def end(self, number: int, wait_s: float) -> str:
        process = self._hired[number - 1]
        process.join(wait_s)
        return "" if process.exitcode is None else ended(process.exitcode)

    def help(self) -> str:
        return "see what they say above"

    def leave(self) -> None:
        for process in self._hired:
            process.join(LEAVING_S)
            process.kill()
            process.join(LEAVING_S)

    def kill(self) -> None:
        for process in self._hired:
            if process.pid is not None:
                process.kill()


def ended(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"
