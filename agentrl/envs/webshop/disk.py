"""A shop of millions of products in a folder: written once, memory-mapped by every process of a host.

``build`` streams products, so it needs memory for the vocabulary, not for the products; the folder appears only
when it is complete (it is written beside its place and renamed). ``shop.json`` names the format version and the
size and SHA-256 of every file: ``open_folder`` checks version and sizes, ``verify`` also the sums.

    products.bin     one JSON list per product, end to end       product_ends.npy  [products] where each one ends
    asins.npy        [products] asins in text order              asin_order.npy    [products] their product indices
    terms.bin        the terms in byte order, end to end         term_ends.npy     [terms]
    starts.npy       [terms + 1]  postings of a term             docs.npy, loads.npy  [postings] (see ``search.Index``)
    category.npy, query.npy  [products] codes of the names in names.json      human.json  human instructions
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentrl.envs.webshop import search
from agentrl.envs.webshop.analyzer import analyze
from agentrl.envs.webshop.products import Product, contents, keep, parse
from agentrl.errors import DataError
from agentrl.hashes import file_sha256

VERSION = 1
MARK = "shop.json"
CHUNK = 50_000
CACHED_PRODUCTS = 8_192


class Products(Sequence[Product]):
    """Products decoded from the mapped file on demand (the last few thousand are kept)."""

    def __init__(self, folder: Path) -> None:
        self._data = _mapped(folder / "products.bin")
        self._ends: NDArray[np.int64] = np.load(folder / "product_ends.npy", mmap_mode="r")
        self._codes = {field: np.load(folder / f"{field}.npy", mmap_mode="r") for field in ("category", "query")}
        self._names: dict[str, list[str]] = json.loads((folder / "names.json").read_text("utf-8"))
        self._decode = lru_cache(maxsize=CACHED_PRODUCTS)(self._read)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self._ends):
            raise IndexError(f"product {index} of {len(self._ends)}")
        return self._decode(int(index))

    def _read(self, index: int) -> Product:
        start = int(self._ends[index - 1]) if index else 0
        record = json.loads(self._data[start : int(self._ends[index])])
        record[4], record[6], record[12], record[14] = (tuple(record[i]) for i in (4, 6, 12, 14))
        record[8] = {name: tuple(values) for name, values in record[8].items()}
        return Product(*record)

    def where(self, field: str, value: str) -> tuple[int, ...]:
        """Indices of the products whose ``field`` ('category' or 'query') is ``value``."""
        if value not in self._names[field]:
            return ()
        return tuple(np.flatnonzero(self._codes[field] == self._names[field].index(value)).tolist())


class Terms:
    """The vocabulary as a sorted mapped file: a term's number by binary search."""

    def __init__(self, folder: Path) -> None:
        self._data = _mapped(folder / "terms.bin")
        self._ends: NDArray[np.int64] = np.load(folder / "term_ends.npy", mmap_mode="r")

    def get(self, term: str, /) -> int | None:
        """The number of a term, None when no document has it."""
        wanted = term.encode()
        low, high = 0, len(self._ends)
        while low < high:
            middle = (low + high) // 2
            start = int(self._ends[middle - 1]) if middle else 0
            found = self._data[start : int(self._ends[middle])]
            if found == wanted:
                return middle
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        return None


class Asins(Mapping[str, int]):
    """asin to product index by binary search in the mapped sorted asins."""

    def __init__(self, folder: Path) -> None:
        self._sorted = np.load(folder / "asins.npy", mmap_mode="r")
        self._order = np.load(folder / "asin_order.npy", mmap_mode="r")

    def __getitem__(self, asin: str) -> int:
        place = int(np.searchsorted(self._sorted, asin.encode()))
        if place == len(self._sorted) or self._sorted[place] != asin.encode():
            raise KeyError(asin)
        return int(self._order[place])

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return (asin.decode() for asin in self._sorted)


@dataclass(frozen=True)
class Opened:
    """The parts of an opened folder, ready for ``Shop``."""

    name: str
    products: Products
    index: search.Index
    numbers: Asins
    human: Mapping[str, Sequence[Mapping[str, Any]]]
    rng: random.Random


def _mapped(path: Path) -> bytes:
    """A file as a read-only buffer that is paged in on use (empty files cannot be mapped)."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return b""
        mapped: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped  # type: ignore[no-any-return]


def open_folder(folder: Path) -> Opened:
    """Map a built folder. Raises DataError when it is missing, incomplete or of another format version."""
    meta = _meta(folder)
    for name, file in meta["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        if size != file["bytes"]:
            raise DataError(f"{path} has {size} bytes, expected {file['bytes']}; build the shop folder again")
    state = meta["rng"]
    rng = random.Random()
    rng.setstate((state[0], tuple(state[1]), state[2]))
    names = ("starts", "docs", "loads", "idf", "rank")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    index = search.Index(vocabulary=Terms(folder), **arrays)
    human = json.loads((folder / "human.json").read_text("utf-8"))
    return Opened(meta["name"], Products(folder), index, Asins(folder), human, rng)


def verify(folder: Path) -> None:
    """Compare the SHA-256 of every file (reads all of them). Raises DataError at the first that differs."""
    open_folder(folder)
    for name, file in _meta(folder)["files"].items():
        if file_sha256(folder / name) != file["sha256"]:
            raise DataError(f"{folder / name} is damaged (its SHA-256 differs); build the shop folder again")


def _meta(folder: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((folder / MARK).read_text("utf-8"))
        version = meta["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / MARK} could not be read ({error}); build it with import_webshop") from None
    if version != VERSION:
        raise DataError(f"{folder} has format version {version}, this program reads {VERSION}; build it again")
    return meta


def build(
    folder: Path,
    items: Iterable[Mapping[str, Any]],
    *,
    name: str,
    seed: int = 0,
    extras: Mapping[str, Mapping[str, Any]] | None = None,
    human: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a shop folder from official-schema dicts; returns the number of products.

    ``seed``, ``extras`` and ``human`` as for ``Shop.from_products``; ``progress`` is told the products done.
    Raises DataError when ``folder`` exists already.
    """
    if folder.exists():
        raise DataError(f"{folder} exists already; remove it or choose another folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rng = random.Random(seed)
    writer = _Writer(partial)
    for index, item in enumerate(keep(items)):
        writer.add(parse(item, index, rng, None if extras is None else extras.get(item["asin"], {})))
        if progress is not None and (index + 1) % CHUNK == 0:
            progress(index + 1)
    writer.finish()
    (partial / "human.json").write_text(json.dumps(human or {}), "utf-8")
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(partial.iterdir())
        if path.is_file()
    }
    meta = {"version": VERSION, "name": name, "seed": seed, "rng": rng.getstate(), "files": files}
    (partial / MARK).write_text(json.dumps(meta), "utf-8")
    os.replace(partial, folder)
    return len(writer.asins)


class _Writer:
    """Products in, files out: records as they come, postings in chunks that are merged at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asins: list[str] = []
        self._records = (folder / "products.bin").open("wb")
        self._ends: list[int] = []
        self._size = 0
        self._numbers: dict[str, int] = {}
        self._lengths: list[int] = []
        self._codes: dict[str, dict[str, int]] = {"category": {}, "query": {}}
        self._coded: dict[str, list[int]] = {"category": [], "query": []}
        self._terms: list[int] = []
        self._docs: list[int] = []
        self._counts: list[int] = []
        self._chunks = 0
        (folder / "chunks").mkdir()

    def add(self, product: Product) -> None:
        self._size += self._records.write(json.dumps(astuple(product), ensure_ascii=False).encode())
        self._ends.append(self._size)
        for field, codes in self._codes.items():
            self._coded[field].append(codes.setdefault(getattr(product, field), len(codes)))
        terms = analyze(contents(product))
        counts = Counter(terms)
        self._terms += [self._numbers.setdefault(term, len(self._numbers)) for term in counts]
        self._counts += counts.values()
        self._docs += [product.index] * len(counts)
        self._lengths.append(len(terms))
        self.asins.append(product.asin)
        if len(self._lengths) % CHUNK == 0:
            self._flush()

    def _flush(self) -> None:
        """Write the postings gathered so far as one chunk, sorted by term, then document."""
        terms = np.array(self._terms, dtype=np.int32)
        order = np.argsort(terms, kind="stable")
        columns = (terms, np.array(self._docs, dtype=np.int32), np.array(self._counts, dtype=np.int32))
        np.save(self.folder / "chunks" / f"{self._chunks}.npy", np.stack([column[order] for column in columns]))
        self._chunks += 1
        self._terms, self._docs, self._counts = [], [], []

    def finish(self) -> None:
        """Merge the chunks into the index and write everything but ``human.json`` and ``shop.json``."""
        self._flush()
        self._records.close()
        self._save("product_ends", np.array(self._ends, dtype=np.int64))
        for field, codes in self._coded.items():
            self._save(field, np.array(codes, dtype=np.int32))
        (self.folder / "names.json").write_text(json.dumps({f: list(c) for f, c in self._codes.items()}), "utf-8")
        encoded = np.array([asin.encode() for asin in self.asins], dtype="S10")
        order = np.argsort(encoded, kind="stable").astype(np.int32)
        self._save("asins", encoded[order])
        self._save("asin_order", order)
        self._save("rank", search.inverse(order))
        self._merge(self._write_terms())
        shutil.rmtree(self.folder / "chunks")

    def _save(self, name: str, array: NDArray[Any]) -> None:
        np.save(self.folder / f"{name}.npy", array)

    def _write_terms(self) -> NDArray[np.int32]:
        """Write the sorted vocabulary; returns the final number of every provisional one [terms]."""
        encoded = [term.encode() for term in self._numbers]
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        (self.folder / "terms.bin").write_bytes(b"".join(encoded[i] for i in order))
        self._save("term_ends", np.cumsum([len(encoded[i]) for i in order], dtype=np.int64))
        return search.inverse(np.array(order, dtype=np.int32))

    def _merge(self, renumber: NDArray[np.int32]) -> None:
        """Place the postings of every chunk behind those of the chunks before, term by term."""
        chunks = [self.folder / "chunks" / f"{i}.npy" for i in range(self._chunks)]
        frequency = np.zeros(len(renumber), dtype=np.int64)
        for path in chunks:
            frequency += np.bincount(renumber[np.load(path, mmap_mode="r")[0]], minlength=len(renumber))
        starts = np.concatenate(([0], np.cumsum(frequency))).astype(np.int64)
        norm = search.norms(np.array(self._lengths, dtype=np.int64))
        shape = (int(starts[-1]),)
        docs = np.lib.format.open_memmap(self.folder / "docs.npy", mode="w+", dtype=np.int32, shape=shape)
        loads = np.lib.format.open_memmap(self.folder / "loads.npy", mode="w+", dtype=np.float32, shape=shape)
        filled = starts[:-1].copy()
        for path in chunks:
            terms, chunk_docs, counts = np.load(path)
            first = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1]))) if len(terms) else terms
            runs = np.diff(np.append(first, len(terms)))
            numbers = renumber[terms[first]]
            places = np.repeat(filled[numbers] - first, runs) + np.arange(len(terms))
            docs[places] = chunk_docs
            loads[places] = np.float32(1.0) + counts.astype(np.float32) * norm[chunk_docs]
            filled[numbers] += runs
        docs.flush()
        loads.flush()
        self._save("starts", starts)
        self._save("idf", search.idf(len(self._lengths), frequency))
