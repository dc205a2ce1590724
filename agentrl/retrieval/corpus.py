"""Corpora as files: JSON lines or one JSON list, plain or gzipped, in the forms that are found in the field.

=====================================================  =======================================================
one record                                             documents
=====================================================  =======================================================
{id, contents}  (Search-R1, pyserini)                  itself
{id?, title, text}  (also passage for text)            one
{wikipedia_title, text: [title, paragraphs..]}  (KILT)  one for each paragraph; section marks are left out
{id, question, context: [[title, [sentences]]]}        one for each paragraph (HotpotQA, 2Wiki with distractors)
=====================================================  =======================================================

The last two give equal paragraphs once.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentrl.errors import DataError
from agentrl.retrieval.base import Document


def read_corpus(path: Path) -> Iterator[Document]:
    """The documents of a file, in order. Raises DataError naming the first line that is of no known form."""
    seen: set[str] = set()
    for number, record in read_lines(path):
        try:
            documents = list(documents_of(record, number))
        except (TypeError, ValueError, AttributeError):  # paragraphs of another shape
            documents, record = [], dict.fromkeys(record)
        if not documents and not _known(record):
            raise DataError(
                f"{path}, line {number}: a record with the keys {', '.join(sorted(record)) or '(none)'} is no passage; "
                "expected {id, contents}, {title, text}, {wikipedia_title, text} or {question, context}"
            )
        for document in documents:
            if not _grouped(record):
                yield document
            elif document.contents not in seen:
                seen.add(document.contents)
                yield document


def read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, JSON object) of every line that is not blank; of a JSON list (number in the list, object).

    Raises DataError on a damaged file.
    """
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.lstrip().startswith("["):
                    yield from _listed(path, line + file.read())
                elif line.strip():
                    yield number, _object(path, number, line)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        where = f"{path}, after line {number}" if number else str(path)
        raise DataError(f"{where}: cannot be read ({error}); expected JSON lines in UTF-8, plain or .gz") from None


def documents_of(record: Mapping[str, Any], number: int) -> Iterator[Document]:
    """The documents of one record; none when it is of no known form."""
    own = str(record.get("id", number - 1))
    if isinstance(record.get("contents"), str):
        yield Document(own, record["contents"])
    elif isinstance(record.get("wikipedia_title"), str) and isinstance(record.get("text"), list):
        paragraphs = [text.strip() for text in record["text"][1:] if not text.startswith("Section::")]
        for place, text in enumerate(text for text in paragraphs if text):
            yield Document.of(f"{own}/{place}", record["wikipedia_title"], text)
    elif isinstance(record.get("context"), list):
        for title, sentences in record["context"]:
            yield Document.of(title, title, "".join(sentences).strip())
    elif isinstance(record.get("title"), str):
        text = record.get("text", record.get("passage"))
        if isinstance(text, str):
            yield Document.of(own, record["title"], text)


def _grouped(record: Mapping[str, Any]) -> bool:
    return "contents" not in record and ("context" in record or "wikipedia_title" in record)


def _known(record: Mapping[str, Any]) -> bool:
    """A record of a known form may still hold no paragraph."""
    return isinstance(record.get("context", record.get("text")), list)


def _listed(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        records = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: begins like a JSON list but is none ({error}); is it whole?") from None
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, record {number}: not a JSON object; the file is of another format")
        yield number, record


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DataError(
            f"{path}, line {number}: not a JSON object; the file is damaged, cut short or of another format"
        )
    return record
