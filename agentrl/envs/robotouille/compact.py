"""The compact view: a kitchen in few plain words, and actions that walk for free.

Ours, for the bundled tiny model. What stands where comes before the name of the station, bottom to top, so that a
causal model can gather at the name what it has read; then what the hand holds. Goal and observation together are all a
player needs: progress of cutting and cooking, which the original's text does not show, is there, too::

    goal bottom patty cooked top
    bottom table1 | cheese table2 | top patty cooked table3 | empty table4 | holding nothing
    > pick table3
    bottom table1 | cheese table2 | top table3 | empty table4 | holding patty cooked

An action is a verb and a station: go there (one original step, unless the player is there already), then do the
one thing the verb can mean there (another step). ``pick``: pick up or unstack; ``place``: place or stack; ``cut``,
``cook``, ``fry``, ``fill``, ``boil``, ``add``; and ``wait``. So every play is one of the original, of half the turns.
Kitchens with several players have no compact view.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentrl.envs.robotouille.distance import Layout
from agentrl.envs.robotouille.kitchen import FINISHED, Kitchen, Move, State
from agentrl.envs.robotouille.planner import Successors
from agentrl.envs.robotouille.problem import Problem, Wanted

VERBS = {
    "pick-up-item": "pick", "unstack": "pick", "pick-up-container": "pick", "place-item": "place", "stack": "place",
    "place-container": "place", "cook": "cook", "cut": "cut", "fry": "fry", "fill-pot": "fill", "fill-bowl": "fill",
    "boil-water": "boil", "add-to": "add",
}  # fmt: skip
WAIT = "wait"
COMPACT_WORDS = (
    "table1", "table2", "table3", "table4", "table5", "board1", "stove1", "fryer1", "sink1", "board2",
)  # fmt: skip
WORDS = {"topbun": "top", "bottombun": "bottom"}
MADE_WORDS = {"iscut": "chopped", "iscooked": "cooked", "isfried": "fried"}
GRAMMAR = re.compile(rf"(?:({'|'.join(sorted(set(VERBS.values())))}) [a-z]+[0-9]+|{WAIT})")

Macro = tuple[str, tuple[Move, ...]]


def actions(kitchen: Kitchen, state: State) -> list[Macro]:
    """Every valid compact action with the original's actions that it stands for, station by station."""
    found: dict[str, tuple[Move, ...]] = {}
    here = kitchen.moves(state.bits)
    _add(found, kitchen, here, (), _station(kitchen, state))
    for walk in here:
        if walk.name == "move":
            there = kitchen.after(state, walk)
            if not kitchen.done(there.bits):
                _add(found, kitchen, kitchen.moves(there.bits), (walk,), walk.args[2])
    order = {name: place for place, name in enumerate(kitchen.names["station"])}
    listed = sorted(found, key=lambda label: order[label.partition(" ")[2]])
    return [*((label, found[label]) for label in listed), (WAIT, (kitchen.move("wait"),))]


def _add(
    found: dict[str, tuple[Move, ...]], kitchen: Kitchen, moves: Sequence[Move], walk: tuple[Move, ...], station: int
) -> None:
    for move in moves:
        verb = VERBS.get(move.name)
        if verb is not None:
            found.setdefault(f"{verb} {kitchen.names['station'][station]}", (*walk, move))


def _station(kitchen: Kitchen, state: State) -> int:
    stations = range(len(kitchen.names["station"]))
    return next((s for s in stations if state.bits & kitchen.bit("loc", 0, s)), 0)


def after(kitchen: Kitchen, state: State, moves: Sequence[Move]) -> State:
    """The state after the original's actions of one compact action."""
    for move in moves:
        state = kitchen.after(state, move)
    return state


def macros(kitchen: Kitchen) -> Successors:
    """Compact actions as a planner's successors."""

    def successors(state: State) -> list[tuple[str, State]]:
        return [(label, after(kitchen, state, moves)) for label, moves in actions(kitchen, state)]

    return successors


def observe(kitchen: Kitchen, layout: Layout, state: State) -> str:
    """The observation line; ``layout`` says where things are in ``state``."""
    bits, containers = state.bits, range(len(kitchen.names["container"]))
    parts = []
    for station, name in enumerate(kitchen.names["station"]):
        words = [word for item in layout.stacks[station] for word in _item(kitchen, state, item)]
        for container in containers:
            if bits & kitchen.bit("container_at", container, station):
                words += _container(kitchen, state, container)
        parts.append(" ".join([*(words or ["empty"]), name]))
    words = _item(kitchen, state, layout.held) if layout.held >= 0 else []
    for container in containers:
        if bits & kitchen.bit("has_container", 0, container):
            words += _container(kitchen, state, container)
    return " | ".join([*parts, " ".join(["holding", *(words or ["nothing"])])])


def _item(kitchen: Kitchen, state: State, item: int) -> list[str]:
    """An item, what has been done to it, and how far something under way is (steps or cuts so far)."""
    bits, kind = state.bits, kitchen.problem.items[item].kind
    words = [WORDS.get(kind, kind)]
    made = [word for fact, word in MADE_WORDS.items() if bits & kitchen.bit(fact, item)]
    able = any(bits & kitchen.bit(fact, item) for fact in ("iscuttable", "iscookable", "isfryable"))
    words += made or (["raw"] if able else [])
    verbs = {"cutting": "cut", "cooking": "cook", "frying": "fry"}
    for (name, args), count in state.running:
        if name in verbs and args[0] == item and count != FINISHED:
            words += [verbs[name], str(count)]
    return words


def _container(kitchen: Kitchen, state: State, container: int) -> list[str]:
    bits = state.bits
    words = [kitchen.problem.containers[container].kind]
    for meal in range(kitchen.meals(bits)):
        if bits & kitchen.bit("in", meal, container):
            words += ["water"] + (["boiled"] if bits & kitchen.bit("isboiling", meal) else [])
            for item, entity in enumerate(kitchen.problem.items):
                words += [WORDS.get(entity.kind, entity.kind)] if bits & kitchen.bit("addedto", item, meal) else []
            for (name, args), count in state.running:
                words += ["boil", str(count)] if (name, args[0]) == ("boiling", meal) and count != FINISHED else []
    return words


def goal_text(problem: Problem) -> str:
    """The goal line: dishes from bottom to top, joined by ``and``, each with what has to be done to its layers."""
    wanted = problem.goal
    kinds = {thing: arg for want in reversed(wanted) for arg, thing in zip(want.args, want.ids, strict=True)}
    made: dict[str, list[str]] = {}
    for want in wanted:
        if want.predicate in MADE_WORDS:
            made.setdefault(want.ids[0], []).append(MADE_WORDS[want.predicate])

    def words(thing: str) -> list[str]:
        return [WORDS.get(kinds[thing], kinds[thing]), *made.pop(thing, [])]

    parts: list[list[str]] = []
    told: set[Wanted] = {want for want in wanted if want.predicate in MADE_WORDS}
    for base in (want for want in wanted if want.predicate == "item_on"):
        layers, used = _layers(base, wanted)
        told |= used
        place = [] if kinds[base.ids[1]] == "table" else ["on", kinds[base.ids[1]]]
        parts.append([word for thing in layers for word in words(thing)] + place)
    for want in wanted:
        if want not in told:
            parts.append([want.predicate, *(word for thing in want.ids for word in words(thing))])
    parts += [words(thing) for thing in list(made)]
    return " and ".join(" ".join(["goal", *part]) if not place else " ".join(part) for place, part in enumerate(parts))


def _layers(base: Wanted, wanted: Sequence[Wanted]) -> tuple[list[str], set[Wanted]]:
    """The ids of a dish from its lowest layer, and the literals that say so."""
    order, used = [base.ids[0]], {base}
    grown = True
    while grown:
        above = [want for want in wanted if want.predicate == "atop" and want.ids[1] == order[-1] and want not in used]
        grown = bool(above)
        if above:
            order.append(above[0].ids[0])
            used.add(above[0])
    rest = [want for want in wanted if want.predicate == "item_at" and want.ids[1] == base.ids[1]]
    clear = {want.ids[0]: want for want in wanted if want.predicate == "clear"}
    inner = [want.ids[0] for want in rest if want.ids[0] not in clear and want.ids[0] not in order]
    top = [want.ids[0] for want in rest if want.ids[0] in clear]
    return [*order, *inner, *top], used | set(rest) | {clear[thing] for thing in (*order, *top) if thing in clear}
