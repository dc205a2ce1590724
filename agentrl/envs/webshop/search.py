"""BM25 as Anserini computes it over Lucene, on flat arrays that can be memory-mapped.

    idf(t)     = ln(1 + (N - df + .5) / (df + .5))
    score(d,q) = sum over t of  w - w / (1 + tf * norm(d)),   w = (times t occurs in q) * idf(t)
    norm(d)    = 1 / (k1 * ((1 - b) + b * dl(d) / avgdl)),    k1 = .9, b = .4

with parts in single and their sum in double precision, rounded to single; dl is Lucene's one-byte quantised length,
avgdl the mean of the true lengths. Ties go to the smaller document id (text order). The postings hold
``1 + tf * norm(d)``, so a query is a few array sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agentrl.envs.webshop.analyzer import analyze

K1, B = 0.9, 0.4
_BLOCK = 1024
_MANY = 20_000  # postings

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


class Vocabulary(Protocol):
    """Term to its number; None for an unknown term."""

    def get(self, term: str, /) -> int | None: ...


def quantised_length(length: int) -> int:
    """A document length as Lucene stores it in one byte: exact below 40, then four leading binary digits."""
    if length < 40:
        return length
    rest = length - 24
    shift = rest.bit_length() - 4
    return 24 + (rest >> shift << shift)


def norms(lengths: NDArray[np.int64]) -> Floats:
    """norm(d) for documents of the given true lengths [docs]."""
    unique, inverse = np.unique(lengths, return_inverse=True)
    stored = np.array([quantised_length(int(length)) for length in unique], dtype=np.float32)
    average = np.float32(lengths.sum() / max(len(lengths), 1))
    one = np.float32(1.0)
    per_length = one / (np.float32(K1) * ((one - np.float32(B)) + np.float32(B) * stored / average))
    result: Floats = per_length.astype(np.float32)[inverse]
    return result


def idf(documents: int, frequency: NDArray[np.int64]) -> Floats:
    """idf of terms that occur in ``frequency`` documents each."""
    result: Floats = np.log(1 + (documents - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
    return result


@dataclass(frozen=True)
class Index:
    """Postings by term (CSR): documents ``docs[starts[t]:starts[t + 1]]`` with ``loads`` = 1 + tf * norm.

    ``rank[d]`` is the place of document d's id in text order (breaks ties); ``idf[t]`` the term weights.
    Arrays may be memory-mapped. Nothing is written after construction, so threads and forks may share it.
    """

    vocabulary: Vocabulary
    starts: NDArray[np.int64]
    docs: Ints
    loads: Floats
    idf: Floats
    rank: Ints

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.rank)

    def weights(self, terms: Sequence[str]) -> list[tuple[int, np.float32]]:
        """(term number, w) for the known terms of a query, in order of first occurrence."""
        counts = Counter(terms)
        return [
            (number, np.float32(count) * self.idf[number])
            for term, count in counts.items()
            if (number := self.vocabulary.get(term)) is not None
        ]

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """The ``k`` best documents as (document, score), best first; only documents that match a term."""
        weights = self.weights(analyze(query))
        if not weights:
            return []
        scores = self._scores(weights)
        found = np.flatnonzero(scores >= self._bar(scores, k))
        values = scores[found]
        if len(found) > k:
            best = values >= np.partition(values, -k)[-k]
            found, values = found[best], values[best]
        order = np.lexsort((self.rank[found], -values))[:k]
        return list(zip(found[order].tolist(), values[order].tolist(), strict=True))

    def _scores(self, weights: Sequence[tuple[int, np.float32]]) -> Floats:
        """Scores of all documents [docs], for query terms with their w.

        Few postings are summed in one call, many term by term (which moves less memory); the additions are the same.
        """
        spans = [(int(self.starts[number]), int(self.starts[number + 1]), w) for number, w in weights]
        if sum(stop - start for start, stop, _ in spans) > _MANY:
            total = np.zeros(self.documents)
            for start, stop, w in spans:
                total[self.docs[start:stop]] += w - w / self.loads[start:stop]
            return total.astype(np.float32)
        docs = np.concatenate([self.docs[start:stop] for start, stop, _ in spans])
        loads = np.concatenate([self.loads[start:stop] for start, stop, _ in spans])
        each = np.repeat(np.array([w for *_, w in spans]), [stop - start for start, stop, _ in spans])
        return np.bincount(docs, each - each / loads, self.documents).astype(np.float32)

    @staticmethod
    def _bar(scores: Floats, k: int) -> np.float32:
        """A positive score that the best ``k`` documents reach: in big shops the k-th best of the blocks' best."""
        least = np.float32(np.finfo(np.float32).tiny)
        blocks = len(scores) // _BLOCK
        if blocks <= k:
            return least
        tops = scores[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        return max(least, np.partition(tops, -k)[-k])


def build(documents: Iterable[Sequence[str]], ids: Sequence[str]) -> Index:
    """An in-memory index of documents given as terms; ``ids`` (text) break ties."""
    numbers: dict[str, int] = {}
    term_of: list[int] = []
    doc_of: list[int] = []
    tf_of: list[int] = []
    lengths: list[int] = []
    for doc, terms in enumerate(documents):
        counts: Mapping[str, int] = Counter(terms)
        term_of += [numbers.setdefault(term, len(numbers)) for term in counts]
        tf_of += counts.values()
        doc_of += [doc] * len(counts)
        lengths.append(len(terms))
    terms_array = np.array(term_of, dtype=np.int32)
    order = np.argsort(terms_array, kind="stable")
    docs = np.array(doc_of, dtype=np.int32)[order]
    frequency = np.bincount(terms_array, minlength=len(numbers)).astype(np.int64)
    norm = norms(np.array(lengths, dtype=np.int64))
    return Index(
        vocabulary=numbers,
        starts=np.concatenate(([0], np.cumsum(frequency))).astype(np.int64),
        docs=docs,
        loads=np.float32(1.0) + np.array(tf_of, dtype=np.float32)[order] * norm[docs],
        idf=idf(len(lengths), frequency),
        rank=ranks(ids),
    )


def ranks(ids: Sequence[str]) -> Ints:
    """Place of every id in text order [docs]."""
    return inverse(np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int32))


def inverse(order: Ints) -> Ints:
    """The inverse of a permutation."""
    result = np.empty(len(order), dtype=np.int32)
    result[order] = np.arange(len(order), dtype=np.int32)
    return result
