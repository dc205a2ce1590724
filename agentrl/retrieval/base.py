"""What is retrieved, and who can retrieve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Document:
    """A passage as Search-R1's corpora hold it: ``contents`` is the title in double quotes, a line break, the text."""

    id: str
    contents: str

    @classmethod
    def of(cls, id: str, title: str, text: str) -> Document:
        return cls(id, f'"{title}"\n{text}')

    @property
    def title(self) -> str:
        """The first line, without its quotes."""
        return self.contents.partition("\n")[0].strip().strip('"')

    @property
    def text(self) -> str:
        """Everything behind the first line."""
        return self.contents.partition("\n")[2]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document found by a query; a higher score is better, scores of different retrievers do not compare."""

    document: Document
    score: float


class Retriever(Protocol):
    """Finds documents for queries. Equal queries get equal answers; safe to call from several threads."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What its answers depend on (JSON-able)."""
        ...

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """The best ``k`` documents (or fewer) of each query, best first. Raises EnvError when the backend fails."""
        ...
