"""One question as data: what a user's JSON line holds, and what a task of the bundled world is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.errors import DataError
from agentrl.judges import Fact
from agentrl.types import Split, Task

KINDS = ("simple", "multi", "media")
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHARES = {"test": 0.2, "val": 0.1}  # of a user's families; the rest is for training


@dataclass(frozen=True, slots=True)
class Part:
    """What one sub-question of the bundled world asks: ``relations`` of the entity ``subject``."""

    subject: str
    relations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A question with its reference answer.

    ``kind``: simple, multi (several sub-questions) or media (it points to a picture). ``media``: URL -> what the
    picture shows, told by the tool ``view``. ``facts``: the rubric of an offline judge, read off the reference where
    there are none.
    ``parts``: only in the bundled world, from which the compact view is made.
    """

    question: str
    reference: str
    kind: str = "simple"
    sub_questions: tuple[str, ...] = ()
    media: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    parts: tuple[Part, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """JSON-able form, the ``data`` of a task."""
        return {
            "question": self.question,
            "reference": self.reference,
            "type": self.kind,
            "sub_questions": list(self.sub_questions),
            "media": dict(self.media),
            "facts": [fact.to_dict() for fact in self.facts],
            "parts": [[part.subject, list(part.relations)] for part in self.parts],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], where: str) -> Record:
        """From :meth:`to_data` or a user's line. Raises DataError that begins with ``where``."""
        for name in ("question", "reference"):
            if not isinstance(data.get(name), str) or not data[name].strip():
                raise DataError(f"{where}: '{name}' is {data.get(name)!r:.60}; expected a text that is not empty")
        kind = data.get("type", "simple")
        if kind not in KINDS:
            raise DataError(f"{where}: 'type' is {kind!r:.60}; expected one of {', '.join(KINDS)}")
        subs, media = data.get("sub_questions") or (), data.get("media") or {}
        if not isinstance(subs, list | tuple) or not all(isinstance(text, str) for text in subs):
            raise DataError(f"{where}: 'sub_questions' is {subs!r:.60}; expected a list of texts")
        if not isinstance(media, Mapping) or not all(isinstance(text, str) for pair in media.items() for text in pair):
            raise DataError(f"{where}: 'media' is {media!r:.60}; expected an object of URLs and what they show")
        try:
            facts = tuple(Fact.from_dict(fact) for fact in data.get("facts") or ())
            parts = tuple(Part(subject, tuple(relations)) for subject, relations in data.get("parts") or ())
        except (DataError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{where}: {error}") from None
        return cls(data["question"].strip(), data["reference"].strip(), kind, tuple(subs), dict(media), facts, parts)


def load(path: Path) -> dict[Split, list[Task]]:
    """A user's JSON lines as tasks, families kept whole in one split.

    A record ``{id, question, reference, type?, sub_questions?, media?, facts?, family?, split?}``; unknown keys are
    refused. Without ``split``, families (by default every record is one) are put in the order of a hash of their names:
    the first 20 % are test, the next 10 % val, at least one each. Raises DataError naming the line.
    """
    tasks: list[tuple[str | None, Task]] = []
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        data = _object(line, where)
        name = str(data["id"])
        if name in seen:
            raise DataError(f"{where}: the id {name!r} occurs twice; ids must be unique")
        seen.add(name)
        record = Record.of(data, where)
        split = data.get("split")
        if split not in (None, *SPLITS):
            raise DataError(f"{where}: 'split' is {split!r:.60}; expected one of {', '.join(SPLITS)}")
        task = Task(f"long_qa/{record.kind}/{name}", "train", str(data.get("family", name)), record.to_data())
        tasks.append((split, task))
    if not tasks:
        raise DataError(f"{path}: holds no record; expected JSON lines with id, question and reference")
    return _split(tasks, path)


KNOWN = {"id", "question", "reference", "type", "sub_questions", "media", "facts", "family", "split"}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"env.data={path}: cannot be read ({error}); expected JSON lines in UTF-8") from None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not JSON; expected one object on each line") from None
    if not isinstance(data, dict) or not isinstance(data.get("id"), str | int):
        raise DataError(f"{where}: expected an object with 'id' (a text or a whole number), question and reference")
    unknown = sorted(set(data) - KNOWN)
    if unknown:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(KNOWN))}")
    return data


def _split(tasks: Sequence[tuple[str | None, Task]], path: Path) -> dict[Split, list[Task]]:
    free = sorted({task.family for split, task in tasks if split is None}, key=_place)
    test = max(1, round(SHARES["test"] * len(free)))
    val = max(1, round(SHARES["val"] * len(free)))
    home: dict[str, Split] = {
        family: "test" if n < test else "val" if n < test + val else "train" for n, family in enumerate(free)
    }
    chosen: dict[Split, list[Task]] = {split: [] for split in SPLITS}
    for given, task in tasks:
        split: Split = given or home[task.family]  # type: ignore[assignment]
        chosen[split].append(Task(task.id, split, task.family, task.data))
    empty = [split for split in SPLITS if not chosen[split]]
    if empty:
        raise DataError(
            f"{path}: leaves no task for {', '.join(empty)}; give more records (at least three families), or records "
            "with that 'split'"
        )
    return chosen


def _place(name: str) -> str:
    return hashlib.sha256(f"long_qa/{name}".encode("utf-8", "surrogatepass")).hexdigest()
