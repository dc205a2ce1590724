"""One play of one question, without any wording: what was searched, what came back, how often is left."""

from __future__ import annotations

from dataclasses import dataclass

from agentrl.retrieval import Document
from agentrl.types import Task


@dataclass(frozen=True, slots=True)
class Search:
    """A query and the documents it brought, best first."""

    query: str
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """An immutable moment of an episode: also its snapshot.

    ``text``: replies and observations so far, joined. ``left``: replies that may follow; the last one is not searched.
    """

    task: Task
    left: int
    text: str = ""
    searches: tuple[Search, ...] = ()
    done: bool = False
