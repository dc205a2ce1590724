"""What a judge is: question, reference, answer and rubric in; a score in [0, 1] with its reasons out.

A judge never raises because of what an answer says: any text is data. It raises JudgeError when it cannot judge (no
endpoint, no verdict), which an environment passes on, so that the episode leaves the credit instead of earning 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentrl.errors import DataError
from agentrl.judges.language import Lexicon


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a complete answer says.

    ``values``: accepted forms, the canonical one first. ``cues``: words that announce the relation ("born").
    ``subjects``: names of what it is about. ``part``: the sub-question it belongs to, from 0.
    """

    values: tuple[str, ...]
    cues: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    part: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read by :meth:`from_dict`."""
        return {
            "values": list(self.values),
            "cues": list(self.cues),
            "subjects": list(self.subjects),
            "part": self.part,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Fact:
        """Raises DataError when the record is no fact."""
        lists = {name: record.get(name, []) for name in ("values", "cues", "subjects")}
        part = record.get("part", 0)
        texts = all(isinstance(v, list | tuple) and all(isinstance(t, str) for t in v) for v in lists.values())
        if not texts or not lists["values"] or not isinstance(part, int):
            raise DataError(
                f"a fact of a rubric is {str(dict(record))[:120]}; expected lists of texts 'values' (not empty), "
                "'cues', 'subjects' and a whole number 'part'"
            )
        return cls(tuple(lists["values"]), tuple(lists["cues"]), tuple(lists["subjects"]), part)


@dataclass(frozen=True)
class Rubric:
    """What to look for. Without ``facts`` an offline judge reads them off the reference.

    ``names``: names of a closed world. One of them that question, reference and rubric do not know is an invention even
    where no capital letter betrays it. ``allowed``: what an answer may say beyond the reference.
    """

    facts: tuple[Fact, ...] = ()
    names: Lexicon = field(default_factory=Lexicon)
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``score`` in [0, 1]; ``parts``: the numbers it is made of; ``reason``: one line for people."""

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


class Judge(Protocol):
    """Built from ``conf/judge/<name>.yaml``."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What scores depend on (JSON-able): the name, the version of the rules or of the prompt, the model."""
        ...

    def verdict(self, question: str, reference: str, answer: str, rubric: Rubric | None = None) -> Verdict:
        """Judge one answer. Raises JudgeError when no verdict can be had."""
        ...

    def close(self) -> None: ...
