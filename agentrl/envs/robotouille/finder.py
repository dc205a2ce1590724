"""Valid actions without trying every grounding: from where a player stands, what it holds and what lies there.

The candidates of a station depend on a few bits; lists of them are remembered, and their masks decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrl.envs.robotouille.kitchen import Kitchen, Move

TABLES = 20_000  # remembered lists of candidates per player


class Finder:
    """Finds one player's valid actions from where it stands and what it holds, without trying every grounding."""

    def __init__(self, kitchen: Kitchen, player: int) -> None:
        self.kitchen, self.player = kitchen, player
        names = kitchen.names
        stations, items, containers = (range(len(names[kind])) for kind in ("station", "item", "container"))
        bit = kitchen.bit
        self.loc = {bit("loc", player, s): s for s in stations}
        self.loc_mask = sum(self.loc)
        self.nothing = bit("nothing", player)
        self.held_items = {bit("has_item", player, i): i for i in items}
        self.held_mask = sum(self.held_items)
        self.held_containers = {bit("has_container", player, c): c for c in containers}
        self.held_container_mask = sum(self.held_containers)
        self.vacant = {bit("vacant", s): s for s in stations}
        self.vacant_mask = sum(self.vacant)
        self.items_at = [{bit("item_at", i, s): i for i in items} for s in stations]
        self.items_at_mask = [sum(found) for found in self.items_at]
        self.items_on = [{bit("item_on", i, s): i for i in items} for s in stations]
        self.items_on_mask = [sum(found) for found in self.items_on]
        self.containers_at = [{bit("container_at", c, s): c for c in containers} for s in stations]
        self.containers_at_mask = [sum(found) for found in self.containers_at]
        self.atop = {bit("atop", i, j): (i, j) for i in items for j in items if i != j}
        self.atop_mask = sum(self.atop)
        self._walks: dict[tuple[int, int], list[Move]] = {}
        self._tables: dict[tuple[str, int, int], list[Move]] = {}
        self.wait = kitchen.move("wait")

    def moves(self, bits: int) -> list[Move]:
        """This player's valid actions and waiting, ordered."""
        here = self.loc.get(bits & self.loc_mask)
        if here is None:
            return [self.wait]
        vacant = bits & self.vacant_mask
        walks = self._walks.get((here, vacant))
        if walks is None:
            walks = self._walks[here, vacant] = [
                self.kitchen.move("move", self.player, here, s) for m, s in self.vacant.items() if m & vacant
            ]
        found = walks.copy()
        for move in self._near(bits, here):
            if bits & move.true == move.true and not bits & move.false:
                found.append(move)
        found.append(self.wait)
        return found

    def _near(self, bits: int, here: int) -> list[Move]:
        """Candidates at a station: from tables indexed by what is in the hand and on the station."""
        if bits & self.nothing:
            stack = bits & self.items_at_mask[here]
            near = stack | bits & (self.containers_at_mask[here] | self.items_on_mask[here])
            key = ("", here, near | bits & self.atop_mask if stack & (stack - 1) else near)
        else:
            near = bits & (self.items_at_mask[here] | self.containers_at_mask[here])
            key = ("+", here, near | bits & (self.held_mask | self.held_container_mask))
        meals = bits >> self.kitchen.meal_base
        if meals:
            return self._candidates(bits, here)
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = self._candidates(bits, here)
            if len(self._tables) > TABLES:
                self._tables.clear()
        return found

    def _candidates(self, bits: int, here: int) -> list[Move]:
        move, me = self.kitchen.move, self.player
        items = [i for m, i in self.items_at[here].items() if bits & m]
        containers = [c for m, c in self.containers_at[here].items() if bits & m]
        meals = range(self.kitchen.meals(bits))
        found: list[Move] = []
        if bits & self.nothing:
            bottoms = [i for m, i in self.items_on[here].items() if bits & m]
            for name in ("pick-up-item", "cook", "cut", "fry"):
                found += [move(name, i, here, me) for i in bottoms]
            for name in ("pick-up-container", "fill-pot"):
                found += [move(name, c, here, me) for c in containers]
            found += [move("boil-water", c, here, me, m) for c in containers for m in meals]
            pairs = [pair for m, pair in self.atop.items() if bits & m]
            found += [move("unstack", i, j, me, here) for i, j in pairs if i in items]
        for i in (i for m, i in self.held_items.items() if bits & m):
            found.append(move("place-item", i, here, me))
            found += [move("add-to", i, c, me, m, here) for c in containers for m in meals]
            found += [move("stack", i, j, me, here) for j in items if j != i]
        for c in (c for m, c in self.held_containers.items() if bits & m):
            found.append(move("place-container", c, here, me))
            found += [move("fill-bowl", bowl, c, me, m, here) for bowl in containers for m in meals]
        return sorted(found, key=lambda candidate: candidate.rank)
