"""The rules of the kitchen, worked by hand: bits, processes, goals, texts, problem files."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agentrl.envs.robotouille.generator import generate
from agentrl.envs.robotouille.goals import Goal
from agentrl.envs.robotouille.kitchen import Kitchen, State
from agentrl.envs.robotouille.problem import load, to_problem
from agentrl.envs.robotouille.recipes import BENCHMARK, benchmark_problem
from agentrl.envs.robotouille.text import Describer
from agentrl.errors import DataError

COOK, WAIT = "Cook patty1 on stove1 using robot1", "Do nothing"


def raw(stations: str, items: str = "", goal: list[Any] | None = None, players: int = 1, **more: Any) -> dict[str, Any]:
    """A problem of stations in a row; ``items`` as ``kind@station+predicate``, stacks in the order given; the players
    stand at the first stations."""
    kinds = stations.split()
    made: list[dict[str, Any]] = []
    for word in items.split():
        place, *facts = word.split("+")
        kind, _, at = place.partition("@")
        level = sum(each["x"] == int(at) for each in made)
        made.append({"name": kind, "x": int(at), "y": 1, "stack-level": level, "predicates": facts})
    return {
        "width": 9,
        "height": 3,
        "stations": [{"name": kind, "x": x, "y": 1} for x, kind in enumerate(kinds)],
        "items": made,
        "players": [{"name": "robot", "x": x, "y": 0, "direction": [0, 1]} for x in range(players)],
        "goal_description": "Do it",
        "goal": goal or [{"predicate": "iscooked", "args": ["patty"], "ids": [1]}],
        **more,
    }


def play(kitchen: Kitchen, *texts: str, state: State | None = None) -> State:
    state = state or kitchen.start
    for text in texts:
        moves = {move.text: move for move in kitchen.moves(state.bits)}
        assert text in moves, f"{text} is not among {sorted(moves)}"
        state = kitchen.after(state, moves[text])
    return state


def true(kitchen: Kitchen, state: State, predicate: str, *names: str) -> bool:
    mask = kitchen.fact(predicate, names)
    return mask is not None and bool(state.bits & mask)


PATTY = raw("stove table", "patty@0+iscookable")


def test_cooking_takes_four_steps_the_first_included():
    kitchen = Kitchen(to_problem(PATTY))
    for waits, cooked in ((2, False), (3, True)):
        state = play(kitchen, COOK, *[WAIT] * waits)
        assert true(kitchen, state, "iscooked", "patty1") == kitchen.done(state.bits) == cooked
        assert true(kitchen, state, "iscooking", "patty1") != cooked
        assert len(state.running) == (not cooked)


def test_off_the_stove_progress_waits_and_comes_back():
    kitchen = Kitchen(to_problem(PATTY))
    pick, place = "Pick up patty1 from stove1 using robot1", "Place patty1 on stove1 using robot1"
    state = play(kitchen, COOK, WAIT, pick, WAIT, WAIT)
    assert state.running == ((("cooking", (0, 0)), 2),)
    assert not true(kitchen, state, "iscooking", "patty1")
    state = play(kitchen, place, state=state)
    assert state.running[0][1] == 3
    assert true(kitchen, state, "iscooking", "patty1")
    assert true(kitchen, play(kitchen, WAIT, state=state), "iscooked", "patty1")


def test_the_process_behind_a_finished_one_loses_a_step():
    """Two patties, started one step apart on two stoves, with a step lost to the first one's end."""
    problem = to_problem(raw("stove stove", "patty@0+iscookable patty@1+iscookable"))
    moves = (COOK, "Move robot1 from stove1 to stove2", "Cook patty2 on stove2 using robot1", WAIT)
    for skip, expected in ((True, 2), (False, 3)):
        kitchen = Kitchen(problem, skip=skip)
        state = play(kitchen, *moves)
        assert true(kitchen, state, "iscooked", "patty1")
        assert state.running == ((("cooking", (1, 1)), 1 if skip else 2),)
        assert play(kitchen, WAIT, state=state).running[0][1] == expected


def test_three_cuts_and_a_potato_can_be_fried():
    kitchen = Kitchen(to_problem(raw("board fryer", "potato@0+iscuttable+isfryableifcut")))
    cut = "Cut potato1 on board1 using robot1"
    state = play(kitchen, cut, cut)
    assert not true(kitchen, state, "iscut", "potato1")
    state = play(kitchen, cut, state=state)
    assert true(kitchen, state, "iscut", "potato1")
    assert true(kitchen, state, "isfryable", "potato1")
    assert state.running == ((("crisping", (0,)), -1),), "done, yet listed for one step more"
    assert play(kitchen, WAIT, state=state).running == ()
    state = play(
        kitchen, "Pick up potato1 from board1 using robot1", "Move robot1 from board1 to fryer1",
        "Place potato1 on fryer1 using robot1", "Fry potato1 on fryer1 using robot1", *[WAIT] * 3, state=state,
    )  # fmt: skip
    assert true(kitchen, state, "isfried", "potato1")


def test_cutting_a_fryable_chicken_makes_it_unfryable():
    kitchen = Kitchen(to_problem(raw("board", "chicken@0+iscuttable+isfryable")))
    state = play(kitchen, "Cut chicken1 on board1 using robot1")
    assert not true(kitchen, state, "isfryable", "chicken1")
    assert ("crisping", (0,)) in dict(state.running)


def soup() -> Kitchen:
    goal = [
        {"predicate": "in", "args": ["water", "bowl"], "ids": [1, 2]},
        {"predicate": "addedto", "args": ["tomato", "water"], "ids": [3, 1]},
        {"predicate": "isboiling", "args": ["water"], "ids": [1]},
    ]
    containers = [{"name": "pot", "x": 0, "y": 1}, {"name": "bowl", "x": 2, "y": 1}]
    return Kitchen(to_problem(raw("sink stove table table", "tomato@3", goal, containers=containers, meals=[])))


def test_a_soup_from_tap_to_bowl():
    kitchen = soup()
    state = play(kitchen, "Fill pot1 with water from sink1 using robot1", WAIT, WAIT)
    assert kitchen.meals(state.bits) == 0
    state = play(kitchen, WAIT, state=state)
    assert kitchen.meals(state.bits) == 1
    assert true(kitchen, state, "in", "water1", "pot1")
    assert Describer(kitchen).objects(state.bits).endswith("Meal water1:\nwater1 is water\nwater1 is inside of pot1")
    state = play(
        kitchen, "Pick up pot1 from sink1 using robot1", "Move robot1 from sink1 to stove1",
        "Place pot1 on stove1 using robot1", "Boil pot1's contents on stove1 using robot1", WAIT, WAIT,
        "Move robot1 from stove1 to table2", "Pick up tomato1 from table2 using robot1",
        "Move robot1 from table2 to stove1", "Add tomato1 into pot1 using robot1",
        "Pick up pot1 from stove1 using robot1", "Move robot1 from stove1 to table1", state=state,
    )  # fmt: skip
    assert not kitchen.done(state.bits)
    state = play(kitchen, "Fill bowl1 with pot1's contents using robot1", state=state)
    assert kitchen.done(state.bits)
    assert true(kitchen, state, "container_empty", "pot1")


@cache
def kitchens() -> list[Kitchen]:
    """Kitchens with everything: stacks, all stations, containers, two players."""
    two = raw("table stove board table", "bread@0 lettuce@0+iscuttable patty@1+iscookable", players=2)
    generated = [generate(benchmark_problem(name), 7) for name in BENCHMARK]
    return [soup(), *(Kitchen(to_problem(problem)) for problem in (two, *generated))]


@pytest.mark.parametrize("place", range(12))
def test_quickly_found_actions_are_those_of_trying_everything(place: int):
    kitchen, rng = kitchens()[place], random.Random(place)
    state = kitchen.start
    for _ in range(40):
        found = kitchen.moves(state.bits)
        expected = sorted(kitchen.all_moves(state.bits), key=lambda move: move.rank)
        assert [move.text for move in found] == [move.text for move in expected]
        state = kitchen.after(state, rng.choice([move for move in found if move.name != "wait"] or found))


@pytest.mark.parametrize("place", range(12))
def test_a_kitchen_stays_in_order(place: int):
    """Each item is in one place only, held or on a stack; hands and stations agree with it."""
    kitchen, rng = kitchens()[place], random.Random(place)
    state = kitchen.start
    for _ in range(60):
        state = kitchen.after(state, rng.choice(kitchen.moves(state.bits)))
        bits = state.bits
        for item in range(len(kitchen.names["item"])):
            held = bits & kitchen.any("has_item", None, item)
            at = bits & kitchen.any("item_at", item, None)
            below = bits & (kitchen.any("item_on", item, None) | kitchen.any("atop", item, None))
            added = bits >> kitchen.meal_base
            assert (held.bit_count() + at.bit_count() == 1 and at.bit_count() == below.bit_count()) or added
        for player in range(len(kitchen.names["player"])):
            hands = kitchen.any("has_item", player, None) | kitchen.any("has_container", player, None)
            assert (bits & hands).bit_count() + bool(bits & kitchen.bit("nothing", player)) == 1
            assert (bits & kitchen.any("loc", player, None)).bit_count() == 1


def test_the_text_is_the_originals():
    kitchen = Kitchen(to_problem(raw("table table", "bread@0 cheese@0")))
    assert Describer(kitchen).observation(kitchen.start.bits) == (
        "Station table1:\ntable1 is a table\ntable1 is occupied by robot1\ntable1 has bread1\ntable1 has cheese1\n"
        "table1 has bread1 directly on top of it\n\n"
        "Station table2:\ntable2 is a table\ntable2 has nothing on it\ntable2 has no players at it\n\n"
        "Item bread1:\nbread1 is a bread slice\nbread1 is at table1\nbread1 is directly on top of table1\n"
        "bread1 is directly under cheese1\n\n"
        "Item cheese1:\ncheese1 is a cheese slice\ncheese1 is at table1\ncheese1 has nothing above it\n"
        "cheese1 is directly on top of bread1\n\n"
        "Player robot1:\nrobot1 is a robot\nrobot1 is at table1\nrobot1 is holding nothing\n\n"
        "Valid Actions:\nMove robot1 from table1 to table2\nUnstack cheese1 from bread1 using robot1\nDo nothing\n\n"
        "Goal: Do it"
    )


def test_goal_sets_by_hand():
    """Two buns for the one that `bun` asks for, since names are matched by substring; two tables: four sets."""
    goal = [{"predicate": "item_on", "args": ["bun", "table"], "ids": [1, 2]}]
    problem = to_problem(raw("table table stove", "topbun@0 bottombun@1 patty@2", goal))
    sets = [facts[0][1] for facts in Goal(problem).sets()]
    assert sorted(sets) == [(bun, table) for bun in ("bottombun1", "topbun1") for table in ("table1", "table2")]
    assert Goal(problem).count == 4
    assert list(Goal(problem, substring=False).sets()) == [
        (("item_on", ("bun1", "table1")),),
        (("item_on", ("bun1", "table2")),),
    ]
    assert not Kitchen(problem, substring=False).done(Kitchen(problem).start.bits)
    assert Kitchen(problem).done(Kitchen(problem).start.bits)


def test_equal_numbers_are_the_same_thing_and_ids_name_one():
    goal = [
        {"predicate": "atop", "args": ["bread", "cheese"], "ids": [1, "x"]},
        {"predicate": "atop", "args": ["cheese", "bread"], "ids": ["x", 2]},
    ]
    problem = raw("table", "bread@0 cheese@0 bread@0", goal)
    problem["items"][1]["id"] = "x"
    kitchen = Kitchen(to_problem(problem))
    assert kitchen.goal.count == 2
    assert kitchen.done(kitchen.start.bits)


def test_things_that_will_be_created_get_invented_names():
    goal = [{"predicate": "in", "args": ["water", "pot"], "ids": [number, number + 10]} for number in (1, 2)]
    pots = [{"name": "pot", "x": x, "y": 1} for x in (0, 1)]
    sets = list(Goal(to_problem(raw("sink sink", goal=goal, containers=pots, meals=[]))).sets())
    assert len(sets) == 4
    assert {name for facts in sets for _, names in facts for name in names} == {"water1", "water2", "pot1", "pot2"}


def test_seeded_kitchens_differ_by_seed_and_leave_global_randomness_alone():
    problem = benchmark_problem("burger")
    random.seed(5)
    before = random.getstate()
    made = [generate(problem, seed) for seed in range(1, 12)]
    assert random.getstate() == before
    assert made[0] == generate(problem, 1)
    assert len({json.dumps(each) for each in made}) > 5
    assert problem == benchmark_problem("burger"), "the problem itself is not changed"
    for each in made:
        cells = [(s["x"], s["y"]) for s in each["stations"]]
        assert len(set(cells)) == len(cells)
        names = [item["name"] for item in each["items"]]
        assert {"bottombun", "topbun", "patty"} <= set(names)


def test_a_grid_without_room_is_refused():
    problem = {**benchmark_problem("burger"), "width": 2, "height": 2}
    with pytest.raises(DataError, match="grid is too small"):
        generate(problem, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stations": []}, "no stations"),
        ({"items": [{"name": "egg", "x": 0, "y": 1}]}, "unknown item 'egg'"),
        ({"items": [{"name": "bread", "x": 0, "y": 1, "predicates": ["istable"]}]}, "bread cannot be 'istable'"),
        ({"goal": [{"predicate": "flies", "args": ["bread"], "ids": [1]}]}, "unknown predicate 'flies'"),
        ({"goal": [{"predicate": "atop", "args": ["bread"], "ids": [1]}]}, "takes 2 args"),
        ({"goal": None}, "while reading"),
        ({"items": [{"name": "bread"}]}, "while reading"),
        ({"players": [{"name": "robot", "x": 0, "y": 0, "direction": [1]}]}, "expected two numbers"),
    ],
)
def test_bad_problems_are_told_in_a_sentence(change: dict[str, Any], told: str):
    with pytest.raises(DataError, match=told):
        to_problem({**PATTY, **change})


def test_an_id_that_nobody_has_and_full_hands():
    with pytest.raises(DataError, match="no entity has the id 'q'"):
        list(
            Goal(to_problem(raw("table", "bread@0", [{"predicate": "clear", "args": ["bread"], "ids": ["q"]}]))).sets()
        )
    held = [{"name": "bread", "x": 0, "y": 0}, {"name": "cheese", "x": 0, "y": 0}]
    with pytest.raises(DataError, match="would hold 2 things"):
        Kitchen(to_problem({**PATTY, "items": held}))


def test_bad_files_are_told_in_a_sentence(tmp_path: Path):
    with pytest.raises(DataError, match="there is no problem file"):
        load(tmp_path / "none.json")
    for text, told in (("{", "cannot be read"), ("[1]", "holds a list")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=told):
            load(tmp_path / "bad.json")
