"""Does this kitchen behave like the original? Plays recorded episodes again and counts those that agree.

One record is one episode: ``task`` and ``seed``, ``env_json`` (the numbered layout) or the problem file of that name,
``first_obs_objects``, ``goal``, ``goal_sets``, and ``steps`` of {``valid_sorted`` before the action, ``action``,
``obs_objects`` and ``done`` after it, ``n_special_effects``}. All of these are compared exactly. With a seed, the
layout is generated from the problem file, too, and compared with ``env_json``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentrl.envs.robotouille.domain import TYPES
from agentrl.envs.robotouille.generator import generate
from agentrl.envs.robotouille.kitchen import Kitchen, State
from agentrl.envs.robotouille.problem import LISTS, load, to_problem
from agentrl.envs.robotouille.text import Describer
from agentrl.errors import DataError

KEYS = ("task", "seed", "first_obs_objects", "goal", "steps")
Difference = tuple[str, Any, Any] | None


def replay(golden: Path, folder: Path | None, skip: bool = True, substring: bool = True) -> dict[str, Any]:
    """Replay a golden file: ``{"cases", "agree", "steps", "layouts", "first_difference"}``.

    ``folder`` holds the original problem files; without it records need ``env_json`` and generated layouts are not
    checked. ``layouts`` counts the generated layouts that were compared. ``first_difference`` is None or
    ``{"case", "field", "expected", "got"}``. Raises DataError when the file is no such recording.
    """
    agree = steps = layouts = 0
    first = None
    records = list(_records(golden))
    if not records:
        raise DataError(f"golden file {golden} holds no record; expected one JSON object per line")
    for case, record in enumerate(records):
        try:
            raw, drawn = _layout(record, folder)
            difference = _generated(record, drawn) if drawn else None
            difference = difference or _play(record, raw, skip, substring)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise DataError(f"{golden}: record {case} cannot be replayed ({error!r}); is the file whole?") from None
        steps += len(record["steps"])
        layouts += drawn is not None
        if difference is None:
            agree += 1
        elif first is None:
            field, expected, got = difference
            first = {"case": case, "field": field, "expected": expected, "got": got}
    return {"cases": len(records), "agree": agree, "steps": steps, "layouts": layouts, "first_difference": first}


def _records(golden: Path) -> Iterator[Mapping[str, Any]]:
    try:
        raw = golden.read_bytes()
        text = (gzip.decompress(raw) if golden.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"golden file {golden} could not be read ({error}); is it whole?") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not all(key in record for key in KEYS):
            raise DataError(f"golden file {golden}, line {number}: expected an object with {', '.join(KEYS)}")
        yield record


def _layout(record: Mapping[str, Any], folder: Path | None) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The layout to play on, and the one our generator draws where there is something to compare it with."""
    recorded = record.get("env_json")
    if folder is None:
        if recorded is None:
            raise DataError(f"record of {record['task']} names only its problem file; give env.data=FOLDER, the files")
        return recorded, None
    raw = load(folder / f"{record['task']}.json")
    drawn = generate(raw, int(record["seed"])) if record["seed"] is not None else raw
    return recorded if recorded is not None else drawn, drawn if recorded is not None else None


def _generated(record: Mapping[str, Any], drawn: Mapping[str, Any]) -> Difference:
    expected, got = to_problem(record["env_json"]), to_problem(drawn)
    for key, kind in LISTS.items():
        if expected.entities(kind) != got.entities(kind):
            return f"env_json.{key}", [str(e) for e in expected.entities(kind)], [str(e) for e in got.entities(kind)]
    return None


def _play(record: Mapping[str, Any], raw: Mapping[str, Any], skip: bool, substring: bool) -> Difference:
    kitchen = Kitchen(to_problem(raw, record["task"]), skip, substring)
    describer, state = Describer(kitchen), kitchen.start
    names = {entity["name"] for key in LISTS for entity in raw.get(key, ()) if "typed_enum" in entity}
    if names and names != {name for kind in TYPES for name in kitchen.names[kind]}:
        return "names", sorted(names), sorted(name for kind in TYPES for name in kitchen.names[kind])
    if record["first_obs_objects"] != (got := describer.objects(state.bits)):
        return "first_obs_objects", record["first_obs_objects"], got
    if difference := _goals(record, kitchen):
        return difference
    for number, step in enumerate(record["steps"]):
        difference, state = _step(step, kitchen, describer, state)
        if difference:
            return f"steps[{number}].{difference[0]}", difference[1], difference[2]
    return None


def _goals(record: Mapping[str, Any], kitchen: Kitchen) -> Difference:
    if record["goal"] != kitchen.problem.goal_text:
        return "goal", record["goal"], kitchen.problem.goal_text
    if "n_goal_sets" not in record:
        return None
    if record["n_goal_sets"] != kitchen.goal.count:
        return "n_goal_sets", record["n_goal_sets"], kitchen.goal.count
    ours = sorted(sorted(_fact(*fact) for fact in facts) for facts in kitchen.goal.sets())
    shown = record["goal_sets"]
    return None if shown == ours[: len(shown)] else ("goal_sets", shown, ours[: len(shown)])


def _fact(predicate: str, names: tuple[str, ...]) -> str:
    """A fact as the recordings write it: like a Python tuple behind the predicate."""
    return f"{predicate}({', '.join(names)}{',' if len(names) == 1 else ''})"


def _step(step: Mapping[str, Any], kitchen: Kitchen, describer: Describer, state: State) -> tuple[Difference, State]:
    moves = {move.text: move for move in kitchen.moves(state.bits)}
    if step["valid_sorted"] != sorted(moves):
        return ("valid_sorted", step["valid_sorted"], sorted(moves)), state
    state = kitchen.after(state, moves[step["action"]])
    got = {
        "obs_objects": describer.objects(state.bits),
        "done": kitchen.done(state.bits),
        "n_special_effects": len(state.running),
    }
    for name, value in got.items():
        if name in step and step[name] != value:
            return (name, step[name], value), state
    return None, state
