"""What is true at the start of a problem: kinds, places, stacks, hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrl.envs.robotouille.domain import KINDS, TYPES
from agentrl.envs.robotouille.problem import Entity
from agentrl.errors import DataError

if TYPE_CHECKING:
    from agentrl.envs.robotouille.kitchen import Kitchen


def first_bits(kitchen: Kitchen) -> int:
    """What is true at the start of a problem."""
    problem, bit = kitchen.problem, kitchen.bit
    bits = 0
    for kind in TYPES:
        for index, entity in enumerate(problem.entities(kind)):
            if entity.kind in KINDS[kind][:-1]:
                bits |= bit("is" + entity.kind, index)
            for fact in entity.predicates:
                bits |= bit(fact, index)
    for index, station in enumerate(problem.stations):
        bits |= _station_bits(kitchen, index, station)
    for index, player in enumerate(problem.players):
        bits |= _hand_bits(kitchen, index, player)
    for index, container in enumerate(problem.containers):
        cell = (container.x, container.y)
        inside = [m for m, meal in enumerate(problem.meals) if (meal.x, meal.y) == cell]
        bits |= bit("container_empty", index) if not inside else 0
        for meal in inside:
            bits |= bit("in", meal, index)
    return bits


def _station_bits(kitchen: Kitchen, index: int, station: Entity) -> int:
    problem, bit = kitchen.problem, kitchen.bit
    cell = (station.x, station.y)
    stack = sorted((e.level, i) for i, e in enumerate(problem.items) if (e.x, e.y) == cell)
    holds = [c for c, e in enumerate(problem.containers) if (e.x, e.y) == cell]
    bits = 0 if stack or holds else bit("station_empty", index)
    for container in holds:
        bits |= bit("container_at", container, index)
    for place, (_, item) in enumerate(stack):
        bits |= bit("item_at", item, index)
        bits |= bit("atop", item, stack[place - 1][1]) if place else bit("item_on", item, index)
    bits |= bit("clear", stack[-1][1]) if stack else 0
    visitors = [p for p, e in enumerate(problem.players) if (e.x + e.facing[0], e.y + e.facing[1]) == cell]
    for player in visitors:
        bits |= bit("loc", player, index)
    return bits | (0 if visitors else bit("vacant", index))


def _hand_bits(kitchen: Kitchen, index: int, player: Entity) -> int:
    problem, bit = kitchen.problem, kitchen.bit
    cell = (player.x, player.y)
    items = [i for i, e in enumerate(problem.items) if (e.x, e.y) == cell]
    containers = [c for c, e in enumerate(problem.containers) if (e.x, e.y) == cell]
    held = len(items) + len(containers)
    if held > 1:
        raise DataError(f"robotouille: {player.name} would hold {held} things at {cell}; expected one at most")
    if items:
        return bit("has_item", index, items[0])
    return bit("has_container", index, containers[0]) if containers else bit("nothing", index)
