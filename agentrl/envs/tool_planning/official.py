"""Official sets of function calls as tasks: which loader reads a folder, and how its tasks are split.

Single-turn tasks of equal tools are one family; 20 % of the families are test, 10 % val, the rest train, by a hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError, DataError
from agentrl.hashes import text_hash
from agentrl.types import Split, Task

SPLITS: tuple[Split, ...] = ("train", "val", "test")
Record = tuple[str, str, Mapping[str, Any]]  # task id, family, data


def load(data: str, subset: str, distractors: int, columns: Any) -> list[Record]:
    """Records of a BFCL or NESTFUL folder, or of a table (see ``rows``, for which ``columns`` are). Raises DataError
    where it is none of them, ConfigError for an empty subset."""
    from agentrl.envs.tool_planning import bfcl, nestful, rows

    folder, table = Path(data), rows.is_table(data)
    if not folder.is_dir() and not table:
        raise DataError(
            f"env.data={data}: there is no such folder or file; give 'bundled', a folder of BFCL or NESTFUL files, "
            "a .jsonl, .json or .parquet file of questions, tools and calls, or hub:OWNER/NAME"
        )
    if any(folder.glob("BFCL_v*_*.json")):
        records = bfcl.load(folder, subset)
    elif any(folder.rglob("*-data.json")):
        records = nestful.load(folder, subset, distractors)
    elif table:
        records = rows.load(data, subset, columns)
    else:
        raise DataError(
            f"env.data={folder}: no BFCL_v*_*.json (BFCL), no *-data.json (NESTFUL) and no table (.jsonl, .json, "
            ".parquet) found there"
        )
    if not records:
        raise ConfigError(
            f"env.subset={subset!r}: no file of {folder} has this in its name; use 'all', or a part of one"
        )
    return records


def official_panels(records: Sequence[Record], sizes: Mapping[str, int]) -> dict[Split, list[Task]]:
    """Train, val and test, in an order fixed by hashes."""
    panels: dict[Split, list[Task]] = {split: [] for split in SPLITS}
    for name, family, data in sorted(records, key=lambda record: text_hash(record[0])):
        tenth = text_hash(family) % 10
        split: Split = "test" if tenth < 2 else "val" if tenth == 2 else "train"
        panels[split].append(Task(name, split, family, data))
    return {split: tasks[: sizes.get(split)] for split, tasks in panels.items()}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file with one a line. Raises DataError naming the line that is none."""
    return [value for _, value in json_lines_at(path)]


def json_lines_at(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The same with the number of each line (from 1)."""
    found = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            found.append((number, _object(line, f"{path}, line {number}", dict)))
    return found


def json_list(path: Path) -> list[dict[str, Any]]:
    """A file that is one list of objects. Raises DataError."""
    listed: list[dict[str, Any]] = _object(_text(path), str(path), list)
    return listed


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the original file") from error


def _object(text: str, where: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON ({error}); give the original file") from error
    if not isinstance(value, kind):
        raise DataError(f"{where}: holds a {type(value).__name__}, expected a {kind.__name__}; give the original file")
    return value
