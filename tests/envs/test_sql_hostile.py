"""Statements that would harm: refused or contained, and nothing outlives the episode."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.envs.intercode_sql import InterCodeSql
from agentrl.envs.intercode_sql.backend import SessionState
from agentrl.envs.intercode_sql.schema import INT
from agentrl.envs.intercode_sql.store import Limits


@pytest.fixture(scope="module")
def backend():
    env = InterCodeSql(databases=3, questions=2, instructions=2_000_000)
    yield env.backend_of
    env.close()


@pytest.fixture
def database(backend) -> str:
    return next(name for name in backend.catalog if name != "information_schema")


@pytest.fixture
def session(backend, database):
    made = backend.open(SessionState(database))
    yield made
    made.close()


@pytest.fixture
def table(backend, database) -> str:
    return backend.catalog[database].tables[0].name


REFUSED = [
    "ATTACH DATABASE '/tmp/x' AS y",
    "PRAGMA table_list",
    "PRAGMA hard_heap_limit = 0",
    "SELECT load_extension('x')",
    "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT readfile('/etc/passwd')",
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(1000000000)",
    "SELECT printf('%1000000000d', 1)",
    "SELECT 1 INTO OUTFILE '/tmp/out'",
    "SELECT 1 INTO DUMPFILE '/tmp/out'",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE t",
    "SELECT SLEEP(100)",
    "SELECT BENCHMARK(100000000, MD5('a'))",
    "SET GLOBAL x = 1",
    "GRANT ALL ON *.* TO x",
    "SHUTDOWN",
    "BEGIN",
    "COMMIT",
    "CREATE DATABASE x",
    "DROP DATABASE music",
    "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
    "CREATE VIEW v AS SELECT 1",
    "INSERT INTO information_schema.tables VALUES (1)",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM pragma_table_list",
    "SELECT 1; DROP TABLE t",
    "SELECT @a := 1",
    "SELECT @@version",
    "SELECT '\x00'",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT " + "-" * 6000 + "1",
    "SELECT NOT " * 900 + "1",
    "SELECT " + "CASE WHEN 1 THEN " * 500 + "1" + " END" * 500,
    "SELECT " + " UNION SELECT ".join(["1"] * 600),
    "x" * 100_000,
    "SELECT 'a' REGEXP '('",
]


@pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: sql[:30])
def test_refused_or_harmless(session, sql: str) -> None:
    started = time.perf_counter()
    result = session.run(sql)
    assert time.perf_counter() - started < 30
    assert result.error is not None or result.rows in (((None,),), ((1,),), ((0,),))


BOMBS = [
    "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) FROM c",
    "SELECT COUNT(*) FROM {t} a, {t} b, {t} c, {t} d, {t} e, {t} f, {t} g, {t} h",
    "SELECT SUM(CHAR_LENGTH(REPEAT(a.name, 30000))) FROM {t} a, {t} b, {t} c",
    "SELECT REPEAT('ab', 400000) FROM {t} a, {t} b, {t} c",
    "SELECT * FROM {t} a, {t} b, {t} c, {t} d, {t} e",
    "SELECT a.name, b.name FROM {t} a, {t} b, {t} c, {t} d, {t} e ORDER BY REPEAT(a.name, 1000)",
]


@pytest.mark.parametrize("sql", BOMBS)
def test_bombs_are_cut(session, table: str, sql: str) -> None:
    result = session.run(sql.format(t=table))
    assert result.error is not None
    assert any(word in result.error for word in ("interrupted", "more than", "Memory"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT REPEAT('a', 1000000000)",
        "SELECT LPAD('a', 1000000000, 'b')",
        "SELECT SPACE(1000000000)",
        "SELECT REPLACE(REPEAT('a', 900000), 'a', REPEAT('b', 900000))",
    ],
)
def test_huge_texts_are_null(session, sql: str) -> None:
    assert session.run(sql).rows == ((None,),)


def test_a_limit_on_rows() -> None:
    env = InterCodeSql(databases=3, questions=2, max_rows=3)
    name = env.tasks("train")[0].family
    table = env.backend_of.catalog[name].tables[0].name
    session = env.backend_of.open(SessionState(name))
    assert "more than 3 rows" in session.run(f"SELECT * FROM {table}").error
    assert len(session.run(f"SELECT * FROM {table} LIMIT 3").rows) == 3


def test_the_same_statement_is_cut_at_the_same_place(database: str, table: str) -> None:
    """Instructions are counted, not seconds: the outcome does not depend on the machine's speed."""
    store = InterCodeSql(databases=3, questions=2).store
    sql = "SELECT COUNT(*) FROM " + ", ".join(f'"{database}.{table}" {alias}' for alias in "abcde")
    outcomes = [store.connect(Limits(instructions=most)).read(sql, (INT,)).error is None for most in (1000, 10_000_000)]
    assert outcomes == [False, True]


def test_writes_stay_in_their_episode(backend, database: str, table: str) -> None:
    one, other = (backend.open(SessionState(database)) for _ in range(2))
    count = f"SELECT COUNT(*) FROM {table}"
    before = one.run(count)
    assert one.run(f"DELETE FROM {table} WHERE id > 1").text == "None"
    assert one.run("CREATE TABLE mine (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(9))").text == "None"
    assert one.run("INSERT INTO mine (b) VALUES ('x'), ('Y ')").text == "None"
    assert one.run("SELECT a FROM mine WHERE b = 'y'").rows == ((2,),)
    assert one.run(count).rows == ((1,),)
    assert other.run(count) == before
    assert other.run("SELECT * FROM mine").error == f"Table '{database}.mine' doesn't exist"
    again = backend.open(one.snapshot())
    assert again.run(count).rows == ((1,),)
    assert again.run("SELECT b FROM mine").rows == (("x",), ("Y ",))
    assert one.run("DROP TABLE mine").text == "None"
    assert again.run("SELECT COUNT(*) FROM mine").rows == ((2,),)
    for made in (one, other, again):
        made.close()
    assert backend.open(SessionState(database)).run(count) == before


def test_a_failed_write_changes_nothing(session, table: str) -> None:
    before = session.run(f"SELECT * FROM {table}")
    names = ", ".join(["NULL"] * len(before.rows[0][1:]))
    result = session.run(f"INSERT INTO {table} VALUES (777, {names}), (1, {names})")
    assert result.error.startswith("Duplicate entry")
    assert session.run(f"SELECT * FROM {table}") == before
    assert session.snapshot().written == ()


WRITES = {
    "UPDATE {t} SET name = 'New', id = id + 100 WHERE id = 1": "SELECT name FROM {t} WHERE id = 101",
    "REPLACE INTO {t} (id, name) VALUES (1, 'New')": "SELECT name FROM {t} WHERE id = 1",
    "INSERT INTO {t} (name) VALUES ('New')": "SELECT name FROM {t} ORDER BY id DESC LIMIT 1",
    "CREATE TABLE n AS SELECT 'New' AS name FROM {t} LIMIT 1": "SELECT name FROM n",
    "ALTER TABLE {t} ADD COLUMN z VARCHAR(9)": "SELECT IFNULL(MAX(z), 'New') FROM {t}",
    "RENAME TABLE {t} TO n": "SELECT 'New' FROM n LIMIT 1",
}


@pytest.mark.parametrize("sql", WRITES)
def test_writes_do_what_they_say(session, table: str, sql: str) -> None:
    assert session.run(sql.format(t=table)).text == "None"
    assert session.run(WRITES[sql].format(t=table)).rows == (("New",),)


WORDS = (
    "SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT JOIN ON AS AND OR NOT IN ( ) , * . = > 'a' 1 name id count(*) NULL"
    ' UNION ALL EXISTS CASE WHEN THEN END LIKE BETWEEN DISTINCT singer INTERVAL DAY -- /* */ ; ` " @ %'
    " CREATE TABLE"
)
PIECES = st.sampled_from(WORDS.split(" "))


@given(st.lists(PIECES, max_size=14))
@settings(max_examples=150, deadline=None)
def test_any_words_get_an_answer(words) -> None:
    """No text of SQL words raises."""
    session = SHARED.open(SessionState(FIRST))
    result = session.run(" ".join(words))
    assert result.error is None or result.error
    session.close()


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_gets_an_answer(text: str) -> None:
    session = SHARED.open(SessionState(FIRST))
    for sql in (text, f"SELECT {text}", f"SELECT * FROM {text}"):
        assert session.run(sql).text
    session.close()


SHARED = InterCodeSql(databases=3, questions=2).backend_of
FIRST = random.Random(0).choice(sorted(name for name in SHARED.catalog if name != "information_schema"))
