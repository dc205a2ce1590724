"""BM25 as Lucene scores it (k1 0.9, b 0.4, pyserini's defaults): bm25s builds the matrix of scores, numpy queries it.

bm25s's own query adds up whole columns and looks through all documents; with 100,000 of them that takes 10 ms.
Here the rare terms are added first. Once the terms that are left could not lift an unseen document into the best k,
only the documents seen so far are completed, term by term. The answer is the exact one: scores are sums in double
precision in a fixed order, equal scores are ordered by the document's place, so it is the same on every machine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATTERN = r"(?u)\b\w+\b"
K1, B = 0.9, 0.4
SLACK = 1e-6  # added to upper bounds: sums in another order may differ by rounding
DENSE = 0.3  # share of documents in the postings of a query from which pruning is no longer worth it

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """Scores by term: ``scores[starts[t]:starts[t + 1]]`` belong to ``documents`` of the same range (ascending)."""

    scores: Floats
    documents: Ints
    starts: NDArray[np.int64]
    count: int  # documents

    @cached_property
    def highest(self) -> Floats:
        """The best score that each term gives any document. [terms]"""
        if not len(self.scores):
            return np.zeros(max(len(self.starts) - 1, 0), np.float32)
        return np.maximum.reduceat(self.scores, self.starts[:-1]).astype(np.float32)

    def column(self, term: int) -> tuple[Ints, Floats]:
        """The documents of a term and its score in each."""
        start, end = self.starts[term], self.starts[term + 1]
        return self.documents[start:end], self.scores[start:end]


def tokenize(texts: Sequence[str]) -> list[list[str]]:
    """Terms of each text: words in lower case without 33 English stop words, Porter stems."""
    import bm25s

    found: list[list[str]] = bm25s.tokenize(
        list(texts),
        token_pattern=PATTERN,
        stopwords="en",
        stemmer=_stemmer(),
        return_ids=False,
        show_progress=False,
    )
    return found


def build(texts: Sequence[str]) -> tuple[Matrix, dict[str, int]]:
    """The score matrix of some texts and the number of each term."""
    import bm25s

    terms = tokenize(texts)
    numbers = {term: number for number, term in enumerate(sorted({term for text in terms for term in text}))}
    if not numbers:
        return Matrix(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64), len(texts)), numbers
    coded = [[numbers[term] for term in text] for text in terms]
    model = bm25s.BM25(method="lucene", k1=K1, b=B)
    model.index((coded, numbers), create_empty_token=False, show_progress=False)
    made: Mapping[str, Any] = model.scores
    return _sorted(made["data"], made["indices"], made["indptr"], len(texts)), numbers


def _sorted(scores: Floats, documents: Ints, starts: NDArray[Any], count: int) -> Matrix:
    """The matrix with the documents of every term in ascending order."""
    terms = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((documents, terms))
    return Matrix(
        np.ascontiguousarray(scores[order], np.float32),
        np.ascontiguousarray(documents[order], np.int32),
        np.ascontiguousarray(starts, np.int64),
        count,
    )


class Searcher:
    """Queries a matrix. One query at a time (a lock keeps threads apart): it owns one sum for every document."""

    def __init__(self, matrix: Matrix, numbers: Mapping[str, int]) -> None:
        self._matrix = matrix
        self._numbers = numbers
        self._highest = matrix.highest
        self._sums = np.zeros(matrix.count, np.float64)
        self._lock = threading.Lock()

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """(place of the document, score) of the best ``k`` documents that hold a term of the query, best first."""
        found = [self._numbers[term] for term in tokenize([query])[0] if term in self._numbers]
        if not found or k < 1:
            return []
        counts: dict[int, int] = {}
        for term in found:
            counts[term] = counts.get(term, 0) + 1
        with self._lock:
            candidates = self._candidates(sorted(counts.items(), key=lambda pair: -self._highest[pair[0]] * pair[1]), k)
        scores = self._complete(candidates, sorted(counts.items()))
        best = np.lexsort((candidates, -scores))[:k]
        return [(int(candidates[i]), float(scores[i])) for i in best if scores[i] > 0]

    def _candidates(self, terms: Sequence[tuple[int, int]], k: int) -> Ints:
        """Documents among which the best ``k`` are, ascending."""
        bounds = [float(self._highest[term]) * times for term, times in terms]
        rest = sum(bounds) + SLACK
        threshold, seen, touched = 0.0, [], 0
        try:
            for (term, times), bound in zip(terms, bounds, strict=True):
                documents, scores = self._matrix.column(term)
                self._sums[documents] += scores * np.float32(times)
                seen.append(documents)
                touched += len(documents)
                rest -= bound
                if len(documents) >= k:
                    place = len(documents) - k
                    threshold = max(threshold, float(np.partition(self._sums[documents], place)[place]))
                if rest < threshold:
                    break
            if touched > DENSE * self._matrix.count:
                least = max(threshold - rest - SLACK, np.finfo(np.float64).tiny)
                return np.flatnonzero(self._sums >= least).astype(np.int32)
            near = [documents[self._sums[documents] >= threshold - rest - SLACK] for documents in seen]
            return np.unique(np.concatenate(near))
        finally:
            for documents in seen:
                self._sums[documents] = 0.0

    def _complete(self, candidates: Ints, terms: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """Scores of the candidates, every term added in the order of its number."""
        total = np.zeros(len(candidates), np.float64)
        for term, times in terms:
            documents, scores = self._matrix.column(term)
            places = np.searchsorted(documents, candidates)
            places[places == len(documents)] = 0
            total += np.where(documents[places] == candidates, scores[places].astype(np.float64) * times, 0.0)
        return total


_LOCAL = threading.local()


def _stemmer() -> Any:
    """Snowball's Porter stemmer; it is not safe to share between threads."""
    if not hasattr(_LOCAL, "stemmer"):
        import Stemmer

        _LOCAL.stemmer = Stemmer.Stemmer("porter")
    return _LOCAL.stemmer
