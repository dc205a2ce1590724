"""The sampling of one batch by several equal engines, in two schedules."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from agentrl.plan.profile import Batch, EngineSpeed, Numbers, Schedule, World


@dataclass(frozen=True)
class Played:
    """How the sampling of a batch went. ``busy_s``: engine-seconds of work, over all engines; ``world_s``: seconds in
    which no engine had any; ``finished``: [episodes], when each ended."""

    seconds: float
    busy_s: float
    world_s: float
    finished: Numbers


def served(seconds: Numbers, servers: int) -> Numbers:
    """When jobs that wait in line from time 0 are done, each by the first server that is free (0: as many as jobs)."""
    if servers == 1:
        return np.cumsum(seconds)
    if not servers or servers >= len(seconds):
        return seconds
    free = [0.0] * servers
    done = np.empty(len(seconds))
    for index, job in enumerate(seconds.tolist()):
        done[index] = heapq.heapreplace(free, free[0] + job) + job
    return done


def _parts(values: Numbers, size: int) -> Numbers:
    """[parts, size], filled up with zeros."""
    found = np.zeros((-(-len(values) // size), size))
    found.ravel()[: len(values)] = values
    return found


def lockstep(batch: Batch, engines: int, speed: EngineSpeed, world: World) -> Played:
    """One call per turn for all episodes still going, cut into parts that free engines take; then the environment."""
    count = len(batch.turns)
    clock = float(served(np.full(count, world.start_s), world.parallel).max())
    busy, idle = 0.0, clock
    finished = np.zeros(count)
    for turn in range(int(batch.turns.max())):
        alive = np.flatnonzero(batch.turns > turn)
        part = min(speed.part or -(-len(alive) // engines), speed.max_batch)
        calls = speed.calls(*(_parts(numbers[alive, turn], part) for numbers in (batch.read, batch.sampled)))
        clock += float(served(calls, engines).max())
        busy += float(calls.sum())
        answered = served(batch.world_s[alive, turn], world.parallel)
        finished[alive] = clock + answered
        clock += float(answered.max())
        idle += float(answered.max())
    return Played(clock, busy, idle, finished)


class _Engine:
    """Continuous batching: its rows sample side by side, a token each per iteration, and pause while it reads."""

    def __init__(self, iteration: list[float], max_batch: int, read_per_s: float) -> None:
        self.rows: list[tuple[float, int]] = []  # (the engine's token count at which it ends, episode), a heap
        self.load = 0  # rows and those that wait
        self.busy_s = 0.0
        self.stamp = 0  # events of earlier stamps are void
        self._waiting: deque[tuple[int, float, float]] = deque()
        self._tokens = 0.0  # sampled by each row that has been there all the time
        self._at = 0.0  # when that was so
        self._iteration, self._max_batch, self._read_per_s = iteration, max_batch, read_per_s

    def add(self, now: float, episode: int, read: float, sampled: float) -> None:
        self.load += 1
        self._advance(now)
        self._waiting.append((episode, read, sampled))
        self._admit()

    def ended(self, now: float) -> list[int]:
        """The episodes whose turn is sampled now, when the next of its rows ends."""
        self._advance(now)
        self._tokens = max(self._tokens, self.rows[0][0])  # but for rounding
        found = []
        while self.rows and self.rows[0][0] <= self._tokens + 1e-9:
            found.append(heapq.heappop(self.rows)[1])
        self.load -= len(found)
        self._admit()
        return found

    def next(self) -> float:
        """When its next row ends, if nothing joins before."""
        return self._at + max(0.0, self.rows[0][0] - self._tokens) * self._iteration[len(self.rows)]

    def _advance(self, now: float) -> None:
        if not self.rows:
            self._at = max(self._at, now)
        elif now > self._at:
            self._tokens += (now - self._at) / self._iteration[len(self.rows)]
            self.busy_s += now - self._at
            self._at = now

    def _admit(self) -> None:
        while self._waiting and len(self.rows) < self._max_batch:
            episode, read, sampled = self._waiting.popleft()
            self._at += read / self._read_per_s
            self.busy_s += read / self._read_per_s
            heapq.heappush(self.rows, (self._tokens + sampled, episode))


class _Flow:
    """The events of a flowing batch: an engine's next row ends, or the environment has answered an episode."""

    def __init__(self, batch: Batch, engines: int, speed: EngineSpeed, world: World) -> None:
        engines = min(engines, len(batch.turns))
        rows = np.arange(1.0, min(speed.max_batch, len(batch.turns)) + 1)
        iteration = [0.0, *speed.iteration_s(rows).tolist()]
        self._engines = [_Engine(iteration, speed.max_batch, speed.read_per_s) for _ in range(engines)]
        self._loads = [(0, number) for number in range(engines)]  # a heap; entries of another load than now are void
        self._events: list[tuple[float, int, int, int]] = []  # time, engine or -1, stamp, episode
        self._line: deque[tuple[int, float]] = deque()  # episodes that wait for the environment
        self._free = world.parallel or len(batch.turns)
        self._turns, self._turn = batch.turns.tolist(), [0] * len(batch.turns)
        self._read, self._sampled, self._world = batch.read.tolist(), batch.sampled.tolist(), batch.world_s.tolist()
        self._working = 0  # engines with rows
        self._since = 0.0  # when the last of them had none left
        self.idle_s = 0.0
        self.finished = np.zeros(len(batch.turns))
        for episode in range(len(batch.turns)):
            self._to_world(0.0, episode, world.start_s)

    @property
    def busy_s(self) -> float:
        return sum(engine.busy_s for engine in self._engines)

    def run(self) -> float:
        """Until all episodes have ended; gives the time."""
        now = 0.0
        while self._events:
            now, number, stamp, episode = heapq.heappop(self._events)
            if number < 0:
                self._answered(now, episode)
            elif self._engines[number].stamp == stamp:
                self._sampled_by(now, number)
        self.idle_s += now - self._since
        return now

    def _to_world(self, now: float, episode: int, seconds: float) -> None:
        if self._free:
            self._free -= 1
            heapq.heappush(self._events, (now + seconds, -1, 0, episode))
        else:
            self._line.append((episode, seconds))

    def _answered(self, now: float, episode: int) -> None:
        self._free += 1
        if self._line:
            self._to_world(now, *self._line.popleft())
        turn = self._turn[episode]
        if turn == self._turns[episode]:
            self.finished[episode] = now
            return
        number = self._least()
        engine = self._engines[number]
        if not engine.rows:
            self._working += 1
            if self._working == 1:
                self.idle_s += now - self._since
        engine.add(now, episode, self._read[episode][turn], self._sampled[episode][turn])
        self._plan(number)

    def _sampled_by(self, now: float, number: int) -> None:
        engine = self._engines[number]
        for episode in engine.ended(now):
            turn = self._turn[episode]
            self._turn[episode] += 1
            self._to_world(now, episode, self._world[episode][turn])
        if engine.rows:
            self._plan(number)
            return
        engine.stamp += 1
        heapq.heappush(self._loads, (0, number))
        self._working -= 1
        if not self._working:
            self._since = now

    def _plan(self, number: int) -> None:
        """Its next event, in place of the one that was planned."""
        engine = self._engines[number]
        engine.stamp += 1
        heapq.heappush(self._events, (engine.next(), number, engine.stamp, 0))
        heapq.heappush(self._loads, (engine.load, number))

    def _least(self) -> int:
        """The engine with the fewest episodes under way."""
        while self._loads[0][0] != self._engines[self._loads[0][1]].load:
            heapq.heappop(self._loads)
        return self._loads[0][1]


def flowing(batch: Batch, engines: int, speed: EngineSpeed, world: World) -> Played:
    """Each episode goes on as soon as its own environment has answered, at the engine with the fewest under way."""
    flow = _Flow(batch, engines, speed, world)
    seconds = flow.run()
    return Played(seconds, flow.busy_s, flow.idle_s, flow.finished)


#: how a batch is sampled: (batch, engines, speed, world) -> what came of it.
SCHEDULES: Mapping[Schedule, Callable[[Batch, int, EngineSpeed, World], Played]] = {
    Schedule.lockstep: lockstep,
    Schedule.flowing: flowing,
}
