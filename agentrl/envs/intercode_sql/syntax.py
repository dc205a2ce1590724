"""MySQL text to syntax tree, refusing with MySQL's own words what a MySQL server refuses.

The parser is sqlglot's, whose grammar is wider than MySQL's; what it lets pass and a server would not (reserved words
as names, ``COUNT (*)`` with a space, a derived table without alias, two statements) is refused here. Functions stay
plain calls by name: what they mean is decided by ``functions``, not by sqlglot.
"""

from __future__ import annotations

import re
from typing import Any

from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


MAX_CHARS = 10_000  # of one statement: longer ones are refused before anything reads them
MAX_NESTING = 40  # brackets: the parser and SQLite recurse into them
NEAR = 80  # characters that an error message quotes, as MySQL's format has it
MANUAL = (
    "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the"
    " right syntax to use near '{near}' at line {line}"
)
VERBS = words(
    "SELECT WITH TABLE VALUES SHOW DESC DESCRIBE EXPLAIN USE INSERT UPDATE DELETE REPLACE CREATE DROP ALTER TRUNCATE"
    " RENAME SET BEGIN START COMMIT ROLLBACK SAVEPOINT RELEASE LOCK UNLOCK CALL DO HANDLER LOAD GRANT REVOKE FLUSH"
    " RESET KILL ANALYZE CHECK OPTIMIZE REPAIR CHECKSUM PREPARE EXECUTE DEALLOCATE INSTALL UNINSTALL SHUTDOWN RESTART"
    " CLONE PURGE CHANGE STOP XA IMPORT CACHE HELP SIGNAL GET BINLOG"
)
FIRST = re.compile(r"[\s(]*([A-Za-z_]+)")
GLUED = words(  # names that are functions only when the bracket follows at once
    "ADDDATE BIT_AND BIT_OR BIT_XOR CAST COUNT CURDATE CURTIME DATE_ADD DATE_SUB EXTRACT GROUP_CONCAT MAX MID MIN NOW"
    " POSITION SESSION_USER STD STDDEV STDDEV_POP STDDEV_SAMP SUBDATE SUBSTR SUBSTRING SUM SYSDATE SYSTEM_USER TRIM"
    " VARIANCE VAR_POP VAR_SAMP"
)
RESERVED = words(  # of MySQL 8.0, without the constants and the functions that need no bracket
    "ACCESSIBLE ADD ALL ALTER ANALYZE AND AS ASC ASENSITIVE BEFORE BETWEEN BIGINT BINARY BLOB BOTH BY CALL CASCADE"
    " CASE CHANGE CHAR CHARACTER CHECK COLLATE COLUMN CONDITION CONSTRAINT CONTINUE CONVERT CREATE CROSS CUBE CURSOR"
    " DATABASE DATABASES DEC DECIMAL DECLARE DEFAULT DELAYED DELETE DENSE_RANK DESC DESCRIBE DETERMINISTIC DISTINCT"
    " DISTINCTROW DIV DOUBLE DROP DUAL EACH ELSE ELSEIF EMPTY ENCLOSED ESCAPED EXCEPT EXISTS EXIT EXPLAIN FETCH FLOAT"
    " FOR FORCE FOREIGN FROM FULLTEXT FUNCTION GENERATED GET GRANT GROUP GROUPING GROUPS HAVING IF IGNORE IN INDEX"
    " INFILE INNER INOUT INSENSITIVE INSERT INT INTEGER INTERSECT INTERVAL INTO IS ITERATE JOIN KEY KEYS KILL LAG"
    " LATERAL LEAD LEADING LEAVE LEFT LIKE LIMIT LINEAR LINES LOAD LOCK LONG LOOP MATCH MOD MODIFIES NATURAL NOT NTILE"
    " NULL NUMERIC OF ON OPTIMIZE OPTION OR ORDER OUT OUTER OUTFILE OVER PARTITION PRECISION PRIMARY PROCEDURE PURGE"
    " RANGE RANK READ READS REAL RECURSIVE REFERENCES REGEXP RELEASE RENAME REPEAT REPLACE REQUIRE RESTRICT RETURN"
    " REVOKE RIGHT RLIKE ROW ROWS ROW_NUMBER SCHEMA SCHEMAS SELECT SENSITIVE SEPARATOR SET SHOW SIGNAL SMALLINT"
    " SPATIAL SPECIFIC SQL SQLEXCEPTION SQLSTATE SQLWARNING SSL STARTING STORED STRAIGHT_JOIN SYSTEM TABLE TERMINATED"
    " THEN TINYINT TO TRAILING TRIGGER UNDO UNION UNIQUE UNLOCK UNSIGNED UPDATE USAGE USE USING VALUES VARBINARY"
    " VARCHAR VARYING VIRTUAL WHEN WHERE WHILE WINDOW WITH WRITE XOR ZEROFILL"
)
NO_ITEM = frozenset({TokenType.COMMA, TokenType.R_PAREN, TokenType.FROM, TokenType.STAR})  # never behind a comma
SETS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
CLAUSES = {  # their order in a SELECT; set operations begin anew
    **dict.fromkeys(SETS, 0), "SELECT": 0, "FROM": 1, "JOIN": 1, "WHERE": 2, "GROUP": 3, "HAVING": 4, "ORDER": 5,
    "LIMIT": 6,
}  # fmt: skip
JOINING = frozenset({"LEFT", "RIGHT", "INNER", "OUTER", "CROSS", "NATURAL"})
SEVERAL = "Use multi=True when executing multiple statements"  # what the original's client raises


class SqlError(Exception):
    """A statement that the server refuses; the message is what a MySQL server says."""


class Dialect(MySQL):
    """MySQL, with every function a plain call."""

    class Parser(MySQL.Parser):  # type: ignore[valid-type, misc]
        FUNCTIONS: dict[str, Any] = {}  # noqa: RUF012
        NO_PAREN_FUNCTIONS: dict[Any, Any] = {}  # noqa: RUF012


_DIALECT = Dialect()


def syntax_error(sql: str, start: int) -> SqlError:
    """MySQL's syntax error at a character of the statement."""
    line = sql.count("\n", 0, start) + 1
    return SqlError(MANUAL.format(near=sql[start : start + NEAR], line=line))


def verb(sql: str) -> str:
    """The first word of a statement in capitals; empty where it begins with none."""
    found = FIRST.match(sql)
    return found[1].upper() if found else ""


def tokens(sql: str) -> list[Token]:
    """The tokens of one statement, a closing semicolon left out. Raises SqlError as a server would."""
    if len(sql) > MAX_CHARS:
        raise SqlError(f"Got a packet bigger than 'max_allowed_packet' bytes ({MAX_CHARS} characters)")
    if "\x00" in sql:
        raise syntax_error(sql, sql.index("\x00"))
    first = len(sql) - len(sql.lstrip())
    if sql[first:] and verb(sql) not in VERBS and not sql[first:].startswith(("--", "#", "/*")):
        raise syntax_error(sql, first)
    try:
        found = list(_DIALECT.tokenize(sql))
    except TokenError:
        raise syntax_error(sql, _open_quote(sql)) from None
    while found and found[-1].token_type == TokenType.SEMICOLON:
        found.pop()
    if not found:
        raise SqlError("Query was empty")
    if verb(found[0].text) not in VERBS and found[0].text != "(":
        raise syntax_error(sql, found[0].start)
    if any(token.token_type == TokenType.SEMICOLON for token in found):
        raise SqlError(SEVERAL)
    return found


def parse(sql: str, found: list[Token] | None = None) -> exp.Expr:
    """The syntax tree of one statement (``found``: its tokens, where they are known).

    Raises SqlError with MySQL's text when a server would refuse it.
    """
    found = tokens(sql) if found is None else found
    _check_tokens(sql, found)
    _check_clauses(sql, found)
    try:
        trees = _DIALECT.parser().parse(found, sql)
    except ParseError as error:
        raise _near(sql, found, error) from None
    except (RecursionError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        raise syntax_error(sql, found[0].start) from None
    tree = trees[0] if trees else None
    if not isinstance(tree, exp.Expr):
        raise syntax_error(sql, found[0].start)
    _check_names(sql, tree)
    return tree


def _open_quote(sql: str) -> int:
    """Where the quote opens that never closes."""
    place = 0
    while place < len(sql):
        if sql[place] in "'\"`":
            closing = _closing(sql, place)
            if closing < 0:
                return place
            place = closing
        place += 1
    return max(0, len(sql) - 1)


def _closing(sql: str, start: int) -> int:
    place = start + 1
    while place < len(sql):
        if sql[place] == "\\" and sql[start] != "`":
            place += 1
        elif sql[place] == sql[start]:
            return place
        place += 1
    return -1


def _check_tokens(sql: str, found: list[Token]) -> None:
    depth = 0
    for token, following in zip(found, [*found[1:], None], strict=True):
        if token.token_type == TokenType.L_PAREN:
            depth += 1
            if depth > MAX_NESTING:
                raise SqlError("Memory capacity exceeded: the statement nests too deeply")
        elif token.token_type == TokenType.R_PAREN:
            depth -= 1
        elif token.token_type == TokenType.COMMA and (following is None or following.token_type in NO_ITEM):
            raise syntax_error(sql, len(sql) if following is None else following.start)
        if following is None or following.token_type != TokenType.L_PAREN or following.start == token.end + 1:
            continue
        name = token.text.upper()
        if name in GLUED and token.token_type not in (TokenType.IDENTIFIER, TokenType.STRING):
            inside = sql[following.end + 1 :].lstrip()
            if inside.startswith("*") or inside.upper().startswith("DISTINCT"):
                raise syntax_error(sql, len(sql) - len(inside))
            raise SqlError(
                f"FUNCTION {token.text} does not exist. Check the 'Function Name Parsing and Resolution' section in the"
                " Reference Manual"
            )


def _check_clauses(sql: str, found: list[Token]) -> None:
    """Clauses of a SELECT out of order, such as JOIN behind WHERE, or UNION behind LIMIT."""
    ranks: list[int] = [-1]
    start: Token | None = None  # of LEFT OUTER JOIN and the like: where the error is told
    for token, following in zip(found, [*found[1:], None], strict=True):
        if token.token_type == TokenType.L_PAREN:
            ranks.append(-1)
        elif token.token_type == TokenType.R_PAREN:
            ranks = ranks[:-1] or [-1]
        elif token.token_type in (TokenType.IDENTIFIER, TokenType.STRING):
            continue
        word = token.text.upper()
        if word in JOINING and not (following is not None and following.token_type == TokenType.L_PAREN):
            start = start or token
            continue
        rank = CLAUSES.get(word)
        if rank is not None and (ranks[-1] >= 0 or word == "SELECT") and not _is_name(found, token):
            late = ranks[-1] > rank if rank else ranks[-1] >= 5 and word in SETS
            if late and word != "SELECT":
                raise syntax_error(sql, (start or token).start)
            ranks[-1] = max(rank, 0)
        start = None


def _is_name(found: list[Token], token: Token) -> bool:
    """Does this word stand behind a point?"""
    place = found.index(token)
    return place > 0 and found[place - 1].token_type == TokenType.DOT


def _check_names(sql: str, tree: exp.Expr) -> None:
    """Reserved words as names, derived tables without alias."""
    bad = [
        name
        for name in tree.find_all(exp.Identifier)
        if not name.args.get("quoted") and name.name.upper() in RESERVED and not _dotted(name)
    ]
    if bad:
        raise syntax_error(sql, min(int(name.meta.get("start", 0)) for name in bad))
    for derived in tree.find_all(exp.Subquery):
        if isinstance(derived.parent, exp.From | exp.Join) and not derived.alias and _holds_query(derived):
            raise SqlError("Every derived table must have its own alias")


def _dotted(name: exp.Identifier) -> bool:
    """Behind a point every word is a name."""
    parent = name.parent
    return isinstance(parent, exp.Column | exp.Table) and parent.this is name and bool(parent.args.get("table"))


def _holds_query(derived: exp.Subquery) -> bool:
    return isinstance(derived.unnest(), exp.Query) and not isinstance(derived.unnest(), exp.Table)


def _near(sql: str, found: list[Token], error: ParseError) -> SqlError:
    """The syntax error at the token where the parser stopped; at the end of the text when it wanted more."""
    detail = error.errors[0] if error.errors else {}
    line, column = int(detail.get("line") or 1), int(detail.get("col") or 1)
    told = str(detail.get("description"))
    at = next((i for i, token in enumerate(found) if token.line == line and token.col == column), None)
    if at is None:
        return syntax_error(sql, found[0].start)
    wants_more = "SENTINEL" in told or (at == len(found) - 1 and told.startswith(("Expect", "Required")))
    if not wants_more:
        return syntax_error(sql, found[at].start)
    return SqlError(MANUAL.format(near="", line=sql.count("\n") + 1))
