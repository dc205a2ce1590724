"""What counts as done: a wish like "some bread on some table" becomes sets of facts about named objects.

The same id is the same object. Ids that are numbers stand for any object of the literal's type whose name contains the
argument (``substring``, the original's rule; off: whose kind is the argument, bare types excepted); other ids
name the one entity with that ``id``. Different numbers of one argument name are different objects. A goal set is one
choice for all of them; a kitchen is done when all facts of any set are true.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

from agentrl.envs.robotouille.domain import PREDICATE, TYPES
from agentrl.envs.robotouille.problem import Entity, Problem
from agentrl.errors import DataError

Fact = tuple[str, tuple[str, ...]]  # predicate and object names


@dataclass(frozen=True)
class Goal:
    """The goal sets of a problem, made on demand: there can be very many.

    ``slots``: for each argument name, its numbers in order of appearance and the candidates for them.
    """

    problem: Problem
    substring: bool = True

    @cached_property
    def named(self) -> dict[str, str]:
        """Names of the objects that ids other than numbers stand for. Raises DataError for one nobody has."""
        owners = {entity.id: entity.name for kind in TYPES for entity in self.problem.entities(kind) if entity.id}
        wanted = {thing for want in self.problem.goal for thing in want.ids if not thing.isdigit()}
        for thing in sorted(wanted - owners.keys()):
            raise DataError(f"robotouille goal: no entity has the id {thing!r}; expected one of {sorted(owners)}")
        return {thing: owners[thing] for thing in wanted}

    @cached_property
    def slots(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """{argument name: (its numbers, the candidates)}."""
        numbers: dict[str, dict[str, None]] = {}
        kinds: dict[str, str] = {}
        owner: dict[str, str] = {}
        for want in self.problem.goal:
            for arg, thing, kind in zip(want.args, want.ids, PREDICATE[want.predicate].types, strict=True):
                if thing.isdigit() and owner.setdefault(thing, arg) == arg:
                    numbers.setdefault(arg, {})[thing] = None
                    kinds[arg] = kind
        return {arg: (tuple(ids), self._candidates(arg, kinds[arg], len(ids))) for arg, ids in numbers.items()}

    def _candidates(self, arg: str, kind: str, count: int) -> tuple[str, ...]:
        found = tuple(entity.name for entity in self.problem.entities(kind) if self._fits(entity, arg, kind))
        return found or tuple(f"{arg}{number + 1}" for number in range(count))  # they will be created

    def _fits(self, entity: Entity, arg: str, kind: str) -> bool:
        return arg in entity.name or arg == kind if self.substring else arg in (entity.kind, kind)

    @property
    def count(self) -> int:
        """How many goal sets there are."""
        return math.prod(math.perm(len(found), len(ids)) for ids, found in self.slots.values())

    def sets(self) -> Iterator[tuple[Fact, ...]]:
        """Every goal set, its facts in the order of the problem's goal."""
        choices = [permutations(found, len(ids)) for ids, found in self.slots.values()]
        for choice in product(*choices):
            chosen = dict(self.named)
            for (ids, _), names in zip(self.slots.values(), choice, strict=True):
                chosen |= zip(ids, names, strict=True)
            yield tuple((want.predicate, tuple(chosen[thing] for thing in want.ids)) for want in self.problem.goal)
