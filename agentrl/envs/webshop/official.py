"""The official WebShop files: which are there, and what they hold.

Product names are searched by pattern, so both the original download (``items_shuffle.json``) and smaller or
gzipped sets (``items_shuffle_1000.json.gz``) are found in a folder.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.errors import DataError

PATTERNS = {"products": "items_shuffle*.json*", "attributes": "items_ins_v2*.json*", "human": "items_human_ins*.json*"}


@dataclass(frozen=True)
class Official:
    """The files of one folder, read: product dicts, {asin: attributes and instruction}, {asin: human instructions}."""

    name: str
    items: Sequence[Mapping[str, Any]]
    extras: Mapping[str, Mapping[str, Any]]
    human: Mapping[str, Sequence[Mapping[str, Any]]]


def find(folder: Path, kind: str) -> Path | None:
    """The one file of ``kind`` ('products', 'attributes', 'human'), None without any; several raise DataError."""
    found = sorted(folder.glob(PATTERNS[kind]))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder} holds {len(found)} files like {PATTERNS[kind]} ({names}); keep one in the folder")
    return found[0] if found else None


def read_json(path: Path) -> Any:
    """The content of a JSON file, gzipped or not. Raises DataError when it is missing, cut short or not JSON."""
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} could not be read ({error}); is the download whole?") from None


def stream(path: Path, piece: int = 1 << 22) -> Iterator[Mapping[str, Any]]:
    """The objects of a JSON list one by one, so that files larger than memory can be read. Raises DataError."""
    decoder = json.JSONDecoder()
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            text = file.read(piece).lstrip()
            if not text.startswith("["):
                raise DataError(f"{path} does not start with `[`; expected a list of products")
            place, whole = 1, False
            while not whole:
                try:
                    while not (whole := (place := _skip(text, place)) < len(text) and text[place] == "]"):
                        item, place = decoder.raw_decode(text, place)
                        yield item
                except json.JSONDecodeError:
                    more = file.read(piece)
                    if not more:
                        raise DataError(f"{path} ends inside its list of products; is the download whole?") from None
                    text, place = text[place:] + more, 0
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} could not be read ({error}); is the download whole?") from None


def _skip(text: str, place: int) -> int:
    """The next place that holds neither white space nor a comma."""
    while place < len(text) and text[place] in " \n\r\t,":
        place += 1
    return place


def read_official(folder: Path) -> Official:
    """All official files of a folder, read at once. Products and attributes are needed, human instructions optional."""
    paths = locate(folder)
    items = read_json(paths["products"])
    if not isinstance(items, list):
        raise DataError(f"{paths['products']} holds a {type(items).__name__}; expected a list of products")
    return Official(name_of(paths["products"]), items, *read_instructions(paths))


def name_of(products: Path) -> str:
    """The name of a data set: that of its product file, without endings."""
    return products.name.split(".")[0]


def read_instructions(paths: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """({asin: attributes and instruction}, {asin: human instructions})."""
    extras = read_json(paths["attributes"])
    human = read_json(paths["human"]) if "human" in paths else {}
    for kind, content in (("attributes", extras), ("human", human)):
        if not isinstance(content, dict):
            raise DataError(f"{paths[kind]} holds a {type(content).__name__}; expected an object by asin")
    return extras, human


def locate(folder: Path) -> dict[str, Path]:
    """The files by kind; 'human' only if it is there. Raises DataError when products or attributes are missing."""
    if not folder.is_dir():
        raise DataError(f"WebShop data folder {folder} does not exist; give the folder that holds items_shuffle*.json")
    paths = {kind: path for kind in PATTERNS if (path := find(folder, kind)) is not None}
    for kind in ("products", "attributes"):
        if kind not in paths:
            raise DataError(f"WebShop data folder {folder} has no file {PATTERNS[kind]}; put the official file there")
    return paths
