"""Does this environment say and pay what the original did? Golden files, case by case.

=======================  ===========================================  ================================================
kind                     file                                         what must agree
=======================  ===========================================  ================================================
rewards                  reward_cases.jsonl.gz                        the reward, to 1e-12
gold                     gold_results_mariadb.jsonl.gz                the whole observation of the gold query, as text
turns                    replay_mariadb_gpt-3.5.jsonl.gz              the reward after every turn, to 1e-12
=======================  ===========================================  ================================================

SQL leaves some things to the engine, and two engines choose differently. A case that differs counts as agreeing only
when it is proven to be one of these, by a check of its own:

* ``row order``: the same rows; the statement's ORDER BY, if any, does not fix their order;
* ``ties under LIMIT``: the statement cuts rows that tie under its ORDER BY, and another choice among them gives exactly
  what was recorded (``ties`` enumerates the choices).
"""

from __future__ import annotations

import datetime
import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.envs.intercode_sql.backend import Session, SessionState
from agentrl.envs.intercode_sql.generate import Question
from agentrl.envs.intercode_sql.panels import QUESTIONS, read_questions
from agentrl.envs.intercode_sql.reward import score, score_texts
from agentrl.envs.intercode_sql.ties import alternatives, same_rows_in_open_order
from agentrl.envs.intercode_sql.values import Result
from agentrl.errors import DataError

if TYPE_CHECKING:
    from agentrl.envs.intercode_sql.env import InterCodeSql

KINDS = {
    "rewards": ("agent", "gold", "reward", "corrupt_gold"),
    "gold": ("task_id", "db", "gold", "rows", "obs", "obs_len"),
    "turns": ("task_id", "turn", "action", "obs", "obs_len", "reward"),
}
ORDER, TIES = "row order", "ties under LIMIT"
TOLERANCE = 1e-12
MARIADB_WORDS = {  # how MariaDB words what MySQL 8 (and this environment) says
    "MariaDB": "MySQL",
    "in 'SELECT'": "in 'field list'",
    "in 'WHERE'": "in 'where clause'",
    "in 'ON'": "in 'on clause'",
    "in 'GROUP BY'": "in 'group statement'",
    "in 'HAVING'": "in 'having clause'",
    "in 'ORDER BY'": "in 'order clause'",
    "in 'IN/ALL/ANY'": "in 'IN/ALL/ANY subquery'",
    "in SELECT is": "in field list is",
    "int(11)": "int",
    "current_timestamp()": "CURRENT_TIMESTAMP",
}


def replay(env: InterCodeSql, golden: Path) -> dict[str, Any]:
    """Replay a golden file: ``{"kind", "cases", "agree", "exact", "differences", "first_difference"}``.

    ``exact`` cases are equal, ``differences`` counts those of a documented class, ``agree`` is both together;
    ``first_difference`` is that of the first case which is neither. Raises DataError when the file is missing, cut
    short or of no known kind, or when env.data is not the data it was recorded on.
    """
    kind, records = read_golden(golden)
    check = _Checks(env, kind)
    classes: Counter[str] = Counter()
    exact, first = 0, None
    for case, record in enumerate(records):
        try:
            found = check(record)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{golden}: record {case} ({kind}) cannot be replayed ({type(error).__name__}: {error}); is the file"
                " whole, and env.data the data it was recorded on?"
            ) from None
        if found is None:
            exact += 1
        elif isinstance(found, str):
            classes[found] += 1
        elif first is None:
            first = {"case": case, **found}
    check.close()
    result = {"kind": kind, "cases": len(records), "agree": exact + classes.total(), "exact": exact}
    result |= {"differences": dict(classes), "first_difference": first}
    return result | ({"observations_equal": check.texts_equal} if kind == "turns" else {})


def read_golden(golden: Path) -> tuple[str, list[Mapping[str, Any]]]:
    """Kind and records of a golden file."""
    try:
        raw = golden.read_bytes()
        text = (gzip.decompress(raw) if golden.suffix == ".gz" else raw).decode("utf-8")
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"golden file {golden} could not be read ({error}); is it whole?") from None
    for kind, keys in KINDS.items():
        if records and all(_has(record, keys) for record in records):
            return kind, records
    raise DataError(f"golden file {golden} is of no known kind; expected {', '.join(KINDS)}, each record with its keys")


def _has(record: Any, keys: tuple[str, ...]) -> bool:
    return isinstance(record, dict) and all(key in record for key in keys)


Found = str | dict[str, Any] | None  # a class, a difference, or agreement


class _Checks:
    """One golden file's comparisons; holds the session that the turns of a task share."""

    def __init__(self, env: InterCodeSql, kind: str) -> None:
        self._env = env
        self._check: Callable[[Mapping[str, Any]], Found] = {
            "rewards": self._reward,
            "gold": self._gold,
            "turns": self._turn,
        }[kind]
        self._task: int | None = None
        self._session: Session | None = None
        self.texts_equal = 0
        self._questions: list[Question] = []
        if kind != "rewards":
            if env.data == "bundled":
                raise DataError(
                    "this golden file was recorded on Spider's databases; give their folder as env.data=FOLDER"
                )
            self._questions = read_questions(Path(env.data) / QUESTIONS)

    def __call__(self, record: Mapping[str, Any]) -> Found:
        return self._check(record)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _run(self, database: str, sql: str) -> Result:
        session = self._env.backend_of.open(SessionState(database))
        try:
            return session.run(sql)
        finally:
            session.close()

    def _reward(self, record: Mapping[str, Any]) -> Found:
        agent, gold = rows_of(record["agent"]), rows_of(record["gold"])
        failed = isinstance(record["gold"], dict)
        got = score(agent, gold, failed).reward
        if abs(got - record["reward"]) > TOLERANCE:
            return {"field": "reward", "expected": record["reward"], "got": got}
        for field, rows in (("agent_obs", agent), ("eval_obs", gold)):
            if rows is not None and field in record and Result(rows).text != record[field]:
                return {"field": field, "expected": record[field], "got": Result(rows).text}
        return None

    def _gold(self, record: Mapping[str, Any]) -> Found:
        database, sql = record["db"].lower(), record["gold"]
        got = self._run(database, sql)
        if isinstance(record["rows"], str):  # the error text, in the words of another server
            return None if got.error is not None else _difference("rows", record["rows"], got.text)
        recorded = Result(rows_of(record["rows"]))
        if recorded.text == got.text:
            return None
        if got.rows is not None:
            if same_rows_in_open_order(self._run, database, sql, got, recorded):
                return ORDER
            others = alternatives(self._run, database, sql)[1:]
            if any(Counter(other.texts) == Counter(recorded.texts) for other in others):
                return TIES
        return _difference("obs", recorded.text, got.text)

    def _turn(self, record: Mapping[str, Any]) -> Found:
        if record["task_id"] != self._task:
            self.close()
            self._task = record["task_id"]
            self._session = self._env.backend_of.open(SessionState(self._questions[record["task_id"]].db))
        assert self._session is not None
        question = self._questions[record["task_id"]]
        database = self._session.database
        got = self._session.run(record["action"])
        gold = self._env.gold(question)
        self.texts_equal += _same_text(record, got)
        reward = score(got.rows, gold.rows, gold.error is not None).reward
        if abs(reward - record["reward"]) <= TOLERANCE:
            return None
        if got.rows is None:
            return _difference("reward", record["reward"], reward)
        if self._tied(record, database, question, gold):
            return TIES
        if _reordered(record, got, gold) and self._open(database, record["action"], question):
            return ORDER
        return _difference("reward", record["reward"], reward)

    def _tied(self, record: Mapping[str, Any], database: str, question: Question, gold: Result) -> bool:
        """Does another choice among tied rows, of the action or of the gold query, give the recorded reward?"""
        ours = alternatives(self._run, database, record["action"])
        theirs = alternatives(self._run, question.db, question.gold)
        if len(ours) + len(theirs) <= 2:
            return False
        return any(
            abs(score_texts(a.texts, g.texts).reward - record["reward"]) <= TOLERANCE
            for a in ours
            if _told(a, record)
            for g in theirs or [gold]
        )

    def _open(self, database: str, action: str, question: Question) -> bool:
        """Does the action or the gold query leave the order of its rows open?"""
        pairs = ((database, action), (question.db, question.gold))
        return any(same_rows_in_open_order(self._run, where, sql, None, None) for where, sql in pairs)


def _difference(field: str, expected: Any, got: Any, width: int = 160) -> dict[str, Any]:
    shorten = [value[:width] if isinstance(value, str) else value for value in (expected, got)]
    return {"field": field, "expected": shorten[0], "got": shorten[1]}


def _told(result: Result, record: Mapping[str, Any]) -> bool:
    """Is this, up to the order of rows, the observation that was recorded?"""
    return bool(len(result.text) == record["obs_len"])


def _same_text(record: Mapping[str, Any], got: Result) -> bool:
    """Is the observation equal, but for MariaDB's wording and what it cuts from error texts?"""
    told, ours = _worded(str(record["obs"])), _worded(got.text)
    if got.error is not None and "..." in told:
        start = told.partition("...")[0]
        return ours.startswith(start[:-1])
    whole = record["obs_len"] <= len(record["obs"])
    return bool(told == ours if whole else ours.startswith(told[:-20]))


def _worded(text: str) -> str:
    for theirs, words in MARIADB_WORDS.items():
        text = text.replace(theirs, words)
    return text


def _reordered(record: Mapping[str, Any], got: Result, gold: Result) -> bool:
    """Could the recorded reward come from the same rows in another order, as an attainable tau times our IoU?"""
    if not _told(got, record):
        return False
    points = score_texts(got.texts, gold.texts)
    shared = (Counter(got.texts) & Counter(gold.texts)).total()
    pairs = shared * (shared - 1) // 2
    return pairs > 0 and any(
        abs(round(points.iou * balance / pairs * 100) / 100 - record["reward"]) <= TOLERANCE
        for balance in range(-pairs, pairs + 1, 2 if pairs < 10**6 else 1)
    )


def cell_of(value: Any) -> Any:
    """A cell of a golden file as Python's client gave it."""
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    readers: dict[str, Callable[[str], Any]] = {
        "$decimal": Decimal,
        "$date": datetime.date.fromisoformat,
        "$datetime": datetime.datetime.fromisoformat,
        "$bytes": str.encode,
        "$timedelta": _timedelta,
    }
    return readers[kind](text)


def _timedelta(text: str) -> datetime.timedelta:
    days, _, clock = text.rpartition(", ")
    hours, minutes, seconds = clock.split(":")
    count = int(days.split(" ")[0]) if days else 0
    return datetime.timedelta(days=count, hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def rows_of(value: Any) -> list[tuple[Any, ...]] | None:
    """The rows of a golden file; None for a statement without result set, or an error."""
    if value is None or isinstance(value, dict):
        return None
    return [tuple(map(cell_of, row)) for row in value]
