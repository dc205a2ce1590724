"""A run's plays as blocks of a page: what the list needs at once, all else in pieces that are unpacked when wanted.

A block is base64 of gzip of JSON. ``index`` holds a column for each fact that the list filters by; ``text0``,
``text1``, ... every distinct text once; ``plays0``, ... the turns of ``PLAYS`` plays each, with texts by number;
``pieces`` the text of each token. In a turn: ``a`` action, ``o`` observation (role, text), ``p`` prompt (how many
tokens it shares with those so far, the ids after these), ``i`` sampled ids, and one number for each of these, or one
for all: ``l`` logprobs of the engine, ``d`` advantages, ``g`` logprobs of the learner, ``h`` entropies (nats).
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.viewer.reading import Pieces, Play
from agentrl.viewer.text import visible

PLAYS = 64  # plays of a block: some 100 kB of JSON
LETTERS = 1_000_000  # characters of a block of texts, about
LEVEL = 6  # of gzip
PER_TOKEN = {"l": "logprobs", "d": "advantages", "g": "learner_logprobs", "h": "entropies"}
NUMBERS = {"step": "step", "group": "group", "copy": "copy", "member": "member", "success": "success"}
AMOUNTS = {"reward": "reward", "env": "env_return", "weight": "weight"}
NAMED = {"task": "task", "family": "family", "stop": "stop"}


@dataclass(frozen=True)
class Packed:
    """``head``: what is known of the whole; ``blocks``: base64 by name."""

    head: dict[str, Any]
    blocks: dict[str, str]


@dataclass
class Names:
    """Distinct texts, numbered in the order in which they came."""

    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, text: object) -> int:
        return self.numbers.setdefault(str(text), len(self.numbers))

    def listed(self) -> list[str]:
        return [visible(text) for text in self.numbers]


class Packer:
    """Takes plays one by one; what it keeps of them is small."""

    def __init__(self) -> None:
        self._texts = Names()
        self._names = {name: Names() for name in NAMED}
        self._columns: dict[str, list[Any]] = {name: [] for name in (*NUMBERS, *AMOUNTS, *NAMED, "turns", "tokens")}
        self._refs: list[int] = []  # texts of all plays, one play after the other ...
        self._ends: list[int] = []  # ... and where each play ends there
        self._open: list[dict[str, Any]] = []
        self._blocks: dict[str, str] = {}
        self._ids: set[int] = set()
        self._largest: dict[str, list[float]] = {key: [] for key in PER_TOKEN}

    def add(self, play: Play) -> None:
        """One more line of the run's file."""
        for column, key in NUMBERS.items():
            self._columns[column].append(int(play.get(key, 0)))
        for column, key in AMOUNTS.items():
            self._columns[column].append(number(play.get(key)))
        for column, key in NAMED.items():
            self._columns[column].append(self._names[column].of(play.get(key, "")))
        self._columns["turns"].append(len(play["turns"]))
        self._columns["tokens"].append(sum(len(turn["action_ids"]) for turn in play["turns"]))
        packed = self._packed(play)
        self._refs += sorted(_texts(packed))
        self._ends.append(len(self._refs))
        self._open.append(packed)
        if len(self._open) == PLAYS:
            self._close()

    def finish(self, pieces: Pieces | None) -> Packed:
        """All blocks; ``pieces`` gives tokens their text (None: they are shown as numbers)."""
        if self._open:
            self._close()
        names = {f"{name}s": found.listed() for name, found in self._names.items()}
        self._blocks["index"] = _block({**names, **self._columns, "refs": self._refs, "ends": self._ends})
        ids = sorted(self._ids)
        texts = [visible(text) for text in pieces(ids)] if pieces else []
        self._blocks["pieces"] = _block({"ids": ids, "texts": texts})
        starts = self._put_texts()
        scales = {key: _high(values) for key, values in self._largest.items() if values}
        known = {"plays": len(self._ends), "block": PLAYS, "texts": len(self._texts.numbers)}
        return Packed({**known, "textStarts": starts, "scales": scales}, self._blocks)

    def _close(self) -> None:
        self._blocks[f"plays{(len(self._ends) - 1) // PLAYS}"] = _block(self._open)
        self._open = []

    def _put_texts(self) -> list[int]:
        """The blocks of texts; gives the number of the first text of each."""
        starts: list[int] = []
        part: list[str] = []
        letters = place = 0
        for text in self._texts.listed():
            part.append(text)
            letters += len(text)
            if letters >= LETTERS:
                self._blocks[f"text{len(starts)}"] = _block(part)
                starts.append(place)
                place, part, letters = place + len(part), [], 0
        if part:
            self._blocks[f"text{len(starts)}"] = _block(part)
            starts.append(place)
        return starts

    def _packed(self, play: Play) -> dict[str, Any]:
        parts = {visible(str(key)): number(value) for key, value in (play.get("reward_parts") or {}).items()}
        first = self._said(play.get("first_observation") or [])
        packed: dict[str, Any] = {"parts": parts, "first": first, "turns": []}
        if play.get("error"):
            packed["error"] = self._texts.of(play["error"])
        before: list[int] = []
        for turn in play["turns"]:
            packed["turns"].append(self._turn(turn, before))
            before = turn["prompt_ids"] + turn["action_ids"]
        return packed

    def _turn(self, turn: dict[str, Any], before: list[int]) -> dict[str, Any]:
        prompt, action = turn["prompt_ids"], turn["action_ids"]
        shared = len(before) if before and prompt[: len(before)] == before else 0
        self._ids.update(prompt[shared:])
        self._ids.update(action)
        packed = {
            "a": self._texts.of(turn.get("action", "")),
            "o": self._said(turn.get("observation") or []),
            "p": [shared, prompt[shared:]],
            "i": action,
            "r": number(turn.get("reward")),
            "ok": bool(turn.get("parsed", True)),
            "end": visible(str(turn.get("finish", ""))),
            "v": turn.get("version", 0),
        }
        if turn.get("info"):
            packed["n"] = visible(json.dumps(turn["info"], ensure_ascii=False, default=str))
        for key, name in PER_TOKEN.items():
            values = turn.get(name) or ()
            if len(values) == len(action) > 0:
                packed[key] = self._numbers(key, values)
        return packed

    def _numbers(self, key: str, values: Sequence[float]) -> list[float | None] | float | None:
        """One number for each token, or the one that all share."""
        found = [number(value) for value in values]
        self._largest[key].append(max((abs(value) for value in found if value is not None), default=0.0))
        return found[0] if len(set(found)) == 1 else found

    def _said(self, messages: Sequence[dict[str, Any]]) -> list[list[Any]]:
        return [[visible(str(message["role"])), self._texts.of(message["content"])] for message in messages]


def number(value: float | None) -> float | None:
    """A number as JSON has it, rounded; None where there is none, or none that is finite."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def _texts(packed: dict[str, Any]) -> set[int]:
    """The numbers of all texts of a play."""
    found = {ref for _, ref in packed["first"]} | {turn["a"] for turn in packed["turns"]}
    found |= {ref for turn in packed["turns"] for _, ref in turn["o"]}
    return found | ({packed["error"]} if "error" in packed else set())


def _high(values: Sequence[float]) -> float:
    """What 98 % of the turns stay below: the end of a colour scale, which a single outlier should not stretch."""
    return sorted(values)[int(0.98 * (len(values) - 1))] or max(values)


def _block(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), LEVEL, mtime=0)).decode()
