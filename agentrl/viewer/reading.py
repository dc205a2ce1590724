"""What a run's folder holds of its plays, line by line: the file may be larger than memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.chat import Chat
from agentrl.errors import ConfigError, DataError

FILE = "trajectories.jsonl"
NEEDED = ("step", "group", "task", "member", "stop", "success", "reward", "turns")
Play = dict[str, Any]  # a line of trajectories.jsonl: agentrl.log.files.record
Pieces = Callable[[Sequence[int]], list[str]]  # the text of each token


@dataclass(frozen=True)
class RunFolder:
    """``about``: what the run was, in words for people, by name; ``model``: where its tokenizer may lie, best first."""

    folder: Path
    about: dict[str, str]
    model: tuple[str, ...]

    def plays(self) -> Iterator[Play]:
        """Every play in the order of the file; a last line that a kill cut off is left out. Raises DataError."""
        path = self.folder / FILE
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield _play(line, f"{path}, line {number}")

    def pieces(self) -> tuple[Pieces | None, str]:
        """What gives tokens their text, and "" or why there is nothing that does."""
        why = ""
        for path in self.model:
            try:
                return Chat.load(path).pieces, ""
            except ConfigError as error:
                why = str(error)
        return None, why


def open_run(run: str | None) -> RunFolder:
    """The folder of a run that wrote its plays. Raises ConfigError, DataError when there is nothing to see."""
    if not run:
        raise ConfigError("run: not given; name a run's folder, as in `agentrl view outputs/2026-11-20/...`")
    folder = Path(run)
    cfg = config.load(folder / "config.yaml")
    path = folder / FILE
    if not path.is_file() or not path.stat().st_size:
        raise DataError(
            f"{path}: holds no play; a run writes them while it trains with log.files.trajectories above 0 (an "
            "evaluation alone writes none)"
        )
    chosen = config.at(cfg, "choices") or {}
    about = {name: str(chosen[name]) for name in ("method", "env", "model", "engine", "reward") if name in chosen}
    about |= {name: str(cfg[name]) for name in ("seed", "steps") if name in cfg}
    saved = sorted(folder.glob("checkpoints/step_*/model"), reverse=True)
    named = config.at(cfg, "model.path")
    return RunFolder(folder, about, (*(str(path.resolve()) for path in saved[:1]), *([str(named)] if named else [])))


def name(play: Play) -> str:
    """What a play is called, on the page, in its links and on the command line: ``step.group.member``."""
    return f"{play['step']}.{play['group']}.{play['member']}"


def _play(line: bytes, where: str) -> Play:
    try:
        play = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); is the file whole?") from None
    missing = [key for key in NEEDED if key not in play] if isinstance(play, dict) else list(NEEDED)
    if missing:
        raise DataError(f"{where}: a play without {', '.join(missing)}; expected what log=files writes")
    return play  # type: ignore[no-any-return]
