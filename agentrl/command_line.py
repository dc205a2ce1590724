"""The words of a command line: which command they mean, flags apart from overrides, and whose words are whose.

A command that starts many runs reads the words of its own config itself; all others are its runs' (``extra``).
"""

from __future__ import annotations

import argparse
import json
import re
from itertools import takewhile
from pathlib import Path

from agentrl.commands import COMMANDS, SWEEP, Command, usage
from agentrl.errors import ConfigError


def split(words: list[str]) -> tuple[str, list[str]]:
    """Split the command from its overrides. Raises ConfigError when there is no such command."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0)
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"agentrl {version('agentrl')}")
        raise SystemExit(0)
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, _keyed(words[length:], COMMANDS[name])
    family = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if family and (len(words) == 1 or words[1] in ("-h", "--help")):
        print("\n".join(f"agentrl {name:<16}{COMMANDS[name].about}" for name in family))
        raise SystemExit(0)
    from agentrl.config import nearest

    got = " ".join(words[: 2 if family else 1])
    raise ConfigError(f"{got}: no such command; {nearest(got, COMMANDS)}")


def _keyed(rest: list[str], command: Command) -> list[str]:
    """The words with the first bare one, or all of the first bare ones, given to ``takes``: a bare word is no flag, and
    has no ``=`` or names a folder."""
    bare = list(takewhile(_bare, rest)) if command.takes else []
    if command.many and bare:
        return [f"{command.takes}=[{','.join(json.dumps(word) for word in bare)}]", *rest[len(bare) :]]
    return [f"{command.takes}={_quoted(bare[0])}", *rest[1:]] if bare else rest


def _bare(word: str) -> bool:
    return not word.startswith("-") and ("=" not in word or Path(word).is_dir())


def _quoted(word: str) -> str:
    """The word as the value of an override, where some characters mean something else."""
    return word if re.fullmatch(r"[\w./-]+", word) else json.dumps(word, ensure_ascii=False)


def flags(rest: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's flags, and the words with the overrides first: flags may stand among them. Raises ConfigError."""
    from hydra._internal.utils import get_args_parser

    args, more = get_args_parser().parse_known_args(rest)
    unknown = [word for word in more if word.startswith("-")]
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)}: no such flag; settings are written key=value, flags are those of "
            "agentrl train --hydra-help"
        )
    args.overrides += more
    return args, [*args.overrides, *(word for word in rest if word not in args.overrides)]


def named(rest: list[str]) -> list[str]:
    """The first word of ``agentrl sweep`` as an override: a file, or a search space by its name."""
    if not rest or rest[0].startswith("-") or "=" in rest[0]:
        return rest
    file = Path(rest[0])
    mine = [f"sweep_file={file}"] if file.is_file() or file.suffix else [f"sweep={rest[0]}"]
    return [*mine, *rest[1:]]


def not_of(config: str, args: argparse.Namespace) -> list[str]:
    """The words of the command line that a command of many runs, whose config this is, does not read itself."""
    from agentrl.config import words_of

    own = words_of(config)
    return [word for word in args.overrides if re.split("[.=]", word)[0] not in own and not word.startswith("hydra")]


def gathered(config: str, rest: list[str], args: argparse.Namespace) -> list[str]:
    """The command line of many runs: the words that its config does not have become ``extra``, for its runs."""
    extra = not_of(config, args)
    quoted = ",".join(json.dumps(word, ensure_ascii=False) for word in extra)
    more = [f"extra=[{quoted}]"] if extra else []
    args.overrides = [word for word in args.overrides if word not in extra] + more
    return more + [word for word in rest if word not in extra]


def swept(name: str, rest: list[str], args: argparse.Namespace) -> list[str]:
    """The command line of a sweep: one job that runs many. Raises ConfigError."""
    if foreign := [word for word in args.overrides if word.startswith(("hydra/", "hydra."))]:
        raise ConfigError(
            f"{', '.join(foreign)}: a sweep starts its runs itself; choose launcher=, sweep= and run_dir="
        )
    words = gathered(SWEEP.config, rest, args)
    args.multirun = False
    args.overrides.append(f"command={name}")
    return [f"command={name}", *(word for word in words if word not in ("-m", "--multirun"))]
