"""Requests that come and go one by one over several workers: balanced, dropped for good, never lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from agentrl.cluster.base import WorkerLost
from agentrl.cluster.pool import Pooled, PoolEngine
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.errors import EngineError

SAMPLING = Sampling(1.0, (3,))


class FakeWorker:
    """Finishes a request when the test lets it; its answer is made from the seed alone."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.held: dict[int, Request] = {}
        self.seen: list[int] = []  # seeds that it was told of
        self.forgotten: list[int] = []  # seeds of dropped requests
        self.free: set[int] = set()  # seeds that may finish
        self.all_free = self.lost = self.closed = self.failing = False

    def ready(self, timeout_s: float) -> dict[str, Any]:
        return {"dtype": "float32", "adapter_only": False}

    def ask(self, what: str, *args: Any, timeout_s: float) -> Any:
        if self.lost:
            raise WorkerLost("was lost by hand")
        if self.failing:
            raise EngineError("engine: failed by hand")
        return getattr(self, f"_{what}")(*args)

    def leave(self) -> None: ...

    def kill(self, grace_s: float = 0.0) -> None:
        self.lost = True

    def _advance(self, sampling: Sampling, new: Any, dropped: Any, wait_s: float) -> list[tuple[int, Completion]]:
        assert sampling == SAMPLING
        self.held |= dict(new)
        self.seen += [request.seed for _, request in new]
        self.forgotten += [self.held.pop(ticket).seed for ticket in dropped]
        time.sleep(0.002)
        done = [ticket for ticket, request in self.held.items() if self.all_free or request.seed in self.free]
        return [(ticket, answer(self.held.pop(ticket))) for ticket in done]

    def _close_stream(self) -> None:
        self.closed = True

    def _load(self, parcel: Any, version: int) -> None: ...

    def _generate(self, requests: list[Request], sampling: Sampling) -> list[Completion]:
        return [answer(request) for request in requests]


class FakeTransfer:
    """Brings nothing, and counts the new workers."""

    def __init__(self) -> None:
        self.new = 0

    def pack(self, weights: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype, version: int) -> Any:
        raise NotImplementedError

    def changed(self) -> None:
        self.new += 1

    def close(self) -> None: ...


class FakeAgency:
    def __init__(self) -> None:
        self.hired: list[FakeWorker] = []
        self.transfer = FakeTransfer()

    def hire(self, number: int) -> FakeWorker:
        self.hired.append(FakeWorker(number))
        return self.hired[-1]

    def close(self) -> None: ...


def answer(request: Request) -> Completion:
    return Completion((request.seed % 7,), (-float(request.seed),), "length", 0)


def asked(seed: int) -> Request:
    return Request((1, 2), seed, 4)


@contextmanager
def pool(workers: int) -> Iterator[tuple[PoolEngine, FakeAgency]]:
    agency, before = FakeAgency(), threading.enumerate()
    engine = PoolEngine(agency, Pooled(workers, 4, 10.0, 10.0, 2))
    yield engine, agency
    engine.close()
    left = [
        thread for thread in threading.enumerate() if thread not in before
    ]  # multiprocessing may have a "_serve", too
    assert not [thread for thread in left if "_serve" in thread.name]


def soon(told: Any) -> None:
    until = time.monotonic() + 20.0
    while not told():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.001)


def drain(stream: Any, count: int) -> dict[int, Completion]:
    found: dict[int, Completion] = {}
    soon(lambda: found.update(stream.advance((), wait_s=0.01)) or len(found) >= count)
    return found


def test_everything_asked_is_answered_once() -> None:
    with pool(3) as (engine, agency):
        stream = engine.stream(SAMPLING)
        for worker in agency.hired:
            worker.all_free = True
        found: dict[int, Completion] = {}
        for key in range(50):
            for name, completion in stream.advance([(key, asked(1000 + key))], wait_s=0.0):
                assert name not in found
                found[name] = completion
        found |= drain(stream, 50 - len(found))
        assert found == {key: answer(asked(1000 + key)) for key in range(50)}
        assert stream.advance((), wait_s=0.0) == []
        stream.close()
        assert all(worker.closed for worker in agency.hired)


def test_a_new_request_goes_where_the_fewest_are_under_way() -> None:
    with pool(2) as (engine, agency):
        stream = engine.stream(SAMPLING)
        stream.advance([(key, asked(key)) for key in range(4)], wait_s=0.0)
        soon(lambda: [sorted(worker.seen) for worker in agency.hired] == [[0, 2], [1, 3]])
        agency.hired[1].all_free = True  # a quick worker gets more
        drain(stream, 2)
        stream.advance([(4, asked(4))], wait_s=0.0)
        soon(lambda: agency.hired[1].seen == [1, 3, 4])
        stream.close()


def test_dropped_requests_never_come_back() -> None:
    """Dropped while the worker has it, when it is finished but not fetched, and under a key that is used again."""
    with pool(1) as (engine, agency):
        stream, worker = engine.stream(SAMPLING), agency.hired[0]
        stream.advance([(0, asked(10)), (1, asked(11))], wait_s=0.0)
        soon(lambda: worker.seen == [10, 11])
        stream.advance([(0, asked(20))], dropped=[0], wait_s=0.0)
        soon(lambda: worker.forgotten == [10])
        worker.free |= {10, 11, 20}
        assert drain(stream, 2) == {0: answer(asked(20)), 1: answer(asked(11))}
        stream.advance([(5, asked(30))], wait_s=0.0)
        worker.free.add(30)
        soon(lambda: 5 in stream._finished)
        assert stream.advance((), dropped=[5, 99], wait_s=0.0) == []
        with pytest.raises(EngineError, match="under the key 7 of another one"):
            stream.advance([(7, asked(1)), (7, asked(2))])
        stream.close()


def test_what_a_lost_worker_had_is_sampled_by_the_next(capfd: pytest.CaptureFixture[str]) -> None:
    with pool(2) as (engine, agency):
        stream = engine.stream(SAMPLING)
        stream.advance([(key, asked(key)) for key in range(6)], wait_s=0.0)
        first, second = agency.hired
        soon(lambda: len(first.seen) == len(second.seen) == 3)
        second.free.add(1)  # finished before the loss: not sampled again
        found = drain(stream, 1)
        stream.advance((), dropped=[3], wait_s=0.0)
        soon(lambda: second.forgotten == [3])
        second.lost = True
        soon(lambda: len(agency.hired) == 3 and agency.hired[2].seen)
        assert agency.hired[2].seen == [5]
        first.all_free = agency.hired[2].all_free = True
        found |= drain(stream, 4)
        assert found == {key: answer(asked(key)) for key in (0, 1, 2, 4, 5)}
        assert engine.replaced == 1
        stream.close()
    assert "worker 1 was lost by hand; a new one takes its place" in capfd.readouterr().err


def test_errors_reach_the_caller() -> None:
    with pool(2) as (engine, agency):
        stream = engine.stream(SAMPLING)
        agency.hired[1].failing = True
        stream.advance([(0, asked(0))], wait_s=0.0)  # goes to the other one
        with pytest.raises(EngineError, match="failed by hand"):
            stream.advance([(1, asked(1))], wait_s=20.0)
        stream.close()


def test_who_is_asked_while_the_pool_is_closed_is_not_replaced() -> None:
    """As after a second Ctrl-C: threads that find their workers lost hire nobody."""
    with pool(2) as (engine, agency):
        stream = engine.stream(SAMPLING)
        stream.advance([(key, asked(key)) for key in range(4)], wait_s=0.0)
        soon(lambda: all(worker.seen for worker in agency.hired))
        engine.close()
        with pytest.raises(EngineError, match="closed while they were asked"):
            stream.advance((), wait_s=20.0)
        stream.close()
        assert len(agency.hired) == 2


def test_one_thing_at_a_time() -> None:
    with pool(2) as (engine, _):
        stream = engine.stream(SAMPLING)
        for forbidden in (
            lambda: engine.generate([asked(1)], SAMPLING),
            lambda: engine.load([], 1),
            lambda: engine.stream(SAMPLING),
        ):
            with pytest.raises(EngineError, match="serve a stream of requests; close it"):
                forbidden()
        stream.close()
        assert engine.generate([asked(1)], SAMPLING) == [answer(asked(1))]
        engine.stream(SAMPLING).close()
