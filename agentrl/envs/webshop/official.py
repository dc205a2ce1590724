"""The official WebShop files: which are there, and what they hold.

Product names are searched by pattern, so both the original download (``items_shuffle.json``) and smaller or
gzipped sets (``items_shuffle_1000.json.gz``) are found in a folder.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
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


def read_official(folder: Path) -> Official:
    """All official files of a folder. Products and attributes are needed, human instructions are optional."""
    if not folder.is_dir():
        raise DataError(f"WebShop data folder {folder} does not exist; give the folder that holds items_shuffle*.json")
    paths = {kind: find(folder, kind) for kind in PATTERNS}
    products, attributes = paths["products"], paths["attributes"]
    if products is None or attributes is None:
        missing = PATTERNS["products"] if products is None else PATTERNS["attributes"]
        raise DataError(f"WebShop data folder {folder} has no file {missing}; put the official file there")
    items = read_json(products)
    if not isinstance(items, list):
        raise DataError(f"{products} holds a {type(items).__name__}; expected a list of products")
    human = read_json(paths["human"]) if paths["human"] is not None else {}
    return Official(products.name.split(".")[0], items, read_json(attributes), human)
