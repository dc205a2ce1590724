"""The command line: ``agentrl <command> [hydra overrides]``.

Each command is a config (conf/<name>.yaml) and a job, imported only when it runs, so that help, tab completion and
the review of a mistyped command line never wait for torch. A user's mistake is one message and exit code 2.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from agentrl.command_line import flags, gathered, named, not_of, split, swept
from agentrl.commands import COMMANDS, EXPERIMENT, SWEEP, Command
from agentrl.disk import reason
from agentrl.errors import AgentRLError, ConfigError, Interrupted
from agentrl.interrupt import end_with_parent

LIBRARIES = {  # what libraries read when they are imported; what the user has set stays
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
SPIN = "1000"  # rounds that a thread waits before it gives up its core; why: docs/configuration.md, threads


@dataclass
class Outcome:
    """What the jobs of one command line came to: the worst exit code wins."""

    code: int = 0
    results: list[Any] = field(default_factory=list)


def main(argv: list[str] | None = None) -> None:
    """Run one command line and exit: 0 done, 1 a check failed, 2 a user's mistake, 130 interrupted, 143 by SIGTERM.

    A run that stands still ends elsewhere, with 3 (:mod:`agentrl.watchdog`).
    """
    words = sys.argv[1:] if argv is None else argv
    end_with_parent()
    gc.disable()  # composing makes many small objects and no garbage worth collecting: 10 % of the time to answer
    if "OMP_WAIT_POLICY" not in os.environ:  # it says the same as GOMP_SPINCOUNT, which would win
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    os.environ.update({name: value for name, value in LIBRARIES.items() if name not in os.environ})
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        raise SystemExit(_follow())
    try:
        if "-sc" in words or "--shell-completion" in words:
            _complete(words)
            raise SystemExit(0)
        name, rest = split(words)
        raise SystemExit(_run(name, rest))
    except AgentRLError as error:
        print(f"agentrl: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("agentrl: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        raise SystemExit(_disk(error)) from None


def _follow() -> NoReturn:
    """A process of torchrun that does not lead does what the one that does says, whatever its command line."""
    from agentrl.distributed.member import serve
    from agentrl.distributed.parallel import launched

    place = launched()
    assert place is not None
    serve(place)
    os._exit(0)  # the collectives' threads may wait for others


def _disk(error: OSError) -> int:
    """Say in one sentence that a disk is full, read-only or not ours; gives the exit code. Raises any other error."""
    why = reason(error)
    if why is None:
        raise error
    print(f"agentrl: {why}; mend that, or choose another folder with run_dir=FOLDER", file=sys.stderr)
    return 2


def _run(name: str, rest: list[str]) -> int:
    """Review the overrides, then hand over to Hydra. Gives the exit code."""
    command, typed = COMMANDS[name], ["agentrl", *name.split(), *rest]
    args, rest = flags(named(rest) if name == "sweep" else rest)
    if args.config_dir:  # YAML and the Python files it names may lie side by side
        sys.path.append(str(Path(args.config_dir).resolve()))
    if name == "train" and any(re.match("experiment=(?!null)", word) for word in args.overrides):
        command, rest = EXPERIMENT, gathered(EXPERIMENT.config, rest, args)
    runs = not (args.help or args.hydra_help or args.info)
    found: list[str] = []
    if command.keeps and args.multirun:
        given = not_of(SWEEP.config, args)
        found = _mistakes(command.config, given, args) if runs else []
        command, rest = SWEEP, swept(name, rest, args)
    elif name == "sweep":
        found = _mistakes("train", ["log=wandb", *not_of(command.config, args)], args) if runs else []
        rest = gathered(command.config, rest, args)
    found += _mistakes(command.config, args.overrides, args) if runs else []
    if found:
        from agentrl.config import listing

        raise ConfigError(listing(found))
    outcome = Outcome()
    _hydra(command, _placed(command, rest, args), outcome, typed)
    return outcome.code


def _mistakes(config: str, words: Sequence[str], args: argparse.Namespace) -> list[str]:
    from agentrl.overrides import review

    folder = Path(args.config_dir) if args.config_dir else None
    return review(args.config_name or config, words, multirun=args.multirun, config_dir=folder)


def _placed(command: Command, rest: list[str], args: argparse.Namespace) -> list[str]:
    """Make Hydra's output folder the run's: a resumed run keeps its own.

    A command that keeps nothing makes no folder.
    """
    from agentrl.config import load

    if not command.keeps:
        return ["hydra.run.dir=.", *rest]

    given = {key: value for key, _, value in (text.partition("=") for text in args.overrides)}
    if given.get("resume") not in (None, "null", ""):
        load(Path(given["resume"]) / "config.yaml")  # no such run: say so before Hydra makes its folder
        return [f"hydra.run.dir={given['resume']}", *rest]
    if "run_dir" in given and not (args.help or args.hydra_help or args.info or args.cfg):
        try:
            Path(given["run_dir"]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run_dir={given['run_dir']}: {error.strerror}; choose another folder") from None
    return rest


def _hydra(command: Command, words: list[str], outcome: Outcome, typed: Sequence[str] = ()) -> None:
    """Run the command's job under Hydra, once or once for each run of a sweep; ``typed`` is what a run keeps as its
    command line."""
    import hydra
    from hydra.errors import HydraException

    from agentrl.config import CONF

    def job(cfg: Any) -> None:
        sys.argv = list(typed)
        _job(command, cfg, outcome)

    before = sys.argv
    sys.argv = ["agentrl", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes exceptions on: this module tells mistakes from crashes
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=command.config)(job)()
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from None
    finally:
        sys.argv = before


def _job(command: Command, cfg: Any, outcome: Outcome) -> None:
    """One job: check everything, run, report. Hydra's own multirun goes on after a failed job; Ctrl-C ends it."""
    gc.enable()
    try:
        ready = _ready(command, cfg)
        if command.keeps:
            print(f"run folder: {ready.run_dir}", flush=True)
        result = _function(command.job)(ready)
    except AgentRLError as error:
        print(f"agentrl: {error}", file=sys.stderr)
        outcome.code = max(outcome.code, error.exit_code)
        if isinstance(error, Interrupted):
            raise SystemExit(error.exit_code) from None
        return
    except OSError as error:  # told here: Hydra would put its own line before it
        raise SystemExit(_disk(error)) from None
    finally:
        if command.keeps:
            _drop_empty(Path(cfg.run_dir))
    outcome.results.append(result)
    outcome.code = max(outcome.code, command.verdict(result))


def _drop_empty(folder: Path) -> None:
    """A run that never began leaves no folder behind."""
    with suppress(OSError):
        folder.rmdir()


def _ready(command: Command, cfg: Any) -> Any:
    """The config a job is given: that of the resumed run if there is one, checked as a whole, resolved."""
    from hydra.core.hydra_config import HydraConfig

    from agentrl.config import check, resolve, resumed

    hydra = HydraConfig.get()
    if command.keeps:
        cfg.run_dir = hydra.runtime.output_dir
        if not cfg.get("resume") and (Path(cfg.run_dir) / "config.yaml").exists():
            more = f"continue it with resume={cfg.run_dir}, " if "resume" in cfg else ""
            raise ConfigError(f"run_dir={cfg.run_dir}: holds a run already; {more}delete it, or choose another folder")
    if cfg.get("resume"):
        cfg = resumed(cfg, list(hydra.overrides.task))
    check(cfg)
    resolve(cfg)
    return cfg


def _function(path: str) -> Callable[[Any], Any]:
    module, _, name = path.partition(":")
    function: Callable[[Any], Any] = getattr(import_module(module), name)
    return function


def _complete(words: list[str]) -> None:
    """Tab completion: the first words are a command, the rest is Hydra's."""
    line = os.environ.get("COMP_LINE", "")
    query = any(word.startswith("query=") for word in words)
    typed = line.split(" ")[1:]
    if not query:
        _hydra(COMMANDS["train"], words, Outcome())
        return
    for length in (2, 1):
        name = " ".join(typed[:length])
        if name in COMMANDS and len(typed) > length:
            os.environ["COMP_LINE"] = " ".join([line.split(" ")[0], *typed[length:]])
            os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
            _hydra(COMMANDS[name], words, Outcome())
            return
    begun = " ".join(typed[:-1])
    options = [name[len(begun) :].split()[0] for name in COMMANDS if name.startswith(begun)]
    print(" ".join(sorted({option for option in options if option.startswith(typed[-1] if typed else "")})))
