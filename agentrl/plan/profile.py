"""What the simulation is given: how long episodes are and how fast each part of the loop works.

Legend: a *batch* is what one push of weights plays, ``tasks_per_step`` x ``group_size`` episodes. *Reading* is the
prefill of a prompt, *sampling* the decoding of an action. An *iteration* samples one token for every sequence an engine
decodes at once (its *rows*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


class Schedule(StrEnum):
    """All plays wait for each other at every turn, or each goes on when its own environment has answered."""

    lockstep = auto()
    flowing = auto()


class Placement(StrEnum):
    """All GPUs sample, then all learn; or some only sample and the others only learn."""

    colocated = auto()
    separate = auto()


def require(**bounds: tuple[float, float]) -> None:
    """Raise ValueError naming the first value (value, least) that lies below its least."""
    for name, (value, least) in bounds.items():
        if not value >= least:
            raise ValueError(f"{name}: got {value:g}, expected at least {least:g}")


@dataclass(frozen=True)
class Spread:
    """A lognormal quantity: its ``mean``, its ``cv`` (standard deviation / mean; the weight of its tail, 0 = always the
    mean), and the ``most`` that it is cut at (0 = no limit)."""

    mean: float
    cv: float
    most: float

    def __post_init__(self) -> None:
        require(mean=(self.mean, 0), cv=(self.cv, 0), most=(self.most, 0))

    def draw(self, rng: np.random.Generator, shape: Any) -> Numbers:
        """Independent values of this shape."""
        if not self.mean:
            return np.zeros(shape)
        sigma = math.sqrt(math.log1p(self.cv**2))
        found = rng.lognormal(math.log(self.mean) - sigma**2 / 2, sigma, shape)
        cut: Numbers = np.minimum(found, self.most) if self.most else found
        return cut


@dataclass(frozen=True)
class Batch:
    """The episodes of one batch. ``turns``: [episodes]; the others [episodes, turns], of no meaning beyond an episode's
    turns: ``read`` (prompt tokens), ``sampled`` (tokens), ``world_s`` (seconds of the environment after the turn)."""

    turns: NDArray[np.int64]
    read: Numbers
    sampled: Numbers
    world_s: Numbers

    @property
    def played(self) -> NDArray[np.bool_]:
        """[episodes, turns]: which turns take place."""
        mask: NDArray[np.bool_] = np.arange(self.read.shape[1]) < self.turns[:, None]
        return mask

    @property
    def tokens(self) -> float:
        """Sampled tokens."""
        return float(self.sampled[self.played].sum())


@dataclass(frozen=True)
class World:
    """The environment. ``start_s``: seconds to begin an episode; ``step_s``: seconds of a turn (``Spread``);
    ``parallel``: how many episodes it serves at once (0: any number)."""

    start_s: float
    step_s: Any
    parallel: int

    def __post_init__(self) -> None:
        require(start_s=(self.start_s, 0), parallel=(self.parallel, 0))


class Source(Protocol):
    """Where batches come from: drawn from distributions, or from the episodes of a run."""

    def draw(self, rng: np.random.Generator, tasks: int, world: World) -> Batch: ...


@dataclass(frozen=True)
class Episodes:
    """Episodes by distribution: ``turns`` of an episode and ``tokens`` sampled in a turn (``Spread``).

    ``first_prompt``: tokens read once for a whole group; ``prompt``: tokens to read before each later turn (with a
    prefix cache: the new ones).
    """

    group_size: int
    turns: Any
    tokens: Any
    first_prompt: float
    prompt: float

    def __post_init__(self) -> None:
        require(group_size=(self.group_size, 1), first_prompt=(self.first_prompt, 0), prompt=(self.prompt, 0))

    def draw(self, rng: np.random.Generator, tasks: int, world: World) -> Batch:
        """A batch of ``tasks`` x ``group_size`` episodes."""
        count = tasks * self.group_size
        turns = np.maximum(1, np.rint(self.turns.draw(rng, count))).astype(np.int64)
        shape = (count, int(turns.max()))
        read = np.full(shape, self.prompt)
        read[:, 0] = self.first_prompt / self.group_size
        sampled = np.maximum(1.0, np.rint(self.tokens.draw(rng, shape)))
        return Batch(turns, read, sampled, world.step_s.draw(rng, shape))


@dataclass(frozen=True)
class Recording:
    """Episodes of a run: ``groups[group][play]`` is [turns, 2], tokens to read and sampled tokens of each turn. The
    first prompt of a group stands in full in each of its plays; it is read once for all of them."""

    groups: Sequence[Sequence[Numbers]]
    group_size: int

    def draw(self, rng: np.random.Generator, tasks: int, world: World) -> Batch:
        """Groups drawn with replacement; of each, plays without replacement as far as they go."""
        plays = []
        for index in rng.integers(len(self.groups), size=tasks):
            group = self.groups[index]
            again = self.group_size > len(group)
            plays += [group[i] for i in rng.choice(len(group), self.group_size, replace=again)]
        turns = np.array([len(play) for play in plays])
        both = np.zeros((len(plays), int(turns.max()), 2))
        for place, play in zip(both, plays, strict=True):
            place[: len(play)] = play
        both[:, 0, 0] /= self.group_size
        return Batch(turns, both[..., 0], both[..., 1], world.step_s.draw(rng, both.shape[:2]))


@dataclass(frozen=True)
class EngineSpeed:
    """One engine on ``gpus`` GPUs: ``tokens_per_s`` of all rows together when it decodes so many ``rows`` at once (the
    time of an iteration is interpolated between them, constant below, proportional above), ``read_per_s`` prompt tokens
    per second, ``call_s`` fixed seconds of a call of lockstep, ``max_batch`` rows at once, ``part`` requests that an
    engine takes at a time in lockstep (0: equal shares)."""

    rows: list[float]
    tokens_per_s: list[float]
    read_per_s: float
    call_s: float
    max_batch: int
    part: int
    gpus: int

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.tokens_per_s) or not self.rows:
            raise ValueError(
                f"tokens_per_s: got {len(self.tokens_per_s)} values for {len(self.rows)} values of rows; give as many"
            )
        if list(self.rows) != sorted(set(self.rows)) or self.rows[0] <= 0:
            raise ValueError("rows: expected rising numbers above 0")
        if min(*self.tokens_per_s, self.read_per_s) <= 0:
            raise ValueError("tokens_per_s, read_per_s: expected speeds above 0")
        require(call_s=(self.call_s, 0), max_batch=(self.max_batch, 1), part=(self.part, 0), gpus=(self.gpus, 1))

    def iteration_s(self, rows: Numbers) -> Numbers:
        """Seconds of an iteration with so many rows, each at least 1."""
        known = np.array(self.rows)
        seconds = known / np.array(self.tokens_per_s)
        found: Numbers = np.interp(rows, known, seconds) * np.maximum(1.0, rows / known[-1])
        return found

    def calls(self, read: Numbers, sampled: Numbers) -> Numbers:
        """Seconds of calls, the requests of each computed together. [calls, requests] each; 0 sampled: no request."""
        lengths = np.sort(sampled, axis=1)
        steps = np.diff(lengths, prepend=0.0, axis=1)  # iterations with so many rows left as stand here or behind
        decoding = steps @ self.iteration_s(np.arange(lengths.shape[1], 0, -1.0))
        seconds: Numbers = self.call_s + read.sum(axis=1) / self.read_per_s + decoding
        return seconds

    def full_s(self, batch: Batch, engines: int) -> float:
        """Seconds for which a batch would keep ``engines`` busy with reading and full iterations: no tail, no wait."""
        rows = float(min(self.max_batch, math.ceil(len(batch.turns) / engines)))
        iteration = float(self.iteration_s(np.array([rows]))[0])
        reading = float(batch.read[batch.played].sum()) / self.read_per_s
        return (reading + batch.tokens * iteration / rows) / engines


@dataclass(frozen=True)
class Push:
    """New weights into all engines: ``fixed_s`` + ``per_gb_s`` x ``gb``, whatever their number."""

    fixed_s: float
    per_gb_s: float
    gb: float

    def __post_init__(self) -> None:
        require(fixed_s=(self.fixed_s, 0), per_gb_s=(self.per_gb_s, 0), gb=(self.gb, 0))

    @property
    def seconds(self) -> float:
        return self.fixed_s + self.per_gb_s * self.gb


@dataclass(frozen=True)
class LearnerSpeed:
    """Seconds of a batch on ``gpus`` GPUs, the fewest it runs on: ``fixed_s`` + ``per_token_s`` x sampled tokens. Each
    doubling of the GPUs does ``efficiency`` (0.5..1) of the twofold work."""

    fixed_s: float
    per_token_s: float
    efficiency: float
    gpus: int

    def __post_init__(self) -> None:
        require(fixed_s=(self.fixed_s, 0), per_token_s=(self.per_token_s, 0), gpus=(self.gpus, 1))
        if not 0.5 <= self.efficiency <= 1:
            raise ValueError(f"efficiency: got {self.efficiency:g}, expected a share in [0.5, 1]")

    def seconds(self, tokens: float, gpus: int) -> float:
        """Seconds to learn from so many sampled tokens."""
        times = gpus / self.gpus
        return self.fixed_s + self.per_token_s * tokens / (times * math.pow(self.efficiency, math.log2(times)))


@dataclass(frozen=True)
class Loop:
    """How the parts follow each other. ``max_staleness``: batches that may be learned from while one is sampled;
    ``placements`` to choose from; ``switch_s``: seconds of a step to hand colocated GPUs over and back; ``other_s``:
    seconds of a step in nothing else (refill, log); ``batches`` simulated for each split."""

    schedule: Schedule
    max_staleness: int
    placements: list[Placement]
    switch_s: float
    other_s: float
    batches: int

    def __post_init__(self) -> None:
        require(switch_s=(self.switch_s, 0), other_s=(self.other_s, 0), batches=(self.batches, 1))
        require(max_staleness=(self.max_staleness, 0))
        if not self.placements:
            raise ValueError("placements: got none, expected colocated, separate or both")
        if self.max_staleness and Placement.separate not in self.placements:
            raise ValueError(
                f"max_staleness: got {self.max_staleness} with placements=[colocated], whose engines wait while the "
                "learner has their GPUs; set it to 0, or allow separate"
            )


@dataclass(frozen=True)
class Profile:
    """Everything together."""

    source: Source
    tasks: int
    world: World
    engine: EngineSpeed
    push: Push
    learner: LearnerSpeed
    loop: Loop
