"""A kitchen as bits: one integer says everything that is true, masks say what can be done.

Every grounded predicate has a fixed place in the integer, in the domain's order and then that of its objects; what
concerns meals lies in one block per meal at the end, so that water can be created without renumbering anything. An
action is four masks; a step is a few integer operations. Processes (cooking, cutting ...) are a short ordered
list beside the bits. ``State`` is all there is to a moment: immutable, hashable, equal on every machine.

Compat ``skip``: the original removes finished processes from the list while it walks over it, so the one
behind a removed one misses that step: of two patties that are done at once, the second is done one step later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

from agentrl.envs.robotouille.domain import ACTION, ACTIONS, LETTERS, PREDICATE, PREDICATES, PROCESSES, TYPES
from agentrl.envs.robotouille.finder import Finder
from agentrl.envs.robotouille.goals import Goal
from agentrl.envs.robotouille.opening import first_bits
from agentrl.envs.robotouille.problem import Problem

Key = tuple[str, tuple[int, ...]]  # a process or an action by its name and arguments
FINISHED = -1  # count of a process that is done and still listed


class State(NamedTuple):
    """``bits``: what is true. ``running``: ((process, count), ...) in the order in which they go on."""

    bits: int
    running: tuple[tuple[Key, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """A grounded action: possible where all of ``true`` and none of ``false`` hold. ``rank`` orders lists of moves."""

    name: str
    text: str
    args: tuple[int, ...]
    rank: tuple[int, ...]
    true: int
    false: int
    add: int
    keep: int
    starts: tuple[Key, ...]

    def possible(self, bits: int) -> bool:
        return bits & self.true == self.true and not bits & self.false


@dataclass(frozen=True, slots=True)
class _Going:
    """A grounded process."""

    condition: int
    during: int
    goal: int
    done: int
    keep: int
    by_use: bool
    container: int  # the one that water is created in, else -1


class Kitchen:
    """What can be true and done in one problem. ``start`` is its first state, ``goal`` what is wanted.

    Raises DataError when the problem puts things where they cannot be.
    """

    def __init__(self, problem: Problem, skip: bool = True, substring: bool = True) -> None:
        self.problem = problem
        self.skip = skip
        self.names = {kind: [entity.name for entity in problem.entities(kind)] for kind in TYPES}
        self.meal_names = {entity.name for entity in problem.meals}
        self._base: dict[str, tuple[int, int]] = {}  # predicate: (first place, objects of its second argument)
        at = 0
        for predicate in PREDICATES:
            if "meal" not in predicate.types:
                counts = [len(self.names[kind]) for kind in predicate.types]
                self._base[predicate.name] = (at, counts[1] if len(counts) > 1 else 1)
                at += math.prod(counts)
        self.meal_base = at
        containers, items = len(self.names["container"]), len(self.names["item"])
        self._meal_at = {"iswater": 0, "isboiling": 1, "in": 2, "addedto": 2 + containers}
        self.meal_size = 2 + containers + items
        self._moves: dict[Key, Move] = {}
        self._going: dict[Key, _Going] = {}
        self._players = [Finder(self, player) for player in range(len(self.names["player"]))]
        self.start = State(first_bits(self))
        self.goal = Goal(problem, substring)
        self._masks: list[int] | None = None
        self._hints: list[int] | None = None

    def bit(self, predicate: str, *args: int) -> int:
        """The mask of one grounded predicate; arguments are positions among the objects of their types."""
        found = self._base.get(predicate)
        if found is not None:
            base, second = found
            return 1 << (base + (args[0] * second + args[1] if len(args) > 1 else args[0]))
        meal, other = (args[1], args[0]) if predicate == "addedto" else (args[0], args[1] if len(args) > 1 else 0)
        return 1 << (self.meal_base + meal * self.meal_size + self._meal_at[predicate] + other)

    def any(self, predicate: str, *args: int | None) -> int:
        """The mask of all groundings with these arguments, None standing for every object (of types before meals)."""
        mask = 0
        ranges = [
            range(len(self.names[kind])) if arg is None else (arg,)
            for kind, arg in zip(PREDICATE[predicate].types, args, strict=True)
        ]
        for chosen in product(*ranges):
            mask |= self.bit(predicate, *chosen)
        return mask

    def meals(self, bits: int) -> int:
        """How many meals exist: each is water or was there from the start."""
        count = len(self.names["meal"])
        created = bits >> (self.meal_base + count * self.meal_size)
        return count + -(-created.bit_length() // self.meal_size)

    def meal_name(self, meal: int) -> str:
        """The name of a meal; created ones are water with the next free number."""
        first = self.names["meal"]
        if meal < len(first):
            return first[meal]
        taken = sum(name.startswith("water") for name in first)
        return f"water{taken + meal - len(first) + 1}"

    def name(self, kind: str, index: int) -> str:
        return self.meal_name(index) if kind == "meal" else self.names[kind][index]

    def place(self, kind: str, name: str) -> int | None:
        """The position of a named object among those of its type; of water that may still be created, too."""
        if name in self.names[kind]:
            return self.names[kind].index(name)
        if kind == "meal" and name.startswith("water") and name[5:].isdigit():
            taken = sum(first.startswith("water") for first in self.names["meal"])
            return len(self.names["meal"]) + int(name[5:]) - taken - 1
        return None

    def move(self, name: str, *args: int) -> Move:
        """A grounded action; arguments in the order of the domain's ``args``."""
        key = (name, args)
        found = self._moves.get(key)
        if found is None:
            found = self._moves[key] = self._ground(name, args)
        return found

    def _ground(self, name: str, args: tuple[int, ...]) -> Move:
        action = ACTION[name]
        given = dict(zip(action.args, args, strict=True))

        def mask(literals: Sequence[str]) -> int:
            return self._mask(literals, given)

        words = {letter: self.name(LETTERS[letter[0]], arg) for letter, arg in given.items()}
        starts = tuple((process.name, tuple(given[arg] for arg in process.args)) for process in action.starts)
        return Move(
            name,
            action.text.format(**words),
            args,
            (ACTIONS.index(action), *args),
            mask(action.true),
            mask(action.false),
            mask(action.add),
            ~mask(action.drop),
            starts,
        )

    def _mask(self, literals: Sequence[str], given: dict[str, int]) -> int:
        mask = 0
        for literal in literals:
            predicate, args = _parsed(literal)
            mask |= self.bit(predicate, *[given[arg] for arg in args])
        return mask

    def moves(self, bits: int) -> list[Move]:
        """Every valid action, in the order of the domain and then of its arguments."""
        if len(self._players) == 1:
            return self._players[0].moves(bits)
        found = {move.text: move for player in self._players for move in player.moves(bits)}
        return sorted(found.values(), key=lambda move: move.rank)

    def all_moves(self, bits: int) -> Iterator[Move]:
        """The valid actions found by trying every grounding: slow, to check ``moves`` with."""
        counts = {kind: len(self.names[kind]) for kind in TYPES} | {"meal": self.meals(bits)}
        for action in ACTIONS:
            for args in product(*(range(counts[LETTERS[arg[0]]]) for arg in action.args)):
                objects = {(arg[0], place) for arg, place in zip(action.args, args, strict=True)}
                if len(objects) == len(args) and self.move(action.name, *args).possible(bits):
                    yield self.move(action.name, *args)

    def after(self, state: State, move: Move) -> State:
        """The state one step later. The move must be possible."""
        bits, running = state
        bits = (bits & move.keep) | move.add
        if not running and not move.starts:
            return State(bits)
        listed = list(running)
        for key in move.starts:
            place = next((i for i, (other, _) in enumerate(listed) if other == key), len(listed))
            if place == len(listed):
                listed.append((key, 0))
            bits, count = self._update(bits, key, listed[place][1], used=True)
            listed[place] = (key, count)
        place = 0
        while place < len(listed):
            key, count = listed[place]
            bits, count = self._update(bits, key, count, used=False)
            listed[place] = (key, count)
            if count == FINISHED:
                del listed[place]
                place += self.skip  # the next one has moved up: the original's loop steps over it
            else:
                place += 1
        return State(bits, tuple(listed))

    def _update(self, bits: int, key: Key, count: int, used: bool) -> tuple[int, int]:
        """One update of a process: bits and count after it."""
        if count == FINISHED:
            return bits, count
        going = self._going.get(key) or self._start(key)
        if bits & going.condition != going.condition:
            return bits & ~going.during, count
        bits |= going.during
        count += going.by_use == used
        if count < going.goal:
            return bits, count
        bits = (bits | going.done) & going.keep
        if going.container >= 0:
            meal = self.meals(bits)
            bits |= self.bit("iswater", meal) | self.bit("in", meal, going.container)
        return bits, FINISHED

    def _start(self, key: Key) -> _Going:
        process = PROCESSES[key[0]]
        given = dict(zip(process.args, key[1], strict=True))
        container = given["c1"] if process.creates else -1
        undone = self._mask(process.undone, given)
        if container >= 0:
            undone |= self.bit("container_empty", container)
        going = self._going[key] = _Going(
            self._mask(process.condition, given),
            self._mask(process.during, given),
            process.goal,
            self._mask(process.done, given),
            ~undone,
            process.by_use,
            container,
        )
        return going

    def done(self, bits: int) -> bool:
        """Are all facts of some goal set true?"""
        if self._hints is None:
            self._hints = self._goal_hints()
        for hint in self._hints:
            if not bits & hint:
                return False
        if self._masks is None:
            self._masks = list(self.goal_masks())
        return any(bits & mask == mask for mask in self._masks)

    def goal_masks(self) -> Iterator[int]:
        """The masks of the goal sets that can come true (names that nothing can have make a set impossible)."""
        for facts in self.goal.sets():
            mask = 0
            for predicate, names in facts:
                fact = self.fact(predicate, names)
                if fact is None:
                    break
                mask |= fact
            else:
                yield mask

    def fact(self, predicate: str, names: Sequence[str]) -> int | None:
        """The mask of a fact about named objects, None when no such object can be."""
        places = [self.place(kind, name) for kind, name in zip(PREDICATE[predicate].types, names, strict=True)]
        return None if None in places else self.bit(predicate, *(place for place in places if place is not None))

    def _goal_hints(self) -> list[int]:
        """For each literal of the goal everything that could make it true: a cheap way to say "not yet"."""
        candidates = {thing: found for ids, found in self.goal.slots.values() for thing in ids}
        candidates |= {thing: (name,) for thing, name in self.goal.named.items()}
        hints = []
        for want in self.problem.goal:
            hint = 0
            for names in product(*(candidates[thing] for thing in want.ids)):
                hint |= self.fact(want.predicate, names) or 0
            hints.append(hint)
        return hints


@cache
def _parsed(literal: str) -> tuple[str, tuple[str, ...]]:
    predicate, *args = literal.split()
    return predicate, tuple(args)
