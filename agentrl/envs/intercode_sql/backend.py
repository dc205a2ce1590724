"""Where statements run: the contract of a backend, and the one on SQLite.

A session is one episode's view of the databases. Reads of all sessions share one connection and a cache of results;
the first write gives a session its own copy, so that nothing it does is seen by another or outlives it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from agentrl.envs.intercode_sql.schema import Catalog, Database
from agentrl.envs.intercode_sql.store import Connection, Limits, Store
from agentrl.envs.intercode_sql.translate import Plan, translate
from agentrl.envs.intercode_sql.values import Result

CACHED_PLANS, CACHED_RESULTS = 8192, 4096
CACHED_ROWS = 2000  # longer results are not remembered


class Session(Protocol):
    """One episode's use of the databases."""

    @property
    def database(self) -> str:
        """The one in use, in lower case."""
        ...

    def run(self, sql: str) -> Result:
        """Execute one statement; whatever goes wrong is a ``Result`` with an error."""
        ...

    def snapshot(self) -> SessionState: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionState:
    """From which a backend makes an equal session: the database in use, and all that was written, in order."""

    database: str
    written: tuple[tuple[str, str], ...] = ()  # (database in use, statement)


class Backend(Protocol):
    """A data set that sessions can be opened on."""

    @property
    def name(self) -> str: ...

    @property
    def catalog(self) -> Catalog: ...

    def open(self, state: SessionState) -> Session: ...

    def close(self) -> None: ...


class SqliteBackend:
    """Sessions on one shared, read-only SQLite connection."""

    name = "sqlite"

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._shared = store.connect(limits)
        self._results: OrderedDict[tuple[str, str], Result] = OrderedDict()
        self._lock = threading.Lock()
        self.plan = lru_cache(CACHED_PLANS)(self._plan)

    @property
    def catalog(self) -> Catalog:
        return self._store.catalog

    def _plan(self, database: str, sql: str) -> Plan:
        return translate(sql, self._store.catalog, database)

    def open(self, state: SessionState) -> SqliteSession:
        return SqliteSession(self, state)

    def read(self, database: str, sql: str, plan: Plan) -> Result:
        """The result of a query on the untouched data, remembered."""
        key = (database, sql)
        with self._lock:
            known = self._results.get(key)
            if known is not None:
                self._results.move_to_end(key)
                return known
        result = self._shared.read(plan.sql[0], plan.types)
        if len(result.rows or ()) <= CACHED_ROWS:
            with self._lock:
                self._results[key] = result
                if len(self._results) > CACHED_RESULTS:
                    self._results.popitem(last=False)
        return result

    def copy(self) -> Connection:
        """A writable copy of the data."""
        return self._store.connect(self._limits, writable=True)

    def forget(self) -> None:
        """Empty the caches (for measurements of first runs)."""
        self.plan.cache_clear()
        self._results.clear()

    def close(self) -> None:
        self._shared.close()


class SqliteSession:
    """One episode on SQLite."""

    def __init__(self, backend: SqliteBackend, state: SessionState) -> None:
        self.database = state.database
        self._backend = backend
        self._written: tuple[tuple[str, str], ...] = ()
        self._own: Connection | None = None
        self._catalog: dict[str, Database] = {}
        for database, sql in state.written:
            self.database = database
            self.run(sql)
        self.database = state.database

    def run(self, sql: str) -> Result:
        if self._own is None:
            plan = self._backend.plan(self.database, sql)
        else:
            plan = translate(sql, self._catalog, self.database)
        if plan.kind == "answer":
            return plan.result
        if plan.kind == "use":
            self.database = plan.database
            return Result()
        if plan.kind == "write":
            return self._write(sql, plan)
        if self._own is None:
            return self._backend.read(self.database, sql, plan)
        return self._own.read(plan.sql[0], plan.types)

    def _write(self, sql: str, plan: Plan) -> Result:
        if self._own is None:
            self._own = self._backend.copy()
            self._catalog = dict(self._backend.catalog)
        result = self._own.write(plan.sql)
        if result.error is None:
            self._written += ((self.database, sql),)
            for name, table in plan.changed:
                known = self._catalog[plan.database]
                tables = [t for t in known.tables if t.name.lower() != name]
                self._catalog[plan.database] = replace(known, tables=(*tables, *([table] if table else [])))
        return result

    def snapshot(self) -> SessionState:
        return SessionState(self.database, self._written)

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a session cannot be pickled; pickle its snapshot")
