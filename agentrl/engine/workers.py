"""Several rollout workers as one engine: each an engine of its own in a process of its own, on a GPU or some cores of
its own.

Requests are sorted as the torch engine sorts them and cut into parts of ``part`` requests; a worker that is free takes
the next part, so a slow part holds up one worker alone. A part is computed alike wherever it is computed: any number of
workers, and a worker that takes over from one that died, give equal bits (with an engine that is itself deterministic,
as ``torch`` is; vLLM's answers depend a little on what else it is doing).

A worker that dies or does not answer within ``deadline_s`` is replaced by a new one with the same weights, and its
part is sampled again with the same seeds. Weights go to the workers as one file, in memory where the machine allows it;
every worker proves their arrival by itself, and workers that disagree stop the run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch

from agentrl.device import resolve_device
from agentrl.engine.base import Completion, Request, Sampling, in_parts
from agentrl.engine.worker import Worker, WorkerLost, shared_folder
from agentrl.errors import ConfigError, EngineError
from agentrl.watchdog import queue, scratch

AGREE, AGREE_LOW = 1e-4, 0.1  # largest |Δ logprob| between two workers with equal weights: in float32, in other dtypes


@dataclass(frozen=True)
class Workers:
    """The schema of conf/engine/workers.yaml. ``each``: the engine of a worker, one of conf/engine."""

    each: Any
    workers: int
    part: int
    threads: int
    devices: list[str]
    start_s: float
    deadline_s: float
    replacements: int

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("part", 1), ("threads", 0), ("replacements", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"engine.{name}: got {getattr(self, name)}, expected at least {least}")
        for name in ("start_s", "deadline_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"engine.{name}: got {getattr(self, name):g}, expected seconds above 0")
        if not hasattr(self.each, "start"):
            raise ConfigError("engine.each: it is no engine; choose engine@engine.each=torch or vllm")
        if self.devices and len(self.devices) != self.workers:
            raise ConfigError(
                f"engine.devices: got {len(self.devices)} for {self.workers} workers, expected one each (as cuda:1) "
                "or none"
            )

    def start(self, source: Any, device: str) -> WorkersEngine:
        """All workers, up and equal. Raises ConfigError, EngineError."""

        def hire(number: int) -> Worker:
            where = self._where(number, device)
            env = {"OMP_NUM_THREADS": str(self.threads or max(1, (os.cpu_count() or 1) // self.workers))}
            if where.startswith("cuda:"):  # the worker sees this GPU alone
                env["CUDA_VISIBLE_DEVICES"], where = where.removeprefix("cuda:"), "cuda:0"
            return Worker(self.each, source, where, env)

        return WorkersEngine(hire, self)

    def _where(self, number: int, device: str) -> str:
        """The device of a worker: as listed, else the GPUs of this machine in turn."""
        if self.devices:
            return self.devices[number]
        if resolve_device(device).type == "cpu":
            return "cpu"
        return f"cuda:{number % torch.cuda.device_count()}"


class WorkersEngine:
    """An :class:`agentrl.engine.base.Engine` of many. ``hire`` starts worker k."""

    def __init__(self, hire: Callable[[int], Worker], settings: Workers) -> None:
        self._hire, self._settings = hire, settings
        self._folder = Path(tempfile.mkdtemp(prefix="agentrl-weights-", dir=shared_folder()))
        scratch(self._folder)
        self._weights: Path | None = None
        self._version = 0
        self._losses = [0] * settings.workers  # in a row, by worker
        self.replaced = 0
        self._workers = [hire(number) for number in range(settings.workers)]
        self._pool = ThreadPoolExecutor(settings.workers, "worker")
        try:
            told = [worker.ready(settings.start_s) for worker in self._workers]
        except WorkerLost as error:
            self.close()
            raise EngineError(
                f"engine: a worker {error} while it started; see its words above, or give it longer by engine.start_s"
            ) from None
        except BaseException:
            self.close()
            raise
        self.dtype: torch.dtype = getattr(torch, told[0]["dtype"])

    @property
    def version(self) -> int:
        return self._version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt; answers in the order of the requests. Raises EngineError."""
        parts: SimpleQueue[list[int]] = SimpleQueue()
        for part in in_parts(requests, self._settings.part):
            parts.put(part)
        found: dict[int, Completion] = {}

        def work(number: int) -> None:
            while True:
                try:
                    part = parts.get_nowait()
                except Empty:
                    return
                answers = self._ask(number, "generate", [requests[i] for i in part], sampling)
                found.update(zip(part, answers, strict=True))

        with queue("rollout workers", lambda: f"{len(found)} of {len(requests)} answered, {parts.qsize()} parts wait"):
            self._all(work)
        return [found[i] for i in range(len(requests))]

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Hand the weights to every worker. Raises EngineError, after which no worker serves the new version."""
        path = self._folder / f"{version}.pt"
        draft = path.with_suffix(".draft")
        torch.save({name: tensor.detach().to("cpu", self.dtype) for name, tensor in weights}, draft)
        draft.rename(path)
        self._all(lambda number: self._ask(number, "load", str(path), version))
        if self._weights is not None and self._weights != path:
            self._weights.unlink(missing_ok=True)
        self._weights, self._version = path, version  # what a worker that is hired from now on begins with

    def checksum(self) -> str | None:
        """That of every worker. Raises EngineError when they differ; None where they cannot be read back."""
        found = self._all(lambda number: self._ask(number, "checksum"))
        if len(set(found)) > 1:
            odd = next(number for number, one in enumerate(found) if one != found[0])
            raise EngineError(
                f"engine: worker {odd} holds other weights than worker 0 at version {self._version} (checksums "
                f"{str(found[odd])[:12]} and {str(found[0])[:12]}); it would sample from another policy. This is a bug "
                "of the engine: report it"
            )
        one: str | None = found[0]
        return one

    def logprobs(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Untempered logprobs of every token but the first of each sequence, by every worker.

        Raises EngineError when workers disagree.
        """
        found = self._all(lambda number: self._ask(number, "logprobs", sequences))
        limit = AGREE if self.dtype == torch.float32 else AGREE_LOW
        for number, theirs in enumerate(found):
            pairs = [pair for a, b in zip(theirs, found[0], strict=True) for pair in zip(a, b, strict=True)]
            gap = max((abs(a - b) for a, b in pairs), default=0.0)
            if not gap <= limit:
                raise EngineError(
                    f"engine: workers {number} and 0 disagree by {gap:.2e} in the logprob of a token at version "
                    f"{self._version}, expected at most {limit:.0e}; one of them holds other weights"
                )
        first: list[list[float]] = found[0]
        return first

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.kill()
        self._pool.shutdown(wait=False)
        shutil.rmtree(self._folder, ignore_errors=True)
        scratch(self._folder, made=False)

    def _all(self, job: Callable[[int], Any]) -> list[Any]:
        """``job(k)`` for every worker, side by side; the first failure is raised when all have ended."""
        futures = [self._pool.submit(job, number) for number in range(len(self._workers))]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error
        return [future.result() for future in futures]

    def _ask(self, number: int, what: str, *args: Any) -> Any:
        """Ask one worker; while it gets lost, replace it and ask again. Raises EngineError."""
        while True:
            try:
                found = self._workers[number].ask(what, *args, timeout_s=self._settings.deadline_s)
            except WorkerLost as error:
                self._replace(number, str(error))
                continue
            self._losses[number] = 0
            return found

    def _replace(self, number: int, why: str) -> None:
        """A new worker with the weights in use, in place of one that was lost. Raises EngineError."""
        while True:
            self._workers[number].kill()
            self._losses[number] += 1
            if self._losses[number] > self._settings.replacements:
                raise EngineError(
                    f"engine: worker {number} {why}; it was replaced {self._settings.replacements} times in a row. "
                    "If its parts take that long, raise engine.deadline_s or lower engine.part; if it runs out of "
                    "memory, lower engine.part or the engine's own max_batch"
                )
            print(
                f"agentrl: rollout worker {number} {why}; a new one takes its place, its requests are sampled again "
                "with the same seeds",
                file=sys.stderr,
                flush=True,
            )
            self.replaced += 1
            worker = self._hire(number)
            self._workers[number] = worker
            try:
                worker.ready(self._settings.start_s)
                if self._weights is not None:
                    worker.ask("load", str(self._weights), self._version, timeout_s=self._settings.deadline_s)
            except WorkerLost as error:
                why = str(error)
                continue
            return
