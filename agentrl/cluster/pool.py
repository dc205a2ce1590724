"""Several workers as one engine, wherever they live: parts, deadlines, replacement, pushes and their proof.

Requests are sorted as the torch engine sorts them and cut into parts of ``part`` requests; a worker that is free takes
the next part, so a slow part holds up one worker alone. A part is computed alike wherever it is computed: any number of
workers, and a worker that takes over from one that died, give equal bits (with an engine that is itself deterministic,
as ``torch`` is; vLLM's answers depend a little on what else it is doing).

A worker that dies or does not answer within ``deadline_s`` is replaced by a new one with the same weights, and its
part is sampled again with the same seeds. Weights are packed once for all; every worker proves their arrival by itself,
and workers that disagree stop the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import torch

from agentrl.cluster.base import SILENT_S, Agency, Broken, Parcel, TransferBroken, Worker, WorkerLost
from agentrl.cluster.stream import PoolStream
from agentrl.digest import Digest, names
from agentrl.engine.base import Completion, Request, Sampling, in_parts
from agentrl.engine.checks import require_quiet
from agentrl.errors import ConfigError, EngineError
from agentrl.ranges import require_least, require_positive
from agentrl.watchdog import patience, queue

GRACE_S = 3.0  # for all workers together to end by themselves
AGREE, AGREE_LOW = 1e-4, 0.1  # largest |Δ logprob| between two workers with equal weights: in float32, in other dtypes


@dataclass(frozen=True)
class Pooled:
    """What every cluster of several workers is told."""

    workers: int
    part: int
    start_s: float
    deadline_s: float
    replacements: int

    def __post_init__(self) -> None:
        require_least(self, "cluster", workers=1, part=1, replacements=0)
        require_positive(self, "cluster", "start_s", "deadline_s")


def require_transfer(got: str, known: Sequence[str]) -> None:
    """Raises ConfigError."""
    if got not in known:
        raise ConfigError(f"cluster.transfer: got '{got}', expected one of {', '.join(known)}")


class PoolEngine:
    """An :class:`agentrl.engine.base.Engine` of many."""

    def __init__(self, agency: Agency, settings: Pooled) -> None:
        self._agency, self._settings = agency, settings
        self._parcel: Parcel | None = None
        self._version = 0
        self._losses = [0] * settings.workers  # in a row, by worker
        self._closed = False
        self._stream: PoolStream | None = None
        self.replaced = 0
        self._workers: list[Worker] = []
        self._pool = ThreadPoolExecutor(settings.workers, "worker")
        try:
            self._workers.extend(agency.hire(number) for number in range(settings.workers))
            told = [worker.ready(settings.start_s) for worker in self._workers]
        except WorkerLost as error:
            self.close()
            raise EngineError(
                f"engine: a worker {error} while it started; what it printed says more, or give it longer by "
                "cluster.start_s"
            ) from None
        except BaseException:
            self.close()
            raise
        self.dtype: torch.dtype = getattr(torch, told[0]["dtype"])
        self.adapter_only: bool = told[0]["adapter_only"]

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

    def stream(self, sampling: Sampling) -> PoolStream:
        """Requests one by one, over all workers. Raises EngineError while another stream is open."""
        self._require_quiet()
        self._stream = PoolStream(self._once, self._replace, len(self._workers), sampling)
        return self._stream

    def load(self, weights: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Hand the weights to every worker. Raises EngineError, after which no worker serves the new version."""
        self._require_quiet()
        if self._parcel is not None:
            self._parcel.drop()
        self._parcel, self._version = self._agency.transfer.pack(weights, self.dtype, version), version
        lost = self._hand_out(self._parcel)
        self._all(lambda number: self._replace(number, lost[number]) if number in lost else None)

    def checksum(self) -> Digest | None:
        """That of every worker. Raises EngineError when they differ; None where they cannot be read back."""
        found: list[Digest | None] = self._all(lambda number: self._ask(number, "checksum"))
        first = found[0]
        for number, other in enumerate(found):
            if first is not None and other is not None and other != first:
                raise EngineError(
                    f"engine: worker {number} holds other values than worker 0 in {names(other.differing(first))} at "
                    f"version {self._version} (checksums {str(other)[:12]} and {str(first)[:12]}); it would sample "
                    "from another policy. This is a bug of the engine: report it"
                )
        return first

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

    def rest(self) -> None:
        """Workers have devices of their own: nothing to give back."""

    def close(self) -> None:
        """End all workers."""
        self._closed = True  # nobody is hired from now on
        for worker in self._workers:
            worker.leave()
        until = time.monotonic() + GRACE_S
        for worker in self._workers:
            worker.kill(max(0.0, until - time.monotonic()))
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._agency.close()

    def _hand_out(self, parcel: Parcel) -> dict[int, str]:
        """Every worker takes the parcel; why those that were lost over it were. Raises EngineError."""
        version = self._version
        futures = [self._pool.submit(self._once, n, "load", parcel, version) for n in range(len(self._workers))]

        def in_vain() -> bool:
            over = [future for future in futures if future.done()]
            return len(over) == len(futures) or any(future.exception() is not None for future in over)

        why = ""
        with patience("engine", "handing the weights to the workers", self._settings.deadline_s + SILENT_S):
            try:
                parcel.send(in_vain)
            except TransferBroken as broken:
                why = str(broken)
            errors = {number: future.exception() for number, future in enumerate(futures)}
        for error in errors.values():
            if error is not None and not isinstance(error, WorkerLost):
                raise error
        lost = {number: error for number, error in errors.items() if error is not None}
        if lost and all(isinstance(error, Broken) for error in lost.values()):
            raise EngineError(
                f"engine: the weights of version {version} did not reach the workers ({why or lost.popitem()[1]}), "
                "although no worker was lost; use cluster.transfer=host"
            )
        return {number: str(error) for number, error in lost.items()}

    def _require_quiet(self) -> None:
        require_quiet(self._stream, "the workers serve")

    def _all(self, job: Callable[[int], Any]) -> list[Any]:
        """``job(k)`` for every worker, side by side; the first failure is raised when all have ended."""
        self._require_quiet()
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
                return self._once(number, what, *args)
            except WorkerLost as error:
                self._replace(number, str(error))

    def _once(self, number: int, what: str, *args: Any) -> Any:
        """Ask one worker. Raises WorkerLost, EngineError."""
        found = self._workers[number].ask(what, *args, timeout_s=self._settings.deadline_s)
        self._losses[number] = 0
        return found

    def _replace(self, number: int, why: str) -> None:
        """A new worker with the weights in use, in place of one that was lost. Raises EngineError."""
        while True:
            self._workers[number].kill()
            self._agency.transfer.changed()
            if self._closed:
                raise EngineError("engine: the workers were closed while they were asked")
            self._losses[number] += 1
            if self._losses[number] > self._settings.replacements:
                raise EngineError(
                    f"engine: worker {number} {why}; it was replaced {self._settings.replacements} times in a row. "
                    "If its parts take that long, raise cluster.deadline_s or lower cluster.part; if it runs out of "
                    "memory, lower cluster.part or engine.max_batch"
                )
            print(
                f"agentrl: rollout worker {number} {why}; a new one takes its place, its requests are sampled again "
                "with the same seeds",
                file=sys.stderr,
                flush=True,
            )
            self.replaced += 1
            worker = self._workers[number] = self._agency.hire(number)
            if self._closed:  # in the meantime
                worker.kill()
            try:
                worker.ready(self._settings.start_s)
                if self._parcel is not None:
                    parcel = self._parcel.late()
                    worker.ask("load", parcel, self._version, timeout_s=self._settings.deadline_s)
            except WorkerLost as error:
                why = str(error)
                continue
            return
