"""MySQL on SQLite: values and their types, comparisons, names, error texts; one small database by hand."""

from datetime import date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.envs.intercode_sql.backend import SessionState, SqliteBackend
from agentrl.envs.intercode_sql.collation import compare, is_plain
from agentrl.envs.intercode_sql.dump import read_dump
from agentrl.envs.intercode_sql.store import Limits, build
from agentrl.errors import DataError

DUMP = """
-- a dump
CREATE DATABASE IF NOT EXISTS `Zoo` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;
USE `Zoo`;
/*!40101 SET NAMES utf8 */;
CREATE TABLE `Keeper` (
  `id` int NOT NULL AUTO_INCREMENT,
  `Name` varchar(20) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO `Keeper` VALUES (2,'Zoë '),(1,'Max'),(3,'O\\'Hara; (really)');
CREATE TABLE `animal` (
  `id` int NOT NULL,
  `kind` text,
  `weight` float(5,2) DEFAULT NULL,
  `cost` decimal(10,2) DEFAULT NULL,
  `age` int DEFAULT '3',
  `born` date DEFAULT NULL,
  `seen` datetime DEFAULT NULL,
  `code` varchar(8) DEFAULT NULL,
  `keeper_id` int DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `k` (`keeper_id`),
  CONSTRAINT `f` FOREIGN KEY (`keeper_id`) REFERENCES `Keeper` (`id`)
) ENGINE=InnoDB;
INSERT INTO `animal` VALUES (1,'Lion',190.55,1000.5,4,'2019-05-01','2024-01-02 10:00:00','12a',1),
(2,'lion ',180.1,NULL,7,'2016-02-29','2024-01-02 00:00:00','7',1),(3,'Emu',40,20,NULL,NULL,NULL,'x',2);
CREATE DATABASE `other`;
USE `other`;
CREATE TABLE `t` (`a` int NOT NULL) ENGINE=InnoDB;
INSERT INTO `t` VALUES (5);
"""


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    path = tmp_path_factory.mktemp("dump") / "zoo.sql"
    path.write_text(DUMP, encoding="utf-8")
    made = SqliteBackend(build(read_dump(path)), Limits())
    yield made
    made.close()


@pytest.fixture
def run(backend):
    session = backend.open(SessionState("zoo"))
    yield session.run
    session.close()


ROWS = {
    # types of the client
    "SELECT id, kind, weight, cost, born, seen FROM animal WHERE id = 1": [
        (1, "Lion", 190.55, Decimal("1000.50"), date(2019, 5, 1), datetime(2024, 1, 2, 10, 0))
    ],
    "SELECT COUNT(*), SUM(age), AVG(age), MAX(born), MIN(weight) FROM animal": [
        (3, Decimal("11"), Decimal("5.5000"), date(2019, 5, 1), 40.0)
    ],
    "SELECT AVG(weight), SUM(cost), AVG(cost) FROM animal": [(136.883336, Decimal("1020.50"), Decimal("510.250000"))],
    "SELECT 7 / 2, 7 DIV 2, 7 % 2, 1.5 * 2, 1 / 0, '3x' + 4": [(Decimal("3.5000"), 3, 1, Decimal("3.0"), None, 7.0)],
    "SELECT 1 = 1, NOT 1, NULL IS NULL, 2 BETWEEN 1 AND 3, 1 XOR 1": [(1, 0, 1, 1, 0)],
    "SELECT CASE WHEN age > 5 THEN 'old' END, IF(age IS NULL, 0, age) FROM animal": [(None, 4), ("old", 7), (None, 0)],
    "SELECT CAST('12.345' AS DECIMAL(5,2)), CAST('9x' AS SIGNED), CAST(3.5 AS CHAR)": [(Decimal("12.35"), 9, "3.5")],
    # texts: case, accents and trailing spaces do not count
    "SELECT id FROM animal WHERE kind = 'LION'": [(1,), (2,)],
    'SELECT id FROM Keeper WHERE NAME = "zoe"': [(2,)],
    "SELECT COUNT(DISTINCT kind) FROM animal": [(2,)],
    "SELECT kind, COUNT(*) FROM animal GROUP BY kind": [("Emu", 1), ("Lion", 2)],
    "SELECT id FROM keeper WHERE name LIKE 'ZOE%'": [(2,)],
    "SELECT id FROM animal WHERE kind NOT LIKE 'l%'": [(3,)],
    "SELECT UPPER(kind) = 'lion' FROM animal WHERE id < 3": [(1,), (1,)],
    "SELECT 'a' = 'A ', BINARY 'a' = 'A', 'a_c' LIKE 'a\\_c', 'abc' LIKE 'a\\_c'": [(1, 0, 1, 0)],
    # text against number, date against text
    "SELECT id FROM animal WHERE code > 7": [(1,)],
    "SELECT id FROM animal WHERE code = 0": [(3,)],
    "SELECT id FROM animal WHERE id = '2'": [(2,)],
    "SELECT id FROM animal WHERE born > '2018-1-1'": [(1,)],
    "SELECT id FROM animal WHERE seen > '2024-01-02'": [(1,)],
    "SELECT id FROM animal WHERE seen = '2024-01-02'": [(2,)],
    "SELECT id FROM animal WHERE born IN ('2016-02-29', '2000-01-01')": [(2,)],
    "SELECT id FROM animal WHERE code IN (7, 99)": [(2,)],
    # functions
    "SELECT CONCAT(name, '-', id), LENGTH(name), CHAR_LENGTH(name) FROM keeper WHERE id = 2": [("Zoë -2", 5, 4)],
    "SELECT CONCAT('a', NULL), CONCAT_WS(',', 'a', NULL, 'b'), IFNULL(NULL, 2), NULLIF(1, 1)": [(None, "a,b", 2, None)],
    "SELECT YEAR(born), MONTH(born), DAY(born), DAYNAME(born) FROM animal WHERE id = 2": [(2016, 2, 29, "Monday")],
    "SELECT born + INTERVAL 1 YEAR, DATEDIFF('2019-05-03', born) FROM animal WHERE id = 1": [(date(2020, 5, 1), 2)],
    "SELECT DATE_ADD('2016-01-31', INTERVAL 1 MONTH), TIMESTAMPDIFF(MONTH, '2016-01-31', '2016-03-30')": [
        (datetime(2016, 2, 29), 1)
    ],
    "SELECT STR_TO_DATE('05/01/2019', '%m/%d/%Y'), DATE_FORMAT('2019-05-01', '%d.%c.%y %M')": [
        (date(2019, 5, 1), "01.5.19 May")
    ],
    "SELECT LEFT('abcd', 2), RIGHT('abcd', 3), SUBSTRING('abcd', 2, 2), SUBSTR('abcd', -2), LPAD('7', 3, '0')": [
        ("ab", "bcd", "bc", "cd", "007")
    ],
    "SELECT ROUND(2.5), ROUND(AVG(age), 1), TRUNCATE(1.999, 1), CEIL(1.2), MOD(-7, 3), GREATEST(1, 5, 3) FROM animal": [
        (Decimal("3"), Decimal("5.5"), Decimal("1.9"), 2, -1, 5)
    ],
    "SELECT GROUP_CONCAT(name ORDER BY id DESC SEPARATOR '|') FROM keeper": [("O'Hara; (really)|Zoë |Max",)],
    "SELECT DATABASE(), 'b' REGEXP '^[a-c]$', LOCATE('B', 'abc')": [("zoo", 1, 2)],
    # names, joins, stars
    "SELECT * FROM keeper NATURAL JOIN other.t WHERE id = 1": [(1, "Max", 5)],
    "SELECT a.id, k.Name FROM animal a LEFT JOIN keeper k ON k.id = a.keeper_id AND k.id = 2 ORDER BY a.id": [
        (1, None),
        (2, None),
        (3, "Zoë "),
    ],
    "SELECT k.id, COUNT(a.id) AS n FROM animal a RIGHT JOIN keeper k ON keeper_id = k.id GROUP BY 1 ORDER BY n DESC": [
        (1, 2),
        (2, 1),
        (3, 0),
    ],
    "SELECT id, t.* FROM keeper JOIN other.t ORDER BY 1 LIMIT 1, 1": [(2, 5)],
    "SELECT keeper.* FROM keeper JOIN animal USING (id) WHERE id = 3": [(3, "O'Hara; (really)")],
    "SELECT kind AS k, MAX(age) AS m FROM animal GROUP BY k HAVING m > 1 ORDER BY m": [("Lion", 7)],
    "SELECT id, MAX(age) FROM animal": [(1, 7)],  # the first row's id, not that of the greatest age
    "SELECT q.n FROM (SELECT COUNT(*) AS n FROM animal) AS q": [(3,)],
    # sets: in order of first appearance
    "SELECT 3 UNION SELECT 1 UNION SELECT 3": [(3,), (1,)],
    "SELECT id FROM keeper EXCEPT SELECT 1": [(2,), (3,)],
    "SELECT kind FROM animal INTERSECT SELECT 'LION'": [("Lion",)],
    "(SELECT id FROM keeper ORDER BY id DESC LIMIT 1) UNION ALL (SELECT 9) ORDER BY 1 DESC": [(9,), (3,)],
    "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < 3) SELECT SUM(n) FROM c": [
        (Decimal("6"),)
    ],
    # subqueries
    "SELECT id FROM animal a WHERE age > (SELECT AVG(age) FROM animal b WHERE b.keeper_id = a.keeper_id)": [(2,)],
    "SELECT id FROM animal WHERE id >= ALL (SELECT id FROM animal)": [(3,)],
    "SELECT id FROM keeper WHERE id NOT IN (SELECT keeper_id FROM animal)": [(3,)],
    "SELECT EXISTS (SELECT 1 FROM animal WHERE id = 9)": [(0,)],
    "SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) FROM keeper ORDER BY id": [(1, 3), (2, 2), (3, 1)],
    # about the databases
    "SHOW TABLES": [("animal",), ("keeper",)],
    "SHOW TABLES FROM other": [("t",)],
    "SHOW TABLES LIKE 'K%'": [("keeper",)],
    "DESC keeper": [("id", "int", "NO", "PRI", None, "auto_increment"), ("Name", "varchar(20)", "YES", "", None, "")],
    "SHOW COLUMNS FROM animal LIKE 'keep%'": [("keeper_id", "int", "YES", "MUL", None, "")],
    "DESCRIBE animal age": [("age", "int", "YES", "", "3", "")],
    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'OTHER'": [("a",)],
    "SELECT table_name, table_rows FROM information_schema.tables WHERE table_schema = DATABASE()": [
        ("animal", 3),
        ("keeper", 3),
    ],
    "EXPLAIN SELECT * FROM keeper": [(1, "SIMPLE", "keeper", None, "ALL", None, None, None, None, None, 100.0, None)],
}
SYNTAX = "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the"
ERRORS = {
    "SELECT x FROM animal": "Unknown column 'x' in 'field list'",
    "SELECT a.x FROM animal a": "Unknown column 'a.x' in 'field list'",
    "SELECT id FROM animal WHERE x = 1": "Unknown column 'x' in 'where clause'",
    "SELECT id FROM animal ORDER BY x": "Unknown column 'x' in 'order clause'",
    "SELECT id FROM animal GROUP BY x": "Unknown column 'x' in 'group statement'",
    "SELECT id FROM animal GROUP BY id HAVING age > 1": "Unknown column 'age' in 'having clause'",
    "SELECT a.id FROM animal a JOIN keeper k ON a.x = k.id": "Unknown column 'a.x' in 'on clause'",
    "SELECT id FROM animal WHERE x IN (SELECT 1)": "Unknown column 'x' in 'IN/ALL/ANY subquery'",
    "SELECT id AS i FROM animal WHERE i = 1": "Unknown column 'i' in 'where clause'",
    "SELECT id FROM animal, keeper": "Column 'id' in field list is ambiguous",
    "SELECT x FROM nowhere": "Table 'zoo.nowhere' doesn't exist",
    "SELECT 1 FROM nodb.t": "Unknown database 'nodb'",
    "SELECT x FROM animal WHERE id IN (SELECT 1 FROM nowhere)": "Table 'zoo.nowhere' doesn't exist",
    "USE nowhere": "Unknown database 'nowhere'",
    "SELECT (SELECT id FROM animal)": "Subquery returns more than 1 row",
    "SELECT id FROM animal WHERE id = (SELECT 1, 2)": "Operand should contain 1 column(s)",
    "SELECT id FROM animal WHERE COUNT(*) > 1": "Invalid use of group function",
    "SELECT 1 UNION SELECT 1, 2": "The used SELECT statements have a different number of columns",
    "SELECT id FROM animal WHERE id IN (SELECT 1 LIMIT 1)": (
        "This version of MySQL doesn't yet support 'LIMIT & IN/ALL/ANY/SOME subquery'"
    ),
    "SELECT * FROM (SELECT 1)": "Every derived table must have its own alias",
    "SELECT 1 FROM animal JOIN animal ON 1": "Not unique table/alias: 'animal'",
    "SELECT nofunction(1)": "FUNCTION zoo.nofunction does not exist",
    "SELECT LEFT('a')": "Incorrect parameter count in the call to native function 'LEFT'",
    "SELECT COUNT (*) FROM animal": f"{SYNTAX} right syntax to use near '*) FROM animal' at line 1",
    "SELECT AVG(id) FROM SHOW": f"{SYNTAX} right syntax to use near 'SHOW' at line 1",
    "SELECT id FROM <table>": f"{SYNTAX} right syntax to use near '<table>' at line 1",
    "SELECT id\nFROM animal WHERE 1\nJOIN keeper": f"{SYNTAX} right syntax to use near 'JOIN keeper' at line 3",
    "SELECT id FROM animal LIMIT 1 UNION SELECT 1": f"{SYNTAX} right syntax to use near 'UNION SELECT 1' at line 1",
    "SELECT id, FROM animal": f"{SYNTAX} right syntax to use near 'FROM animal' at line 1",
    "SELECT id, * FROM animal": f"{SYNTAX} right syntax to use near '* FROM animal' at line 1",
    "SELECT 'open": f"{SYNTAX} right syntax to use near ''open' at line 1",
    "I would look first": f"{SYNTAX} right syntax to use near 'I would look first' at line 1",
    "SELECT id FROM animal WHERE (id": f"{SYNTAX} right syntax to use near '' at line 1",
    "": "Query was empty",
    "SELECT 1; SELECT 2": "Use multi=True when executing multiple statements",
}


@pytest.mark.parametrize("sql", ROWS)
def test_rows(run, sql: str) -> None:
    result = run(sql)
    assert result.error is None, result.error
    assert list(result.rows) == ROWS[sql]
    assert [[type(cell) for cell in row] for row in result.rows] == [[type(cell) for cell in row] for row in ROWS[sql]]


@pytest.mark.parametrize("sql", ERRORS)
def test_errors(run, sql: str) -> None:
    assert run(sql).error == ERRORS[sql]


def test_observation_texts(run) -> None:
    assert run("SELECT cost, born FROM animal WHERE id = 1").text == "[(Decimal('1000.50'), datetime.date(2019, 5, 1))]"
    assert run("SELECT 1 FROM animal WHERE 0").text == "[]"
    assert run("USE other").text == "None"
    assert run("SELECT * FROM t").text == "[(5,)]"
    assert run("SELECT x FROM t").text == "Error executing query: Unknown column 'x' in 'field list'"


def test_rows_lie_in_order_of_the_key(run) -> None:
    assert [row[0] for row in run("SELECT * FROM keeper").rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: "", "no CREATE TABLE"),
        (lambda text: text.replace("USE `Zoo`;", ""), "before any USE"),
        (lambda text: text.replace("(5);", "(5, 6), (7, 8), (9"), None),
        (lambda text: text.replace("(1,'Max')", "(1)"), "has not 2 values"),
        (lambda text: text.replace("INSERT INTO `t`", "INSERT INTO `gone`"), "not created before"),
    ],
)
def test_damaged_dumps(tmp_path, change, told) -> None:
    path = tmp_path / "dump.sql"
    path.write_text(change(DUMP), encoding="utf-8")
    if told is None:
        assert len(read_dump(path)["other"].rows["t"]) == 5  # width 1: every value is a row
        return
    with pytest.raises(DataError, match=told):
        read_dump(path)


def test_a_missing_dump(tmp_path) -> None:
    with pytest.raises(DataError, match="could not be read"):
        read_dump(tmp_path / "none.sql")


TEXTS = st.text(st.sampled_from("aAbBzZ_[ éÉeßS0~\n"), max_size=6)


@given(TEXTS, TEXTS, TEXTS)
def test_collation_is_an_order(a: str, b: str, c: str) -> None:
    assert compare(a, b) == -compare(b, a)
    assert compare(a, a + "  ") == 0
    assert compare(a, a.upper()) == 0 or "ß" in a
    if compare(a, b) <= 0 and compare(b, c) <= 0:
        assert compare(a, c) <= 0


@given(TEXTS, TEXTS)
def test_plain_texts_compare_like_nocase(a: str, b: str) -> None:
    if is_plain(a) and is_plain(b):
        one, other = a.lower(), b.lower()
        assert compare(a, b) == (one > other) - (one < other)


def test_collation_by_hand() -> None:
    assert compare("Zoë ", "zoe") == 0
    assert compare("straße", "strase") == 0
    assert compare("a_", "ab") == 1  # '_' stands behind the capitals, as in MySQL
    assert compare("a\n", "a") == -1  # padded with spaces, which come after a line break
