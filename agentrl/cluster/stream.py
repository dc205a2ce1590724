"""Requests that come and go one by one, over several workers.

Each worker has a thread that keeps asking it for what it has finished, so that no worker waits for another. A new
request goes to the worker with the fewest under way. What a lost worker had under way is sampled again by the one that
takes its place, with the same seeds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from agentrl.cluster.base import WorkerLost
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.errors import EngineError

WAIT_S = 0.05  # a worker answers at the latest so long after the step that it is in: new requests wait no longer

Ask = Callable[..., Any]  # (worker, what, *args): its answer. Raises WorkerLost, EngineError
Replace = Callable[[int, str], None]  # (worker, why): another one in its place. Raises EngineError


class Lane:
    """The requests of one worker, by ticket: numbers that are never used twice, whatever the caller's keys are."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.new: dict[int, Request] = {}
        self.under_way: dict[int, Request] = {}
        self.dropped: list[int] = []

    def __len__(self) -> int:
        return len(self.new) + len(self.under_way)

    def drop(self, ticket: int) -> None:
        """Forget one request, wherever it is."""
        if self.new.pop(ticket, None) is None and self.under_way.pop(ticket, None) is not None:
            self.dropped.append(ticket)

    def take(self) -> tuple[list[tuple[int, Request]], list[int]]:
        """What the worker is to be told."""
        new, dropped = list(self.new.items()), self.dropped
        self.under_way.update(self.new)
        self.new, self.dropped = {}, []
        return new, dropped

    def again(self) -> None:
        """The worker was lost: all that it had is new to the next one."""
        self.new = self.under_way | self.new
        self.under_way, self.dropped = {}, []


class PoolStream:
    """An :class:`agentrl.engine.base.Stream` over ``workers`` workers."""

    def __init__(self, ask: Ask, replace: Replace, workers: int, sampling: Sampling) -> None:
        self._ask, self._replace, self._sampling = ask, replace, sampling
        self._changed = threading.Condition()  # guards all that follows
        self._lanes = [Lane(number) for number in range(workers)]
        self._tickets = count()
        self._where: dict[int, tuple[Lane, int]] = {}  # key -> lane and ticket
        self._keys: dict[int, int] = {}  # ticket -> key
        self._finished: dict[int, Completion] = {}
        self._error: BaseException | None = None
        self.closed = False
        self._threads = [threading.Thread(target=self._serve, args=(lane,), daemon=True) for lane in self._lanes]
        for thread in self._threads:
            thread.start()

    def advance(
        self, new: Sequence[tuple[int, Request]], dropped: Sequence[int] = (), wait_s: float = 0.05
    ) -> list[tuple[int, Completion]]:
        """See :class:`agentrl.engine.base.Stream`. Raises EngineError, also what went wrong since the last call."""
        with self._changed:
            for key in dropped:
                self._drop(key)
            for key, request in new:
                self._add(key, request)
            self._changed.notify_all()
            if self._where:
                self._changed.wait_for(lambda: self._finished or self._error, wait_s)
            if self._error is not None:
                raise self._error
            found, self._finished = self._finished, {}
            return list(found.items())

    def close(self) -> None:
        """Forget what is still under way; workers are free when it returns."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _add(self, key: int, request: Request) -> None:
        if key in self._where or key in self._finished:
            raise EngineError(f"engine: a request came under the key {key} of another one that is still under way")
        lane, ticket = min(self._lanes, key=len), next(self._tickets)
        lane.new[ticket] = request
        self._where[key], self._keys[ticket] = (lane, ticket), key

    def _drop(self, key: int) -> None:
        self._finished.pop(key, None)
        if key in self._where:
            lane, ticket = self._where.pop(key)
            del self._keys[ticket]
            lane.drop(ticket)

    def _serve(self, lane: Lane) -> None:
        """The life of a lane's thread."""
        try:
            while self._wanted(lane):
                try:
                    self._turn(lane)
                except WorkerLost as error:
                    with self._changed:
                        lane.again()
                    self._replace(lane.number, str(error))
            self._ask(lane.number, "close_stream")
        except WorkerLost as error:  # at the very end: the next thing that is asked finds a new one
            with suppress(EngineError):
                self._replace(lane.number, str(error))
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _wanted(self, lane: Lane) -> bool:
        """Wait for something to do; False when the stream is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(lane) or lane.dropped or self.closed)
            return not self.closed

    def _turn(self, lane: Lane) -> None:
        """Ask a worker once. Raises WorkerLost, EngineError."""
        with self._changed:
            new, dropped = lane.take()
        answers = self._ask(lane.number, "advance", self._sampling, new, dropped, WAIT_S)
        with self._changed:
            for ticket, completion in answers:
                if lane.under_way.pop(ticket, None) is not None:  # else it was dropped in the meantime
                    key = self._keys.pop(ticket)
                    del self._where[key]
                    self._finished[key] = completion
            self._changed.notify_all()
