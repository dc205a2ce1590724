"""``agentrl show RUN``: the page of ``agentrl view``, in the terminal. Text of strangers gives it no orders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentrl.config import nearest
from agentrl.errors import ConfigError
from agentrl.viewer.reading import Pieces, Play, RunFolder, name, open_run
from agentrl.viewer.text import visible

LISTED = 40  # plays of a table; more are counted
TITLES = ("play", "task", "success", "reward", "turns", "tokens", "end")
CLIP = 2000  # characters of one text; more are counted
SURPRISE = (0.3, 1.5, 3.0)  # nats: where colours change
GAP = (1e-4, 1e-2, 1e-1)  # nats
HEAT = ("", "yellow", "dark_orange", "bold red")


def show(cfg: Any) -> dict[str, Any]:
    """Print the one play that fits, or a table of those that do. Gives their names. Raises ConfigError, DataError."""
    if cfg.colour not in COLOURS:
        raise ConfigError(f"colour={cfg.colour}: no such colouring; {nearest(str(cfg.colour), COLOURS)}")
    run = open_run(cfg.run)
    found, count = _found(run, cfg)
    console = Console(highlight=False, soft_wrap=True)
    if count > 1:
        _table(console, found, count)
        console.print(Text(f"one of them in full: agentrl show {cfg.run} play={name(found[0])}", style="dim"))
    else:
        pieces, why = run.pieces()
        siblings = [play for play in run.plays() if _group(play) == _group(found[0])]
        _Sheet(console, pieces, COLOURS[cfg.colour]).play(found[0])
        if len(siblings) > 1:
            console.print(Text("its group", style="bold"))
            _table(console, siblings[:LISTED], len(siblings))
        if why:
            console.print(Text(visible(f"tokens are shown as numbers: {why}"), style="yellow"))
    return {"plays": [name(play) for play in found], "count": count}


def _found(run: RunFolder, cfg: Any) -> tuple[list[Play], int]:
    """The first plays that fit the words of the command line, and how many do. Raises ConfigError where none does."""

    def fits(play: Play) -> bool:
        return (
            (cfg.step is None or play["step"] == cfg.step)
            and (cfg.task is None or str(cfg.task) in str(play["task"]))
            and (cfg.play is None or name(play) == str(cfg.play))
        )

    found: list[Play] = []
    steps: list[int] = []
    count = 0
    for play in run.plays():
        steps.append(play["step"])
        if fits(play):
            count += 1
            found += [play] if len(found) < LISTED else []
    if not count:
        given = " ".join(f"{key}={cfg[key]}" for key in ("step", "task", "play") if cfg[key] is not None)
        raise ConfigError(
            f"{given or cfg.run}: no play fits; this run has {len(steps)} plays of the steps {min(steps, default=0)} "
            f"to {max(steps, default=0)}, and `agentrl show {cfg.run}` lists them"
        )
    return found, count


def _group(play: Play) -> tuple[int, int]:
    return play["step"], play["group"]


def _table(console: Console, plays: Sequence[Play], count: int) -> None:
    """These plays, and how many more there are: a table in a terminal, lines with tabs elsewhere."""
    rows = [[_line(cell) for cell in _cells(play)] for play in plays]
    if console.is_terminal:
        table = Table(box=None, pad_edge=False)
        for title in TITLES:
            table.add_column(title, justify="right" if title in ("reward", "turns", "tokens") else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for line in (TITLES, *rows):
            console.print(Text("\t".join(str(cell) for cell in line)))
    if count > len(plays):
        console.print(Text(f"and {count - len(plays)} more; step=, task= and play= choose", style="dim"))


def _cells(play: Play) -> tuple[object, ...]:
    tokens = sum(len(turn["action_ids"]) for turn in play["turns"])
    success = "yes" if play["success"] else "no"
    return name(play), play["task"], success, f"{play['reward']:.3g}", len(play["turns"]), tokens, play["stop"]


@dataclass(frozen=True)
class _Sheet:
    """One play on the terminal; ``style`` gives the style of a sampled token of a turn."""

    console: Console
    pieces: Pieces | None
    style: Any

    def play(self, play: Play) -> None:
        parts = ", ".join(f"{key} {value:.3g}" for key, value in (play.get("reward_parts") or {}).items())
        facts = f"step {play['step']}, group {play['group']}, member {play['member']}, {play['stop']}"
        self._print(f"{play['task']}", "bold")
        self._print(f"{facts}; {'success' if play['success'] else 'no success'}; reward {play['reward']:.3g} ({parts})")
        self._messages(play.get("first_observation") or [])
        for number, turn in enumerate(play["turns"], 1):
            self._turn(turn, number)
        if play.get("error"):
            self._print(f"the environment failed: {play['error']}", "red")

    def _turn(self, turn: dict[str, Any], number: int) -> None:
        notes = [f"reward {turn['reward']:+.3g}"] if turn.get("reward") else []
        notes += [] if turn.get("parsed", True) else ["off grammar"]
        notes += ["cut at the limit"] if turn.get("finish") == "length" else []
        self.console.print(Text.assemble((f"\nturn {number}  ", "bold"), (", ".join(notes), "cyan")))
        line = Text("> ", "blue")
        ids = turn["action_ids"]
        texts = self.pieces(ids) if self.pieces else [""] * len(ids)
        for place, (token, text) in enumerate(zip(ids, texts, strict=True)):
            line.append(visible(text) or f"⟨{token}⟩", self.style(turn, place))
        self.console.print(line)
        self._messages(turn.get("observation") or [])

    def _messages(self, messages: Sequence[dict[str, Any]]) -> None:
        for message in messages:
            self._print(f"{message['role']:<6}{message['content']}", "dim")

    def _print(self, text: str, style: str = "") -> None:
        """A text that may be a stranger's; what exceeds ``CLIP`` is counted."""
        more = f" … {len(text) - CLIP} more characters" if len(text) > CLIP else ""
        self.console.print(Text(visible(text[:CLIP]) + more, style=style))


def _line(text: object) -> Text:
    return Text(visible(str(text)).replace("\n", "␊").replace("\t", " "))


def _values(turn: dict[str, Any], key: str, place: int) -> float:
    """The number of a token; NaN where the run does not know it."""
    values = turn.get(key) or ()
    return float(values[place]) if place < len(values) else math.nan


def _heat(value: float, edges: Sequence[float]) -> str:
    return HEAT[sum(value >= edge for edge in edges)]


def _advantage(turn: dict[str, Any], place: int) -> str:
    value = _values(turn, "advantages", place)
    return "green" if value > 0 else "red" if value < 0 else ""


def _logprob(turn: dict[str, Any], place: int) -> str:
    return _heat(-_values(turn, "logprobs", place), SURPRISE)


def _gap(turn: dict[str, Any], place: int) -> str:
    return _heat(abs(_values(turn, "learner_logprobs", place) - _values(turn, "logprobs", place)), GAP)


def _entropy(turn: dict[str, Any], place: int) -> str:
    return _heat(_values(turn, "entropies", place), SURPRISE)


#: what ``colour`` may be -> the style of the ``place``-th sampled token of a turn.
COLOURS = {
    "mask": lambda _turn, _place: "blue",
    "advantage": _advantage,
    "logprob": _logprob,
    "gap": _gap,
    "entropy": _entropy,
}
