"""The same environment on a real server: a throw-away MariaDB, started here; skipped where it is not installed."""

import importlib.util
import threading
from pathlib import Path

import pytest

from agentrl.envs.check import check_env
from agentrl.envs.intercode_sql import InterCodeSql
from agentrl.envs.intercode_sql.backend import SessionState
from agentrl.envs.intercode_sql.mysql_backend import COPY, MysqlBackend, ServerLimits, read_dsn
from agentrl.envs.intercode_sql.replay import replay
from agentrl.errors import ConfigError, DataError, EnvError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "data" / "intercode_sql"
SMALL = {"databases": 4, "questions": 4, "val": 2, "test": 3}


def script():
    spec = importlib.util.spec_from_file_location("mariadb_server", ROOT / "scripts" / "mariadb_server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dsn():
    server = script()
    if reason := server.missing():
        pytest.skip(f"MariaDB {reason}")
    pytest.importorskip("pymysql")
    with server.server() as address:
        yield address


@pytest.fixture(scope="module")
def env(dsn):
    made = InterCodeSql(**SMALL, backend="mysql", dsn=dsn, timeout_s=1.0, max_rows=500, connections=3)
    yield made
    made.close()


@pytest.fixture
def session(env):
    made = env.backend_of.open(SessionState(env.tasks("train")[0].family))
    yield made
    made.close()


def copies(env) -> list[str]:
    shown = env.backend_of.execute("information_schema", f"SHOW DATABASES LIKE '{COPY}%'", True)
    return [row[0] for row in shown.rows]


def test_the_contract(env) -> None:
    assert check_env(env, tasks=2) == []
    assert "MariaDB" in env.fingerprint["backend"]


def test_both_backends_answer_alike(env) -> None:
    other = InterCodeSql(**SMALL)
    for task in env.tasks("train"):
        gold = task.data["question"]["gold"]
        one, two = (e.backend_of.open(SessionState(task.family)) for e in (env, other))
        assert sorted(one.run(gold).texts) == sorted(two.run(gold).texts)
        for sql in ("SHOW TABLES", "SELECT x FROM nowhere"):
            assert one.run(sql).text == two.run(sql).text


def test_writes_stay_in_their_episode(env, session) -> None:
    table = env.backend_of.catalog[session.database].tables[0].name
    count = f"SELECT COUNT(*) FROM {session.database}.{table}"
    before = session.run(count)
    other = env.backend_of.open(SessionState(session.database))
    assert session.run(f"DELETE FROM {table} WHERE id > 1").text == "None"
    assert session.run("CREATE TABLE mine (a INT)").text == "None"
    assert session.run(count).rows == ((1,),)
    assert other.run(count) == before
    assert COPY not in session.run("SELECT * FROM gone").text
    again = env.backend_of.open(session.snapshot())
    assert again.run(count).rows == ((1,),)
    again.close()
    session.close()
    assert copies(env) == []
    assert env.backend_of.open(SessionState(session.database)).run(count) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT SLEEP(100)",
        "SELECT LOAD_FILE('/etc/passwd')",
        "SELECT 1 INTO OUTFILE '/tmp/agentrl_never'",
        "SELECT User FROM mysql.user",
        "SELECT /*! SLEEP(9), */ 1",
        "SELECT /*M! SLEEP(9), */ 1",
        "SET GLOBAL max_connections = 1",
        "SHOW GRANTS",
        "SHOW PROCESSLIST",
        "DROP DATABASE mysql",
        "CREATE DATABASE agentrl_never",
        "GRANT ALL ON *.* TO x",
        "COMMIT",
        "KILL 1",
        "USE mysql",
        "INSERT INTO mysql.db VALUES (1)",
        "DELETE FROM {other}.{table}",
        "SELECT 1; DROP TABLE {table}",
        "CREATE PROCEDURE p() SELECT 1",
        "HANDLER t OPEN",
    ],
)
def test_refused(env, session, sql: str) -> None:
    other = next(n for n in env.backend_of.catalog if n not in (session.database, "information_schema"))
    table = env.backend_of.catalog[other].tables[0].name
    assert session.run(sql.format(other=other, table=table)).error is not None
    assert copies(env) == []


def test_runaway_statements_are_cut(env, session) -> None:
    table = env.backend_of.catalog[session.database].tables[0].name
    joined = ", ".join(f"{table} t{i}" for i in range(9))
    assert "interrupted" in session.run(f"SELECT COUNT(*), SUM(SQRT(t0.id + t8.id)) FROM {joined}").error
    assert "more than 500 rows" in session.run(f"SELECT t0.id FROM {joined}").error
    assert session.run("SELECT 1").rows == ((1,),)


def test_episodes_in_parallel(env) -> None:
    """More threads than connections; each deletes in its own copy and sees only that."""
    name = env.tasks("train")[0].family
    table = env.backend_of.catalog[name].tables[0].name
    seen: dict[int, object] = {}

    def play(number: int) -> None:
        mine = env.backend_of.open(SessionState(name))
        mine.run(f"DELETE FROM {table} WHERE id > {number}")
        seen[number] = mine.run(f"SELECT MAX(id) FROM {table}").rows
        mine.close()

    threads = [threading.Thread(target=play, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: ((number,),) for number in range(1, 6)}
    assert copies(env) == []


def test_a_database_of_other_content_is_not_touched(env, dsn) -> None:
    name = env.tasks("train")[0].family
    other = InterCodeSql(**SMALL, seed=5, backend="mysql", dsn=dsn)
    databases = {name: next(iter(other._loaded[0].values()))}
    backend = MysqlBackend(databases, env.store.catalog, dsn, ServerLimits(1, 1.0, 10))
    databases[name] = type(databases[name])(name, databases[name].tables, {})
    with pytest.raises(DataError, match="not the one of these data"):
        backend.open(SessionState(name))
    backend.close()


@pytest.mark.slow
def test_recorded_turns_on_the_server(dsn) -> None:
    if not (FOLDER / "ic_spider_dev.json").is_file():
        pytest.skip(f"shared data not found: {FOLDER.name}/ beside the repository")
    spider = InterCodeSql(data=str(FOLDER), backend="mysql", dsn=dsn)
    try:
        gold = replay(spider, FOLDER / "gold_results_mariadb.jsonl.gz")
        assert gold["agree"] == gold["cases"] == 517
        assert gold["exact"] >= 500
    finally:
        spider.close()


@pytest.mark.parametrize("dsn", ["", "localhost", "http://x", "mysql://", "mysql://host:port"])
def test_wrong_addresses_are_told(dsn: str) -> None:
    with pytest.raises(ConfigError, match="mysql://user:password@host:port"):
        read_dsn(dsn)


def test_an_address_is_read() -> None:
    expected = {"host": "h", "port": 3307, "user": "a", "password": "p@w"}
    assert read_dsn("mysql://a:p%40w@h:3307") == expected


def test_no_server_is_told() -> None:
    pytest.importorskip("pymysql")
    env = InterCodeSql(**SMALL, backend="mysql", dsn=f"mysql://root@127.0.0.1:{script().free_port()}")
    with pytest.raises(EnvError, match="no connection to the server"):
        env.start(env.tasks("train")[0])
