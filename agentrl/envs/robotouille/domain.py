"""The cooking domain: what exists, what can be true, what can be done, and what goes on by itself.

Facts of Robotouille's domain (portal-cornell/robotouille, MIT), in a notation of ours. A literal is written
``"predicate argument ..."``; letters name the parameters: s station, i item, p player, c container, m meal. Order
matters: texts follow the order of ``PREDICATES``, lists of valid actions that of ``ACTIONS``.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPES = ("station", "item", "player", "container", "meal")
LETTERS = {"s": "station", "i": "item", "p": "player", "c": "container", "m": "meal"}

STATIONS = ("table", "stove", "board", "fryer", "sink")
ITEMS = ("topbun", "bottombun", "bread", "lettuce", "onion", "tomato", "patty", "chicken", "cheese", "potato")
KINDS = {  # what may stand in a problem file; the last of each type has no identity, it is the bare type
    "station": (*STATIONS, "station"),
    "item": (*ITEMS, "item"),
    "player": ("robot", "player"),
    "container": ("pot", "bowl", "container"),
    "meal": ("water", "meal"),
}


@dataclass(frozen=True, slots=True)
class Predicate:
    """Something that can be true; ``texts[k]`` says it in the paragraph of its k-th argument."""

    name: str
    types: tuple[str, ...]
    texts: tuple[str, ...]


def _p(name: str, letters: str, *texts: str) -> Predicate:
    return Predicate(name, tuple(LETTERS[letter] for letter in letters), texts)


PREDICATES = (
    _p("istable", "s", "{0} is a table"),
    _p("isstove", "s", "{0} is a stove"),
    _p("isboard", "s", "{0} is a cutting board"),
    _p("isfryer", "s", "{0} is a fryer"),
    _p("issink", "s", "{0} is a sink"),
    _p("isrobot", "p", "{0} is a robot"),
    _p("istopbun", "i", "{0} is a top bun"),
    _p("isbottombun", "i", "{0} is a bottom bun"),
    _p("isbread", "i", "{0} is a bread slice"),
    _p("islettuce", "i", "{0} is a head of lettuce"),
    _p("isonion", "i", "{0} is an onion"),
    _p("istomato", "i", "{0} is a tomato"),
    _p("ispatty", "i", "{0} is a hamburger patty"),
    _p("ischicken", "i", "{0} is a chicken breast"),
    _p("ischeese", "i", "{0} is a cheese slice"),
    _p("ispotato", "i", "{0} is a potato"),
    _p("isfryable", "i", "{0} can be fried in a fryer"),
    _p("isfryableifcut", "i", "{0} can be fried in a fryer after being cut"),
    _p("isfried", "i", "{0} is fried"),
    _p("iscookable", "i", "{0} can be cooked on a stove"),
    _p("iscooking", "i", "{0} is cooking"),
    _p("iscooked", "i", "{0} is cooked"),
    _p("iscuttable", "i", "{0} can be cut on a cutting board"),
    _p("iscut", "i", "{0} is cut"),
    _p("ispot", "c", "{0} is a pot"),
    _p("isbowl", "c", "{0} is a bowl"),
    _p("iswater", "m", "{0} is water"),
    _p("isboiling", "m", "{0} is boiling"),
    _p("loc", "ps", "{0} is at {1}", "{1} is occupied by {0}"),
    _p("item_at", "is", "{0} is at {1}", "{1} has {0}"),
    _p("nothing", "p", "{0} is holding nothing"),
    _p("station_empty", "s", "{0} has nothing on it"),
    _p("container_empty", "c", "{0} has nothing inside it"),
    _p("item_on", "is", "{0} is directly on top of {1}", "{1} has {0} directly on top of it"),
    _p("vacant", "s", "{0} has no players at it"),
    _p("clear", "i", "{0} has nothing above it"),
    _p("atop", "ii", "{0} is directly on top of {1}", "{1} is directly under {0}"),
    _p("has_item", "pi", "{0} is holding {1}", "{1} is held by {0}"),
    _p("has_container", "pc", "{0} is holding {1}", "{1} is held by {0}"),
    _p("in", "mc", "{0} is inside of {1}", "{1} contains {0}"),
    _p("addedto", "im", "{0} is added to {1}", "{1} has {0} added to it"),
    _p("container_at", "cs", "{0} is at {1}", "{1} has {0}"),
)
PREDICATE = {predicate.name: predicate for predicate in PREDICATES}


@dataclass(frozen=True, slots=True)
class Process:
    """What goes on after an action (the original's special effects).

    While ``condition`` holds, ``during`` is true, else it is made false. ``goal`` counts are needed to finish: one per
    step that begins with ``condition`` met, or (``by_use``) one per use of the action; 0 finishes at once. Then
    ``done`` becomes true and ``undone`` false; ``creates`` water in the container. Two processes are the same one
    when name and arguments are equal, whatever their counts.
    """

    name: str
    args: tuple[str, ...]
    goal: int
    condition: tuple[str, ...] = ()
    during: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    by_use: bool = False
    creates: bool = False


COOK_STEPS = 4  # the step that starts it included; the original ignores cook_time of the problem file
CUTS = 3  # likewise num_cuts

COOKING = Process(
    "cooking", ("i1", "s1"), COOK_STEPS, ("item_on i1 s1",), ("iscooking i1",), ("iscooked i1",), ("iscooking i1",)
)
CUTTING = Process("cutting", ("i1",), CUTS, done=("iscut i1",), by_use=True)
CRISPING = Process("crisping", ("i1",), 0, ("isfryableifcut i1", "iscut i1"), ("isfryable i1",))
FRYING = Process("frying", ("i1", "s1"), COOK_STEPS, ("item_on i1 s1",), done=("isfried i1",))
FILLING = Process("filling", ("c1", "s1"), COOK_STEPS, ("container_at c1 s1",), creates=True)
BOILING = Process("boiling", ("m1", "c1", "s1"), COOK_STEPS, ("container_at c1 s1",), done=("isboiling m1",))
PROCESSES = {process.name: process for process in (COOKING, CUTTING, CRISPING, FRYING, FILLING, BOILING)}


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do: literals that must be true and false before, and become true and false at once."""

    name: str
    text: str
    args: tuple[str, ...]
    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    starts: tuple[Process, ...] = ()


def _a(
    name: str,
    text: str,
    args: str,
    true: str = "",
    add: str = "",
    drop: str = "",
    false: str = "",
    starts: tuple[Process, ...] = (),
) -> Action:
    true_, false_, add_, drop_ = (
        tuple(part.strip() for part in block.split(",") if part.strip()) for block in (true, false, add, drop)
    )
    return Action(name, text, tuple(args.split()), true_, false_, add_, drop_, starts)


_IDLE = "item_on i1 s1, loc p1 s1, clear i1, nothing p1"

ACTIONS = (
    _a(
        "move", "Move {p1} from {s1} to {s2}", "p1 s1 s2",
        "loc p1 s1, vacant s2", "loc p1 s2, vacant s1", "loc p1 s1, vacant s2",
    ),
    _a(
        "pick-up-item", "Pick up {i1} from {s1} using {p1}", "i1 s1 p1", _IDLE,
        "has_item p1 i1, station_empty s1", "nothing p1, item_at i1 s1, clear i1, item_on i1 s1",
    ),
    _a(
        "place-item", "Place {i1} on {s1} using {p1}", "i1 s1 p1", "has_item p1 i1, loc p1 s1, station_empty s1",
        "nothing p1, item_at i1 s1, clear i1, item_on i1 s1", "has_item p1 i1, station_empty s1",
    ),
    _a(
        "pick-up-container", "Pick up {c1} from {s1} using {p1}", "c1 s1 p1",
        "nothing p1, container_at c1 s1, loc p1 s1",
        "has_container p1 c1, station_empty s1", "container_at c1 s1, nothing p1",
    ),
    _a(
        "place-container", "Place {c1} on {s1} using {p1}", "c1 s1 p1",
        "has_container p1 c1, loc p1 s1, station_empty s1",
        "nothing p1, container_at c1 s1", "has_container p1 c1, station_empty s1",
    ),
    _a(
        "cook", "Cook {i1} on {s1} using {p1}", "i1 s1 p1",
        f"isstove s1, iscookable i1, {_IDLE}", false="iscooking i1", starts=(COOKING,),
    ),
    _a(
        "cut", "Cut {i1} on {s1} using {p1}", "i1 s1 p1",
        f"isboard s1, iscuttable i1, {_IDLE}", starts=(CUTTING, CRISPING),
    ),
    _a("fry", "Fry {i1} on {s1} using {p1}", "i1 s1 p1", f"isfryer s1, isfryable i1, {_IDLE}", starts=(FRYING,)),
    _a(
        "fill-pot", "Fill {c1} with water from {s1} using {p1}", "c1 s1 p1",
        "ispot c1, issink s1, loc p1 s1, container_at c1 s1, container_empty c1, nothing p1", starts=(FILLING,),
    ),
    _a(
        "boil-water", "Boil {c1}'s contents on {s1} using {p1}", "c1 s1 p1 m1",
        "ispot c1, iswater m1, in m1 c1, isstove s1, container_at c1 s1, loc p1 s1, nothing p1", starts=(BOILING,),
    ),
    _a(
        "add-to", "Add {i1} into {c1} using {p1}", "i1 c1 p1 m1 s1",
        "ispot c1, in m1 c1, loc p1 s1, container_at c1 s1, has_item p1 i1",
        "addedto i1 m1, nothing p1", "has_item p1 i1", false="addedto i1 m1",
    ),
    _a(
        "fill-bowl", "Fill {c1} with {c2}'s contents using {p1}", "c1 c2 p1 m1 s1",
        "isbowl c1, ispot c2, container_at c1 s1, in m1 c2, loc p1 s1, container_empty c1, has_container p1 c2",
        "in m1 c1, container_empty c2", "in m1 c2, container_empty c1",
    ),
    _a(
        "stack", "Stack {i1} on top of {i2} using {p1}", "i1 i2 p1 s1",
        "has_item p1 i1, clear i2, loc p1 s1, item_at i2 s1",
        "nothing p1, item_at i1 s1, atop i1 i2, clear i1", "clear i2, has_item p1 i1",
    ),
    _a(
        "unstack", "Unstack {i1} from {i2} using {p1}", "i1 i2 p1 s1",
        "nothing p1, clear i1, atop i1 i2, loc p1 s1, item_at i1 s1, item_at i2 s1",
        "has_item p1 i1, clear i2", "nothing p1, atop i1 i2, clear i1, item_at i1 s1",
    ),
    _a("wait", "Do nothing", ""),
)  # fmt: skip
ACTION = {action.name: action for action in ACTIONS}
