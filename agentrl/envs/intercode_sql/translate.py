"""One statement of MySQL becomes a plan for SQLite. Plans depend on the text, the catalogue and the database in use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from agentrl.envs.intercode_sql import meta
from agentrl.envs.intercode_sql.queries import Queries
from agentrl.envs.intercode_sql.schema import Catalog, SqlType, Table
from agentrl.envs.intercode_sql.syntax import SqlError, parse, tokens, verb
from agentrl.envs.intercode_sql.values import Result

READS = frozenset({"SELECT", "WITH"})
ABOUT = frozenset({"SHOW", "DESC", "DESCRIBE", "EXPLAIN"})
WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER", "TRUNCATE", "RENAME"})
DENIED = "Access denied; you need (at least one of) the SUPER privilege(s) for this operation"
UNKNOWN = "This version of MySQL doesn't yet support 'this statement'"
TOO_DEEP = "Memory capacity exceeded: the statement nests too deeply"


@dataclass(frozen=True)
class Plan:
    """What to do for a statement.

    ``read``: run ``sql[0]``, convert by ``types``. ``answer``: give ``result``. ``use``: switch to ``database``.
    ``write``: run all of ``sql`` in the episode's own copy; ``changed`` tables of ``database`` are new, or gone (None).
    """

    kind: Literal["read", "answer", "use", "write"]
    sql: tuple[str, ...] = ()
    types: tuple[SqlType, ...] = ()
    result: Result = field(default_factory=Result)
    database: str = ""
    changed: tuple[tuple[str, Table | None], ...] = ()


def translate(sql: str, catalog: Catalog, database: str) -> Plan:
    """The plan of a statement; a refused one is an ``answer`` with the error."""
    try:
        return _plan(sql, catalog, database)
    except SqlError as error:
        return Plan("answer", result=Result(error=str(error)))
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, AssertionError):  # a tree of a shape never met
        return Plan("answer", result=Result(error=UNKNOWN))
    except RecursionError:
        return Plan("answer", result=Result(error=TOO_DEEP))


def _plan(sql: str, catalog: Catalog, database: str) -> Plan:
    found = tokens(sql)
    word = verb(sql) or found[0].text.upper()
    if word in READS or found[0].text == "(":
        tree = parse(sql, found)
        bound, outputs = Queries(catalog, database).bind(tree)
        return Plan("read", (bound.sql(dialect="sqlite", copy=False),), tuple(output.type for output in outputs))
    if word in ABOUT:
        return Plan("answer", result=meta.answer(sql, catalog, database))
    if word == "USE":
        return Plan("use", database=meta.use(sql, catalog))
    if word in WRITES:
        from agentrl.envs.intercode_sql.writes import write_plan

        return write_plan(sql, catalog, database)
    raise SqlError(DENIED)
