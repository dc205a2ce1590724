"""Questions as tasks, in train, val and test panels that share no database.

``databases``: databases in order of a hash of their name; the first fifth test, the next tenth val, the rest train.
``all_test``: as papers do with Spider's development set, every question of the data is a test task; train and val then
come from the generated databases, so that nothing that is measured was ever trained on.
Panels depend on the data alone. They visit every database before any twice, in an order fixed by hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from agentrl.envs.intercode_sql.generate import Question
from agentrl.errors import DataError
from agentrl.types import Split, Task

DUMP, QUESTIONS = "ic_spider_dbs.sql", "ic_spider_dev.json"
KEYS = ("db", "gold", "query", "hardness")
Numbered = tuple[str, Question]  # (task id, question)


def read_questions(path: Path) -> list[Question]:
    """The questions of an InterCode file, in its order. Raises DataError when it is missing or of another form."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the questions could not be read ({error}); is the file there, and whole?") from None
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: holds no list of questions; expected InterCode's {QUESTIONS}")
    for place, record in enumerate(records):
        missing = [key for key in KEYS if not isinstance(record, dict) or not isinstance(record.get(key), str)]
        if missing:
            raise DataError(f"{path}: question {place} lacks {', '.join(missing)}; expected the keys {', '.join(KEYS)}")
    return [Question(r["db"].lower(), r["query"], r["gold"], r["hardness"]) for r in records]


def stable_hash(text: str) -> str:
    """A hash that is equal on every machine."""
    return hashlib.sha256(text.encode()).hexdigest()


def by_database(questions: Sequence[Numbered], sizes: Mapping[str, int]) -> dict[Split, list[Task]]:
    """Splits by database; val and test cut to ``sizes``."""
    names = sorted({question.db for _, question in questions}, key=stable_hash)
    test = max(1, round(len(names) * 0.2))
    val = max(1, round(len(names) * 0.1))
    chosen: dict[Split, set[str]] = {
        "test": set(names[:test]),
        "val": set(names[test : test + val]),
        "train": set(names[test + val :]),
    }
    return {
        split: to_tasks([q for q in questions if q[1].db in owned], split)[: sizes.get(split)]
        for split, owned in chosen.items()
    }


def to_tasks(questions: Sequence[Numbered], split: Split) -> list[Task]:
    """Tasks whose family is their database, databases taking turns."""
    groups: defaultdict[str, list[Numbered]] = defaultdict(list)
    for number, question in sorted(questions, key=lambda item: stable_hash(f"{item[0]}/{item[1].query}")):
        groups[question.db].append((number, question))
    rounds = zip_longest(*(groups[name] for name in sorted(groups, key=stable_hash)))
    return [
        Task(number, split, question.db, {"question": question.to_dict()})
        for taken in rounds
        for number, question in filter(None, taken)
    ]


def question_of(task: Task) -> Question:
    """The question of a task. Raises DataError when the task is not one of this environment."""
    record = task.data.get("question")
    if not isinstance(record, Mapping) or any(key not in record for key in KEYS):
        raise DataError(f"task {task.id!r} holds no question; expected a task made by the intercode_sql environment")
    return Question.from_dict(record)
