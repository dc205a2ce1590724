"""InterCode-SQL: answer a question by querying a MySQL database, look at results, submit the last one.

A re-implementation of the SQL environment of princeton-nlp/intercode (Yang et al. 2023, arXiv 2306.14898) without
Docker: statements run on SQLite in MySQL's manner, or on a MySQL or MariaDB server, over generated databases or
Spider's development set as InterCode ships it. One real task and turn in the text view::

    Database: poker_player
    Question: What are the names of poker players, ordered ascending by the number of final tables they have made?
    > SELECT name FROM players
    Error executing query: Table 'poker_player.players' doesn't exist

The reward is given on ``submit`` (see ``reward``), in [-1, 1]. No step limit inside: the rollout sets one.

Differs from the original: every episode has the databases for itself, and the gold rows are those of the untouched data
(in the original an agent can change what the gold query finds, for all episodes after it, too); statements run under
limits of time, rows and memory, and only on the data (no server administration, no files, no transactions).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agentrl.envs.base import Expert, FieldsTravel, Step
from agentrl.envs.intercode_sql.backend import Backend, Session, SessionState, SqliteBackend
from agentrl.envs.intercode_sql.compact import Compact
from agentrl.envs.intercode_sql.dump import read_dump
from agentrl.envs.intercode_sql.generate import Question, generate
from agentrl.envs.intercode_sql.panels import (
    DUMP,
    QUESTIONS,
    Numbered,
    by_database,
    question_of,
    read_questions,
    to_tasks,
)
from agentrl.envs.intercode_sql.reward import CLEAN, FAITHFUL, Score, score_texts
from agentrl.envs.intercode_sql.schema import Database
from agentrl.envs.intercode_sql.store import Limits, Store, build
from agentrl.envs.intercode_sql.values import Result
from agentrl.envs.intercode_sql.views import Move, Plain, React, View
from agentrl.errors import ConfigError, DataError
from agentrl.types import Message, Messages, Split, Task

BUNDLED = "bundled"
CHOICES = {
    "view": ("text", "compact"),
    "wrapper": ("plain", "react"),
    "backend": ("sqlite", "mysql"),
    "splits": ("databases", "all_test"),
}
LEAST = {
    "max_turns": 1,
    "databases": 3,
    "questions": 1,
    "max_chars": 0,
    "max_rows": 1,
    "instructions": 1000,
    "memory_mib": 16,
    "connections": 1,
    "val": 0,
    "test": 1,
}
TOLD = 2000  # characters of the two result texts that the record of a submission keeps
CACHED_SCORES = 4096


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """A copy of an episode from which ``InterCodeSql.restore`` makes an equal one."""

    task: Task
    session: SessionState
    result: Result | None
    said: str
    invalid: bool
    skipped: bool
    done: bool
    turns: int


class SqlEpisode:
    """One question. ``result`` is that of the last statement (None: nothing was run), ``said`` the reply behind it."""

    def __init__(self, env: InterCodeSql, task: Task, session: Session) -> None:
        self.task = task
        self.question = question_of(task)
        self.session = session
        self.result: Result | None = None
        self.said = ""
        self.invalid = self.skipped = self.done = False
        self.turns = 0
        self._env = env
        self._view = env.view_of

    @property
    def compact(self) -> bool:
        """Is this episode shown in the compact view?"""
        return isinstance(self._view, Compact)

    @property
    def left(self) -> int:
        """How many more actions ``env.max_turns`` allows."""
        return max(0, self._env.max_turns - self.turns)

    @property
    def reward_now(self) -> float:
        """What a submit would earn."""
        return self._env.score(self.question, self.result).reward

    @property
    def has_answer(self) -> bool:
        """Is the last observation a result set that came from a query (and not a look at a table)?"""
        looked = self.said.lstrip().upper().startswith(("DESC", "SHOW")) or "sql\nDESC" in self.said
        return self.result is not None and self.result.rows is not None and not looked

    def say(self, sql: str) -> str:
        """The reply that sends a statement (or ``submit``) in this episode's view."""
        return self._view.say(self, sql)

    def schema(self) -> Database:
        """The question's database as it was built."""
        return self._env.backend_of.catalog[self.question.db]

    def tables(self) -> list[str]:
        """The names of its tables."""
        return [table.name for table in self.schema().tables]

    @property
    def goal(self) -> Messages:
        """The rules and the question, or the short question."""
        return self._view.goal(self)

    @property
    def observation(self) -> Messages:
        """What the last statement gave."""
        return (Message("user", self._view.observe(self)),)

    def step(self, action: Message) -> Step:
        """Play one reply.

        ``info``: ``kind`` (run, submit, skip, invalid), ``hardness``, ``error`` (did the statement fail?) and
        ``reward_now`` (what a submit would earn); on submit also ``agent_obs``, ``eval_obs``, ``corrupt_gold`` and
        ``reward_parts``.
        """
        move = self._view.move(self, action.content)
        before = self._env.score(self.question, self.result)
        self.turns += 1
        self.invalid = move.kind == "invalid"
        if move.kind == "submit":
            return self._submit(before)
        if move.kind == "skip":
            self.skipped = self.done = True
        if move.kind == "run":
            self.result = self.session.run(move.sql)
            self.said = action.content.strip()
        now = self._env.score(self.question, self.result).reward
        return Step(self.observation, 0.0, self.done, move.parsed, self._info(move, now))

    def _info(self, move: Move, now: float) -> dict[str, Any]:
        failed = self.result is not None and self.result.error is not None
        return {"kind": move.kind, "hardness": self.question.hardness, "error": failed, "reward_now": now}

    def _submit(self, earned: Score) -> Step:
        self.done = True
        gold = self._env.gold(self.question)
        parts = {"iou": earned.iou, "tau": earned.tau if earned.tau is not None else 0.0}
        info = self._info(Move("submit"), earned.reward) | {
            "agent_obs": self.result.text[:TOLD] if self.result else self.question.query,
            "eval_obs": gold.text[:TOLD],
            "corrupt_gold": gold.error is not None,
            "reward_parts": parts,
        }
        return Step(self.observation, earned.reward, True, True, info)

    def actions(self) -> Sequence[str]:
        """Looks at the tables, and submit."""
        return self._view.actions(self)

    def snapshot(self) -> EpisodeState:
        return EpisodeState(
            self.task,
            self.session.snapshot(),
            self.result,
            self.said,
            self.invalid,
            self.skipped,
            self.done,
            self.turns,
        )

    def close(self) -> None:
        """Drops the episode's own copy of the databases, if it wrote."""
        self.session.close()


@dataclass(frozen=True)
class InterCodeSql(FieldsTravel):
    """The environment; its fields are the keys of ``conf/env/intercode_sql.yaml``. Building it loads nothing.

    data         ``bundled`` (generated databases), or a folder with InterCode's ``ic_spider_dev.json`` and
                 ``ic_spider_dbs.sql``
    view         ``text``, or ``compact`` (generated questions only)
    wrapper      of the text view: ``plain`` (InterCode's own) or ``react`` (IPR's)
    max_turns    actions per episode, for the rollout (no limit inside)
    max_chars    an observation is cut behind so many characters (0: never)
    compat       the original's quirks, listed in ``reward``; of the ``react`` wrapper also that only the first line of
                 a block is run. False mends them
    backend      ``sqlite`` (in this process) or ``mysql`` (a server, see ``dsn``)
    dsn          ``mysql://user:password@host:port`` of the server
    connections  to the server, at most
    timeout_s    of one statement on the server
    instructions of one statement on SQLite, in steps of its virtual machine: the same on every machine
    max_rows     of one result
    memory_mib   that SQLite may hold in this process (its heap limit is one for the whole process)
    splits       ``databases`` (disjoint by database) or ``all_test`` (see ``panels``)
    databases    generated databases
    questions    about each of them, at most
    seed         of the generated data: part of the data, not of a run
    val, test    panel sizes (tasks), at most; with ``all_test`` the test panel is never cut
    """

    data: str = BUNDLED
    view: str = "text"
    wrapper: str = "plain"
    max_turns: int = 10
    max_chars: int = 350
    compat: bool = True
    backend: str = "sqlite"
    dsn: str = ""
    connections: int = 8
    timeout_s: float = 5.0
    instructions: int = 20_000_000
    max_rows: int = 10_000
    memory_mib: int = 512
    splits: str = "databases"
    databases: int = 100
    questions: int = 30
    seed: int = 0
    val: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"env.{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"env.{name} is {getattr(self, name)}; expected at least {least}")
        if self.timeout_s <= 0:
            raise ConfigError(f"env.timeout_s is {self.timeout_s}; expected seconds above 0")
        if self.view == "compact" and self.data != BUNDLED:
            raise ConfigError(
                "env.view is 'compact' but env.data is a folder: only generated questions have a compact form;"
                " use env.view=text, or env.data=bundled"
            )
        if self.view == "compact" and self.splits == "all_test":
            raise ConfigError("env.splits is 'all_test', which is about a folder of questions; give env.data=FOLDER")
        if self.backend == "mysql" and not self.dsn:
            raise ConfigError(
                "env.backend is 'mysql' but env.dsn is empty; give env.dsn=mysql://user:password@host:port"
            )

    @property
    def success_return(self) -> float:
        """Full reward: the papers' success."""
        return 1.0

    @cached_property
    def view_of(self) -> View:
        """The view that episodes use."""
        if self.view == "compact":
            return Compact()
        if self.wrapper == "react":
            return React(self.max_chars, self.compat)
        return Plain(self.max_chars)

    @cached_property
    def _lock(self) -> Any:
        return threading.Lock()

    @cached_property
    def _loaded(self) -> tuple[dict[str, Database], list[Numbered], list[Numbered]]:
        """Databases, the questions of the data, and those for train and val alone (``all_test``)."""
        if self.data == BUNDLED:
            databases, asked = generate(self.databases, self.questions, self.seed)
            return databases, [(f"bundled/{i}", question) for i, question in enumerate(asked)], []
        folder = Path(self.data)
        if not folder.is_dir():
            raise DataError(
                f"env.data is {self.data!r}: there is no such folder; expected one with {DUMP} and {QUESTIONS}"
            )
        databases = read_dump(folder / DUMP)
        questions = [(f"spider/{i}", question) for i, question in enumerate(read_questions(folder / QUESTIONS))]
        lost = sorted({question.db for _, question in questions} - databases.keys())
        if lost:
            raise DataError(
                f"{folder / QUESTIONS} asks about {', '.join(lost)}, which {DUMP} does not hold; are both whole?"
            )
        if self.splits == "databases":
            return databases, questions, []
        more, asked = generate(self.databases, self.questions, self.seed)
        return databases | more, questions, [(f"bundled/{i}", question) for i, question in enumerate(asked)]

    @cached_property
    def store(self) -> Store:
        """The databases, built at first use. Raises DataError when the data cannot be read."""
        return build(self._loaded[0])

    @cached_property
    def backend_of(self) -> Backend:
        """Where statements run. Raises EnvError when a server cannot be reached."""
        if self.backend == "sqlite":
            return SqliteBackend(self.store, Limits(self.instructions, self.max_rows, self.memory_mib))
        from agentrl.envs.intercode_sql.mysql_backend import MysqlBackend, ServerLimits

        limits = ServerLimits(self.connections, self.timeout_s, self.max_rows)
        backend: Backend = MysqlBackend(self._loaded[0], self.store.catalog, self.dsn, limits)
        return backend

    @cached_property
    def _panels(self) -> dict[Split, list[Task]]:
        sizes = {"val": self.val, "test": self.test}
        _, asked, others = self._loaded
        if not others:
            return by_database(asked, sizes)
        return by_database(others, sizes) | {"test": to_tasks(asked, "test")}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What results depend on; loads the data."""
        bundled = self.data == BUNDLED
        return {
            "env": "intercode_sql",
            "variant": "agentrl",
            "data": f"bundled-{self.databases}-{self.questions}-{self.seed}" if bundled else self.store.hash,
            "view": self.view if self.view == "compact" else self.wrapper,
            "max_chars": self.max_chars,
            "max_turns": self.max_turns,
            "compat": self.compat,
            "backend": self.backend_of.name,
            "limits": [self.instructions, self.max_rows]
            if self.backend == "sqlite"
            else [self.timeout_s, self.max_rows],
            "splits": self.splits,
            "seed": self.seed,
        }

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of a split, always in the same order. Raises DataError when the data give it none."""
        tasks = self._panels[split]
        if not tasks:
            raise DataError(
                f"intercode_sql data {self.data!r} leave no {split} tasks; use more databases, or a larger panel"
            )
        return tasks

    def start(self, task: Task) -> SqlEpisode:
        question = question_of(task)
        if question.db not in self.backend_of.catalog:
            raise DataError(f"task {task.id!r} asks about database {question.db!r}, which these data do not hold")
        return SqlEpisode(self, task, self.backend_of.open(SessionState(question.db)))

    def restore(self, state: EpisodeState) -> SqlEpisode:
        episode = SqlEpisode(self, state.task, self.backend_of.open(state.session))
        episode.result, episode.said = state.result, state.said
        episode.invalid, episode.skipped, episode.done = state.invalid, state.skipped, state.done
        episode.turns = state.turns
        return episode

    @cached_property
    def _gold(self) -> dict[tuple[str, str], Result]:
        return {}

    @cached_property
    def _scores(self) -> OrderedDict[tuple[str, str, tuple[str, ...]], Score]:
        return OrderedDict()

    def gold(self, question: Question) -> Result:
        """The rows of the gold query on the untouched data (run once)."""
        key = (question.db, question.gold)
        known = self._gold.get(key)
        if known is None:
            session = self.backend_of.open(SessionState(question.db))
            known = self._gold[key] = session.run(question.gold)
            session.close()
        return known

    def score(self, question: Question, result: Result | None) -> Score:
        """What a result would earn."""
        compat = FAITHFUL if self.compat else CLEAN
        gold = self.gold(question)
        corrupt = gold.error is not None
        if result is None or result.rows is None or (corrupt and not compat.corrupt_gold_as_empty):
            return Score(0.0, 0.0, None)
        key = (question.db, question.gold, result.texts)
        with self._lock:
            known = self._scores.get(key)
        if known is None:
            known = score_texts(result.texts, gold.texts, compat)
            with self._lock:
                self._scores[key] = known
                if len(self._scores) > CACHED_SCORES:
                    self._scores.popitem(last=False)
        return known

    def expert(self, noise: float, seed: int) -> Expert:
        """A player that knows the gold query and errs with probability ``noise``."""
        from agentrl.envs.intercode_sql.analyst import Analyst

        expert: Expert = Analyst(noise, seed)
        return expert

    def replay(self, golden: Path) -> dict[str, Any]:
        """Compare with a recorded file of the original (see ``replay``). Raises DataError on a damaged file."""
        from agentrl.envs.intercode_sql.replay import replay

        return replay(self, golden)

    def bench(self, seconds: float) -> dict[str, Any]:
        """Speed and memory (see ``bench``), measured for about ``seconds``."""
        from agentrl.envs.intercode_sql.bench import bench

        return bench(self, seconds)

    def close(self) -> None:
        """Closes the connections, if any were opened."""
        backend = self.__dict__.get("backend_of")
        if backend is not None:
            backend.close()
