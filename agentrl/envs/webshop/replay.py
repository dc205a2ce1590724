"""Does this shop behave like the original? Replays recorded files and counts the records that agree.

A golden file is recognised by its content, not its name:

=========  =====================================================  ==============================================
kind       one record                                             compared
=========  =====================================================  ==============================================
traces     goal_idx, first_obs, first_available, steps, ...       every observation, reward, done, clickables (in
                                                                  order), reward parts, options and product: exact
rewards    goal, asin, price, options, reward, info               reward and every part within 1e-12
rankings   query, tokens, hits [[asin, score], ..]                terms and order exact, scores within 1e-4
terms      id, tokens                                             terms of each document, in product order
goals      one JSON object with goals and product_prices          every field of every goal, every price: exact
=========  =====================================================  ==============================================

All were recorded on the official products with goals and prices of seed 0; rewards use the noun table
``title_nouns_stub.json.gz`` beside the golden file when it is there and none was asked for.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentrl.envs.webshop.analyzer import analyze
from agentrl.envs.webshop.env import BUNDLED, WebShop
from agentrl.envs.webshop.goals import Goal
from agentrl.envs.webshop.pages import describe
from agentrl.envs.webshop.products import contents
from agentrl.envs.webshop.reward import score
from agentrl.errors import DataError, EnvError

NOUN_TABLE = "title_nouns_stub.json.gz"
KINDS = {
    "traces": ("goal_idx", "first_obs", "first_available", "steps"),
    "rewards": ("goal", "asin", "price", "options", "reward", "info"),
    "rankings": ("query", "tokens", "hits"),
    "terms": ("id", "tokens"),
}
Difference = tuple[str, Any, Any] | None
Check = Callable[[WebShop, Mapping[str, Any]], Difference]


def replay(env: WebShop, golden: Path) -> dict[str, Any]:
    """Replay a golden file: ``{"kind", "cases", "agree", "first_difference"}``.

    ``first_difference`` is None or ``{"case", "field", "expected", "got"}``. Raises DataError when the file is
    missing, cut short, of no known kind, or names goals or products the data do not hold.
    """
    if env.data == BUNDLED:
        raise DataError("golden files were recorded on the official products; give their folder as env.data=FOLDER")
    nouns = golden.parent / NOUN_TABLE
    table = str(nouns) if env.nouns == "rules" and nouns.is_file() else env.nouns
    faithful = dataclasses.replace(
        env, goals="synthetic", view="text", compat=True, seed=0, page_size=0, show_attributes=False, nouns=table
    )
    kind, records = _read(golden)
    check = _CHECKS[kind]
    agree, first = 0, None
    for case, record in enumerate(records):
        try:
            difference = check(faithful, record)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, EnvError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{golden}: record {case} ({kind}) cannot be replayed ({type(error).__name__}: {error});"
                " is the file whole, and env.data the data it was recorded on?"
            ) from None
        if difference is None:
            agree += 1
        elif first is None:
            field, expected, got = difference
            first = {"case": case, "field": field, **_where(expected, got)}
    return {"kind": kind, "cases": len(records), "agree": agree, "first_difference": first}


def _read(golden: Path) -> tuple[str, list[Mapping[str, Any]]]:
    """Kind and records of a golden file; the goals file gives one record per goal and one per price."""
    try:
        raw = golden.read_bytes()
        text = (gzip.decompress(raw) if golden.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"golden file {golden} could not be read ({error}); is it whole?") from None
    whole = _parse(text)
    if isinstance(whole, dict) and "goals" in whole and "product_prices" in whole:
        goals = [{"place": place, "goal": goal} for place, goal in enumerate(whole["goals"])]
        prices = [{"asin": asin, "price": price} for asin, price in whole["product_prices"].items()]
        return "goals", [{"counts": (len(goals), len(prices))}, *goals, *prices]
    records = list(_lines(golden, text))
    for kind, keys in KINDS.items():
        if records and all(key in records[0] for key in keys):
            return kind, [{"place": place, **record} for place, record in enumerate(records)]
    raise DataError(f"golden file {golden} is of no known kind; expected traces, rewards, rankings, terms or goals")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _lines(golden: Path, text: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _parse(line)
        if not isinstance(record, dict):
            raise DataError(f"golden file {golden}, line {number}: not a JSON object; the file is damaged or cut short")
        yield record


def _where(expected: Any, got: Any, width: int = 80) -> dict[str, Any]:
    """Both values; of long texts the part around the first difference."""
    if not (isinstance(expected, str) and isinstance(got, str)):
        return {"expected": expected, "got": got}
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got))
    )
    start = max(0, place - width // 2)
    return {"expected": expected[start : start + width], "got": got[start : start + width]}


def _compare(pairs: Mapping[str, tuple[Any, Any]]) -> Difference:
    """The first of {field: (expected, got)} that differs."""
    return next(((field, a, b) for field, (a, b) in pairs.items() if a != b), None)


def _close(expected: Any, got: Any, tolerance: float) -> bool:
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None:
        return bool(expected == got)
    return bool(abs(expected - got) <= tolerance)


def _trace(env: WebShop, record: Mapping[str, Any]) -> Difference:
    session = env.session(env.goal_list[record["goal_idx"]])
    shown = describe(session)
    available = {key: shown[key] for key in ("has_search_bar", "clickables")}
    first = {
        "first_obs": (record["first_obs"], session.text()),
        "first_available": (record["first_available"], available),
    }
    if difference := _compare(first):
        return difference
    for number, step in enumerate(record["steps"]):
        reward, done = session.step(step["action"])
        got = {**describe(session), "obs": session.text(), "reward": reward, "done": done}
        names = ("obs", "reward", "done", "has_search_bar", "clickables")
        if difference := _compare({f"steps[{number}].{name}": (step[name], got[name]) for name in names}):
            return difference
    parts = dict(session.outcome.parts) if session.outcome else None
    asin = session.opened().asin if session.product is not None else None
    return _compare(
        {
            "reward_info": (record["reward_info"], parts),
            "options": (record["options"], session.options),
            "asin": (record["asin"], asin),
        }
    )


def _reward(env: WebShop, record: Mapping[str, Any]) -> Difference:
    product = env.shop.product(env.shop.index_of(record["asin"]))
    got = score(Goal.from_dict(record["goal"]), product, record["options"], env.shop.nouns, price=record["price"])
    if not _close(record["reward"], got.reward, 1e-12):
        return "reward", record["reward"], got.reward
    info = record["info"]
    if list(info) != list(got.parts):
        return "info", info, dict(got.parts)
    return next(
        (("info." + k, info[k], part) for k, part in got.parts.items() if not _close(info[k], part, 1e-12)), None
    )


def _ranking(env: WebShop, record: Mapping[str, Any]) -> Difference:
    hits = env.shop.index.search(record["query"], 50)
    order = [env.shop.product(doc).asin for doc, _ in hits]
    expected = [asin for asin, _ in record["hits"]]
    if difference := _compare({"tokens": (record["tokens"], analyze(record["query"])), "hits": (expected, order)}):
        return difference
    for place, ((asin, points), (_, got)) in enumerate(zip(record["hits"], hits, strict=True)):
        if not _close(points, got, 1e-4):
            return f"hits[{place}] {asin}", points, got
    return None


def _terms(env: WebShop, record: Mapping[str, Any]) -> Difference:
    product = env.shop.product(record["place"])
    return _compare({"id": (record["id"], product.asin), "tokens": (record["tokens"], analyze(contents(product)))})


def _goal(env: WebShop, record: Mapping[str, Any]) -> Difference:
    if "counts" in record:
        return _compare({"counts": (record["counts"], (len(env.goal_list), len(env.shop)))})
    if "place" in record:
        return _compare({"goal": (record["goal"], env.goal_list[record["place"]].to_dict())})
    return _compare({"price": (record["price"], env.shop.product(env.shop.index_of(record["asin"])).price)})


_CHECKS: dict[str, Check] = {
    "traces": _trace,
    "rewards": _reward,
    "rankings": _ranking,
    "terms": _terms,
    "goals": _goal,
}
