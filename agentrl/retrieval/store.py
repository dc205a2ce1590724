"""Documents with their BM25 index: in memory, or in a folder of memory-mapped files that is built once.

A folder is named by the hash of what it was made from and sealed with a manifest of checksums: it is used whole or made
again. Several processes may build it at the same time; the first to finish is kept::

    <folder>/<hash>/
        documents.jsonl          {"id", "contents"}, one a line
        offsets.npy              where each line begins; one more for the end
        scores.npy documents.npy starts.npy   the matrix (see bm25)
        terms.json               the terms in the order of their numbers
        manifest.json            what it was made from, SHA-256 of every other file
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agentrl.errors import DataError
from agentrl.hashes import file_sha256
from agentrl.retrieval import bm25
from agentrl.retrieval.base import Document, Hit
from agentrl.retrieval.corpus import read_corpus
from agentrl.watchdog import patience

READING_S = 3600.0  # in which a corpus of real size must be read or indexed

FORMAT = 1
CACHED = 65_536  # answers remembered: members of a group ask the same questions
LONGEST_CACHED = 1000  # characters of a query that is remembered
ARRAYS = ("scores", "documents", "starts")
ANALYZER = "lower case, 33 stop words, Porter"


class Documents(Protocol):
    """A sequence of documents that may lie on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Document: ...


class Store:
    """A corpus that answers queries. Build it with :meth:`build` or :meth:`of_file`."""

    def __init__(self, documents: Documents, matrix: bm25.Matrix, numbers: Mapping[str, int], digest: str) -> None:
        self.documents = documents
        self.digest = digest
        self._searcher = bm25.Searcher(matrix, numbers)
        self._cache: OrderedDict[tuple[str, int], tuple[Hit, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self.asked = self.found_cached = 0

    @classmethod
    def build(cls, documents: Sequence[Document]) -> Store:
        """Index documents in memory."""
        matrix, numbers = bm25.build([document.contents for document in documents])
        return cls(documents, matrix, numbers, digest_of(documents))

    @classmethod
    @patience("environment", "reading the corpus", READING_S)
    def of_file(cls, path: Path, folder: Path) -> Store:
        """The corpus in a file, indexed under ``folder`` at first use. Raises DataError when it cannot be read."""
        target = folder / _key(path)
        if not (target / "manifest.json").is_file():
            _make(path, target)
        return _open(target)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "retriever": "bm25",
            "documents": len(self.documents),
            "corpus": self.digest,
            "analyzer": ANALYZER,
            "k1": bm25.K1,
            "b": bm25.B,
        }

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """The best ``k`` documents of each query; answers are remembered by (query, k)."""
        return [self._one(query, k) for query in queries]

    def _one(self, query: str, k: int) -> tuple[Hit, ...]:
        if len(query) > LONGEST_CACHED:
            return self._look_up(query, k)
        key = (query, k)
        with self._lock:
            self.asked += 1
            if key in self._cache:
                self.found_cached += 1
                self._cache.move_to_end(key)
                return self._cache[key]
        hits = self._look_up(query, k)
        with self._lock:
            self._cache[key] = hits
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return hits

    def _look_up(self, query: str, k: int) -> tuple[Hit, ...]:
        return tuple(Hit(self.documents[place], score) for place, score in self._searcher.search(query, k))


class _Lines:
    """Documents in a memory-mapped file, parsed when asked for."""

    def __init__(self, path: Path, offsets: Any) -> None:
        self._file = path.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int, /) -> Document:
        record = json.loads(self._map[int(self._offsets[place]) : int(self._offsets[place + 1])])
        return Document(record["id"], record["contents"])


def digest_of(documents: Iterable[Document]) -> str:
    """SHA-256 (first 16 digits) of ids and contents in their order."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document.id}\x1f{document.contents}\x1e".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _key(path: Path) -> str:
    """The hash of a corpus file and of how it is indexed."""
    about = json.dumps([FORMAT, ANALYZER, bm25.PATTERN, bm25.K1, bm25.B])
    try:
        content = file_sha256(path)
    except OSError as error:
        raise DataError(f"corpus {path}: {error.strerror}; give an existing file of JSON lines") from None
    return hashlib.sha256(f"{about}{content}".encode()).hexdigest()[:16]


def _make(path: Path, target: Path) -> None:
    """Index a corpus file into a folder beside its place, then move it there whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".draft_{target.name}_"))
    try:
        documents = list(read_corpus(path))
        if not documents:
            raise DataError(f"corpus {path}: holds no passage; expected JSON lines of {{id, contents}}")
        _write_documents(draft, documents)
        matrix, numbers = bm25.build([document.contents for document in documents])
        for name in ARRAYS:
            np.save(draft / f"{name}.npy", getattr(matrix, name))
        (draft / "terms.json").write_text(json.dumps(list(numbers)), encoding="utf-8")
        files = {entry.name: file_sha256(entry) for entry in sorted(draft.iterdir())}
        manifest = {"format": FORMAT, "corpus": digest_of(documents), "documents": len(documents), "files": files}
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        os.chmod(draft, 0o755)
        if target.is_dir():  # incomplete: without a manifest
            shutil.rmtree(target)
        draft.rename(target)
    except OSError:
        if not (target / "manifest.json").is_file():  # else another process made the same one first
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_documents(draft: Path, documents: Sequence[Document]) -> None:
    offsets = [0]
    with (draft / "documents.jsonl").open("wb") as file:
        for document in documents:
            line = json.dumps({"id": document.id, "contents": document.contents}).encode() + b"\n"
            file.write(line)
            offsets.append(offsets[-1] + len(line))
    np.save(draft / "offsets.npy", np.array(offsets, np.int64))


def _open(folder: Path) -> Store:
    """A verified index folder, memory-mapped. Raises DataError when a file is not as it was written."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        damaged = [name for name, sha in manifest["files"].items() if file_sha256(folder / name) != sha]
    except (OSError, ValueError, KeyError) as error:
        raise _broken(folder, str(error)) from None
    if damaged:
        raise _broken(folder, f"{', '.join(damaged)} changed")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*ARRAYS, "offsets")}
    documents = _Lines(folder / "documents.jsonl", arrays["offsets"])
    matrix = bm25.Matrix(arrays["scores"], arrays["documents"], np.asarray(arrays["starts"]), len(documents))
    terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
    return Store(documents, matrix, {term: number for number, term in enumerate(terms)}, manifest["corpus"])


def _broken(folder: Path, why: str) -> DataError:
    return DataError(f"index {folder}: incomplete or damaged ({why}); delete the folder, and it is made again")
