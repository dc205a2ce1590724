"""What a statement leaves to the engine: the order of rows that nothing orders, and which of tied rows LIMIT keeps.

Used to prove that a difference between two engines is one of those, by running variants of the statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, permutations

from sqlglot import exp

from agentrl.envs.intercode_sql.syntax import SqlError, parse
from agentrl.envs.intercode_sql.values import Result, Row

Run = Callable[[str, str], Result]  # (database, statement)
MOST = 400  # variants that are tried


def alternatives(run: Run, database: str, sql: str) -> list[Result]:
    """Results that the statement may rightly give: our own first, then those of other choices among tied rows."""
    try:
        tree = parse(sql)
    except SqlError:
        return [run(database, sql)]
    return list(islice(_variants(run, database, sql, tree), MOST))


def same_rows_in_open_order(run: Run, database: str, sql: str, got: Result | None, recorded: Result | None) -> bool:
    """Do two results hold the same rows, and does the statement leave their order open?

    Without results: does it leave the order open at all (no ORDER BY, or ties under it)?
    """
    if got is not None and recorded is not None and Counter(got.texts) != Counter(recorded.texts):
        return False
    try:
        tree = parse(sql)
    except SqlError:
        return False
    if not isinstance(tree, exp.Query):
        return False
    if tree.args.get("order") is None:
        return True
    keyed = _with_keys(run, database, tree)
    if keyed is None:
        return False
    if got is None or recorded is None:
        return len({keys for _, keys in keyed}) < len(keyed)
    known: dict[str, set[Row]] = {}
    for row, keys in keyed:
        known.setdefault(str(row), set()).add(keys)
    if any(len(keys) > 1 for keys in known.values()):
        return True
    return [known.get(text) for text in got.texts] == [known.get(text) for text in recorded.texts]


def _variants(run: Run, database: str, sql: str, tree: exp.Expr) -> Iterator[Result]:
    yield run(database, sql)
    inner = [
        node for node in tree.find_all(exp.Select) if node is not tree and _limit(node) == 1 and node.args.get("order")
    ]
    for node in inner:
        for place in range(1, _tied_with_first(run, database, node)):
            node.set("offset", exp.Offset(expression=exp.Literal.number(place)))
            text = tree.sql(dialect="mysql")
            node.set("offset", None)
            yield from _own_ties(run, database, parse(text))
            yield run(database, text)
    yield from _own_ties(run, database, tree)


def _own_ties(run: Run, database: str, tree: exp.Expr) -> Iterator[Result]:
    """Other orders and cuts of the outermost ORDER BY ... LIMIT."""
    most = _limit(tree)
    if most is None or not isinstance(tree, exp.Select) or not tree.args.get("order"):
        return
    keyed = _with_keys(run, database, tree)
    if keyed is None:
        return
    groups: dict[Row, list[Row]] = {}
    for row, keys in keyed:
        groups.setdefault(keys, []).append(row)
    yield from (Result(rows) for rows in _choices(list(groups.values()), most))


def _choices(groups: list[list[Row]], most: int) -> Iterator[list[Row]]:
    """All ways to fill ``most`` places, group after group, each group in any order."""
    if not groups or most <= 0:
        yield []
        return
    size = min(len(groups[0]), most)
    for chosen in permutations(groups[0], size):
        for rest in _choices(groups[1:], most - size):
            yield [*chosen, *rest]


def _tied_with_first(run: Run, database: str, node: exp.Select) -> int:
    """How many rows tie for the first place (1 where that cannot be told)."""
    keyed = _with_keys(run, database, node)
    return 1 if not keyed else sum(keys == keyed[0][1] for _, keys in keyed)


def _with_keys(run: Run, database: str, tree: exp.Expr) -> list[tuple[Row, Row]] | None:
    """All rows without the LIMIT, in order, each with the values it is ordered by."""
    if not isinstance(tree, exp.Select):
        return None
    query = tree.copy()
    query.set("limit", None)
    query.set("offset", None)
    aliases = {item.alias.lower(): item.this for item in query.expressions if isinstance(item, exp.Alias)}
    keys = []
    for item in query.args["order"].expressions:
        key = item.this
        if isinstance(key, exp.Literal) and not key.is_string:
            key = query.expressions[int(key.name) - 1].unalias()
        elif isinstance(key, exp.Column) and not key.table:
            key = aliases.get(key.name.lower(), key)
        keys.append(key.copy())
    query.set("expressions", [*query.expressions, *keys])
    result = run(database, query.sql(dialect="mysql"))
    if result.rows is None:
        return None
    return [(row[: -len(keys)], row[-len(keys) :]) for row in result.rows]


def _limit(tree: exp.Expr) -> int | None:
    limit = tree.args.get("limit")
    text = limit.expression.name if limit is not None and limit.expression is not None else ""
    return int(text) if text.isdigit() else None
