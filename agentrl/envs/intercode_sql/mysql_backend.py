"""Statements on a real MySQL or MariaDB server, episodes isolated and in parallel.

Reads run read-only on a connection of a pool, so that any number of episodes share the databases.
The first write gives an episode a copy of its database under another name, dropped when the episode closes; all that
it does then happens there. Server administration, files, locks, other databases' data and executable comments are
refused before the server sees them; a statement's time and rows are capped.

The databases are created when the server does not hold them (first use of each); a database of that name with other
tables or row counts is never touched: it raises DataError.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, LifoQueue
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from agentrl.envs.intercode_sql.backend import SessionState
from agentrl.envs.intercode_sql.infoschema import NAME as INFORMATION
from agentrl.envs.intercode_sql.schema import Catalog, Database
from agentrl.envs.intercode_sql.store import CELLS, CHUNK, INTERRUPTED
from agentrl.envs.intercode_sql.syntax import SqlError, parse, syntax_error, tokens, verb, words
from agentrl.envs.intercode_sql.translate import ABOUT, DENIED, READS, WRITES
from agentrl.envs.intercode_sql.values import Result
from agentrl.errors import ConfigError, DataError, EnvError

COPY = "agentrl_copy_"
SHOWN = re.compile(
    r"\s*SHOW\s+(FULL\s+)?(TABLES|COLUMNS|FIELDS|DATABASES|SCHEMAS|INDEX|INDEXES|KEYS|CREATE\s+TABLE|TABLE\s+STATUS)\b",
    re.IGNORECASE,
)
FORBIDDEN_CALLS = words(
    "LOAD_FILE SLEEP BENCHMARK GET_LOCK RELEASE_LOCK RELEASE_ALL_LOCKS IS_FREE_LOCK IS_USED_LOCK MASTER_POS_WAIT"
    " MASTER_GTID_WAIT WAIT_FOR_EXECUTED_GTID_SET UUID_SHORT SYS_EXEC SYS_EVAL"
)
FORBIDDEN_SCHEMAS = frozenset({"mysql", "performance_schema", "sys"})
CHANGES = (exp.Insert, exp.Update, exp.Delete, exp.TruncateTable, exp.Alter)
GONE, LOST = 2006, 2013  # the client's codes of a connection that broke
TIMEOUTS = {1969, 3024, 1317}  # MariaDB's and MySQL's codes of a statement that took too long
COLLATION = "utf8mb4_general_ci"
READ_ONLY, READ_WRITE = "SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Connections at most; of one statement: seconds and rows."""

    connections: int
    timeout_s: float
    rows: int


def read_dsn(dsn: str) -> dict[str, Any]:
    """Connection arguments of ``mysql://user:password@host:port``. Raises ConfigError when it is none."""
    try:
        parts = urlsplit(dsn)
        port = parts.port or 3306
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("mysql", "mariadb") or not parts.hostname:
        raise ConfigError(f"env.dsn is {dsn!r}; expected mysql://user:password@host:port")
    user, password = unquote(parts.username or "root"), unquote(parts.password or "")
    return {"host": parts.hostname, "port": port, "user": user, "password": password}


class MysqlBackend:
    """Sessions on a server. ``databases`` brings the rows to load, ``catalog`` what they look like."""

    def __init__(self, databases: Mapping[str, Database], catalog: Catalog, dsn: str, limits: ServerLimits) -> None:
        self.catalog = catalog
        self.limits = limits
        self._databases = databases
        self._server = read_dsn(dsn)
        self._idle: LifoQueue[Any] = LifoQueue()
        self._free = threading.Semaphore(limits.connections)
        self._lock = threading.Lock()
        self._ready: set[str] = set()
        self._copies: set[str] = set()
        with self.connection() as connection:
            self.version = str(self._value(connection, "SELECT VERSION()"))
            if int(self._value(connection, "SELECT @@lower_case_table_names")) == 0:
                raise EnvError(
                    "the server tells table names apart by case; the questions do not: start it with"
                    " --lower_case_table_names=1"
                )
        self.name = f"mysql {self.version}"

    def open(self, state: SessionState) -> MysqlSession:
        return MysqlSession(self, state)

    def close(self) -> None:
        """Drops what episodes left open, closes all connections."""
        for name in list(self._copies):
            self.drop(name)
        while (connection := self._unused()) is not None:
            connection.close()

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection of the pool; one that failed, or has rows left to read, is thrown away."""
        with self._free:
            connection = self._unused() or self._connect()
            try:
                yield connection
            except BaseException:
                _discard(connection)
                raise
            if connection.open:
                self._idle.put(connection)

    def _unused(self) -> Any:
        """A connection of the pool that nobody uses, None without one."""
        try:
            return self._idle.get_nowait()
        except Empty:
            return None

    def _connect(self) -> Any:
        try:
            import pymysql
        except ImportError:
            raise ConfigError("env.backend=mysql needs pymysql; install agentrl[mysql]") from None
        try:
            connection = pymysql.connect(
                **self._server,
                charset="utf8mb4",
                collation=COLLATION,
                autocommit=True,
                local_infile=False,
                connect_timeout=10,
                read_timeout=self.limits.timeout_s + 30,
                write_timeout=self.limits.timeout_s + 30,
            )
        except (pymysql.MySQLError, OSError) as error:
            where = f"{self._server['host']}:{self._server['port']}"
            raise EnvError(
                f"no connection to the server at {where} ({error}); is it running, and env.dsn right?"
            ) from None
        maria = "mariadb" in connection.get_server_info().lower()
        seconds = self.limits.timeout_s
        limit = f"max_statement_time = {seconds}" if maria else f"max_execution_time = {int(seconds * 1000)}"
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {limit}")
            cursor.execute(READ_ONLY)
        return connection

    def _value(self, connection: Any, sql: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
        return row[0] if row else None

    def require(self, database: str) -> None:
        """Make sure that the server holds this database as the data have it."""
        with self._lock:
            if database in self._ready or database == INFORMATION:
                return
            given = self._databases.get(database)
            if given is None:
                raise EnvError(f"the data hold no database '{database}'")
            with self.connection() as connection:
                if self._value(
                    connection, f"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{database}'"
                ):
                    self._compare(connection, given)
                else:
                    connection.query(READ_WRITE)
                    connection.begin()
                    _load(connection, given)
                    connection.commit()
                    connection.query(READ_ONLY)
            self._ready.add(database)

    def _compare(self, connection: Any, given: Database) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SHOW TABLES FROM `{given.name}`")
            there = {str(row[0]).lower() for row in cursor.fetchall()}
        counts = {name: self._value(connection, f"SELECT COUNT(*) FROM `{given.name}`.`{name}`") for name in there}
        wanted = {table.name.lower(): len(given.rows.get(table.name, ())) for table in given.tables}
        if counts != wanted:
            raise DataError(
                f"the server's database '{given.name}' is not the one of these data (tables or row counts differ);"
                " use a server without a database of that name"
            )

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A cursor on a connection that may write while it is used."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(READ_WRITE)
            yield cursor
            cursor.execute(READ_ONLY)

    def copy(self, database: str) -> str:
        """A copy of a database, without foreign keys; its name."""
        name = f"{COPY}{uuid.uuid4().hex[:16]}"
        self._copies.add(name)
        with self._writing() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE {COLLATION}")
            for table in self._databases[database].tables:
                cursor.execute(f"CREATE TABLE `{name}`.`{table.name}` LIKE `{database}`.`{table.name}`")
                cursor.execute(f"INSERT INTO `{name}`.`{table.name}` SELECT * FROM `{database}`.`{table.name}`")
        return name

    def drop(self, name: str) -> None:
        with self._writing() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        self._copies.discard(name)

    def execute(self, database: str, sql: str, read_only: bool) -> Result:
        """Run one statement with this database in use, as a transaction of its own."""
        import pymysql

        with self.connection() as connection:
            try:
                if connection.db != database.encode():
                    connection.select_db(database)
                    connection.db = database.encode()
                if not read_only:
                    connection.query(READ_WRITE)
                cursor = connection.cursor(pymysql.cursors.SSCursor)
                cursor.execute(sql)
                result = self._fetch(cursor)
                if result.error is not None:
                    _discard(connection)  # rows are left to read
                    return result
                cursor.close()
            except pymysql.MySQLError as error:
                code, text = (*error.args, "", "")[:2]
                result = Result(error=INTERRUPTED if code in TIMEOUTS | {LOST} else str(text or error))
                if isinstance(error, pymysql.err.InterfaceError) or code in (GONE, LOST):
                    _discard(connection)
            except (ValueError, UnicodeError) as error:
                _discard(connection)
                return Result(error=f"Data cannot be shown: {error}")
            if not read_only and connection.open:
                connection.query(READ_ONLY)
            return result

    def _fetch(self, cursor: Any) -> Result:
        if cursor.description is None:
            return Result()
        rows: list[tuple[Any, ...]] = []
        size = 0
        while chunk := cursor.fetchmany(CHUNK):
            rows += chunk
            size += sum(len(cell) for row in chunk for cell in row if isinstance(cell, str | bytes))
            if size > CELLS:
                return Result(error=f"The result has more than {CELLS} characters; ask for fewer")
            if len(rows) > self.limits.rows:
                return Result(error=f"The result has more than {self.limits.rows} rows; ask for fewer")
        return Result(rows)


class MysqlSession:
    """One episode on a server."""

    def __init__(self, backend: MysqlBackend, state: SessionState) -> None:
        self.database = state.database
        self._backend = backend
        self._written: tuple[tuple[str, str], ...] = ()
        self._copies: dict[str, str] = {}
        backend.require(state.database)
        for database, sql in state.written:
            self.database = database
            self.run(sql)
        self.database = state.database

    def run(self, sql: str) -> Result:
        try:
            found = tokens(sql)
            word = verb(found[0].text) or found[0].text
            _check(sql, found, word)
            if word == "USE":
                return self._use(found)
            if word in WRITES:
                return self._write(sql)
            if word in READS | ABOUT or word == "(":
                self._require_all(found)
                return self._told(self._backend.execute(self._name(), self._renamed(sql, found), True))
            raise SqlError(DENIED)
        except SqlError as error:
            return Result(error=str(error))

    def _name(self) -> str:
        return self._copies.get(self.database, self.database)

    def _use(self, found: list[Token]) -> Result:
        name = found[1].text.lower() if len(found) == 2 else ""
        if name not in self._backend.catalog:
            raise SqlError(f"Unknown database '{found[1].text if len(found) > 1 else ''}'")
        self._backend.require(name)
        self.database = name
        return Result()

    def _require_all(self, found: list[Token]) -> None:
        """Databases that the statement names are loaded before it runs."""
        for token in found:
            if token.text.lower() in self._backend.catalog:
                self._backend.require(token.text.lower())

    def _renamed(self, sql: str, found: list[Token]) -> str:
        """The statement with databases that this episode has changed replaced by its copies."""
        for token, following in reversed(list(zip(found, [*found[1:], None], strict=True))):
            copy = self._copies.get(token.text.lower())
            if copy and following is not None and following.token_type == TokenType.DOT:
                sql = f"{sql[: token.start]}`{copy}`{sql[token.end + 1 :]}"
        return sql

    def _write(self, sql: str) -> Result:
        tree = parse(re.sub(r"^\s*REPLACE\s+(INTO\s+)?", "INSERT INTO ", sql, count=1, flags=re.IGNORECASE))
        tables = isinstance(tree, exp.Create | exp.Drop) and tree.kind in ("TABLE", "INDEX")
        if not isinstance(tree, CHANGES) and not tables:
            raise SqlError(DENIED)
        if any(table.db.lower() not in ("", self.database) for table in tree.find_all(exp.Table)):
            raise SqlError("Access denied: this environment changes only the database in use")
        if self.database not in self._copies:
            self._copies[self.database] = self._backend.copy(self.database)
        result = self._backend.execute(self._name(), self._renamed(sql, tokens(sql)), False)
        if result.error is None:
            self._written += ((self.database, sql),)
        return self._told(result)

    def _told(self, result: Result) -> Result:
        """Errors name the database, not the episode's copy."""
        if result.error is None:
            return result
        text = result.error
        for database, copy in self._copies.items():
            text = text.replace(copy, database)
        return Result(error=text)

    def snapshot(self) -> SessionState:
        return SessionState(self.database, self._written)

    def close(self) -> None:
        for name in self._copies.values():
            self._backend.drop(name)
        self._copies = {}


def _discard(connection: Any) -> None:
    left = getattr(connection, "_result", None)
    if left is not None:
        left.unbuffered_active = False  # nobody reads what is left
        connection._result = None
    if connection.open:
        connection._force_close()


def _check(sql: str, found: list[Token], word: str) -> None:
    """Refuse what a server would do beyond the data."""
    if re.search(r"/\*M?!", sql):
        raise syntax_error(sql, sql.index("/*"))
    if word == "SHOW" and not SHOWN.match(sql):
        raise SqlError(DENIED)
    for token, following in zip(found, [*found[1:], None], strict=True):
        name = token.text.upper()
        kind = following.token_type if following is not None else None
        if token.token_type == TokenType.STRING:
            continue
        if kind == TokenType.L_PAREN and name in FORBIDDEN_CALLS:
            raise SqlError(f"FUNCTION {token.text} does not exist")
        if kind == TokenType.DOT and name.lower() in FORBIDDEN_SCHEMAS:
            raise SqlError(f"SELECT command denied to user for table '{token.text}'")
        if name in ("OUTFILE", "DUMPFILE") or (name == "INTO" and word in READS):
            raise SqlError(DENIED)


def _load(connection: Any, given: Database) -> None:
    """Create a database with its tables and rows."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        cursor.execute(f"CREATE DATABASE `{given.name}` CHARACTER SET utf8mb4 COLLATE {COLLATION}")
        connection.select_db(given.name)
        connection.db = given.name.encode()
        for table in given.tables:
            cursor.execute(table.create_text())
            rows = list(given.rows.get(table.name, ()))
            marks = ", ".join(["%s"] * len(table.columns))
            for start in range(0, len(rows), 500):
                cursor.executemany(f"INSERT INTO `{table.name}` VALUES ({marks})", rows[start : start + 500])
        cursor.execute("SET SESSION sql_mode = @@GLOBAL.sql_mode")
