"""The command line: ``agentrl <command> [hydra overrides]``.

Each command is a config (conf/<name>.yaml) and a job, imported only when it runs, so that help, tab completion and
the review of a mistyped command line never wait for torch. A user's mistake is one message and exit code 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from agentrl.disk import reason
from agentrl.errors import AgentRLError, ConfigError, Interrupted
from agentrl.interrupt import end_with_parent

USAGE = """agentrl: RL for LLM agents.

Usage: agentrl <command> [group=choice] [key=value] [flags]

Commands
{commands}

Examples
  agentrl train                                 method=vspo env=webshop on a bundled model, on CPU or GPU
  agentrl train method=grpo steps=80 seed=1     another method, longer, another seed
  agentrl train -m method=grpo,vspo seed=0,1,2  a sweep of six runs
  agentrl train experiment=vspo_table2          a table of a paper: all its rows, several seeds
  agentrl train resume=RUN_DIR                  continue a run
  agentrl train --help | --cfg job | --info     its groups and settings | the composed config | where it comes from
  eval "$(agentrl -sc install=bash)"            tab completion in this shell
"""


@dataclass(frozen=True)
class Command:
    """A command: its config, what it does in a few words, ``module:function`` of its job, the exit code of a result."""

    config: str
    about: str
    job: str
    verdict: Callable[[Any], int] = lambda _: 0
    keeps: bool = False  # writes a folder of its own, which must not hold another run
    takes: str = ""  # the key that a first word without a key is meant for: `new env NAME` is `new env name=NAME`
    many: bool = False  # that key is a list, and all first words without a key are meant for it


COMMANDS: Mapping[str, Command] = {
    "train": Command("train", "train a policy: play, credit, learn, sync", "agentrl.loop:train", keeps=True),
    "eval": Command("eval", "play a fixed panel without learning", "agentrl.eval_panel:evaluate_only", keeps=True),
    "sft": Command("sft", "learn from the environment's expert (warm start)", "agentrl.loop:sft", keeps=True),
    "config explain": Command(
        "train", "say what one step really does, and how much memory it takes", "agentrl.explain:explain"
    ),
    "doctor": Command(
        "doctor",
        "look whether masks, loss, sampling, weights and memory are right, on your model, environment and method",
        "agentrl.doctor.examine:doctor",
        lambda got: int(not got["ok"]),
    ),
    "sweep": Command(
        "run_wandb_sweep",
        "search settings with Weights & Biases: agentrl sweep NAME|FILE",
        "agentrl.wandb_sweep:run",
        lambda got: int(got["code"]),
    ),
    "plan": Command("plan", "how to split a cluster between sampling and learning", "agentrl.plan.report:plan"),
    "view": Command("view", "a run's plays as one HTML page", "agentrl.viewer.view:view", takes="run"),
    "show": Command("show", "a run's plays in the terminal", "agentrl.viewer.show:show", takes="run"),
    "report": Command(
        "report",
        "what finished runs show and what not: HTML, tables",
        "agentrl.report.command:report",
        takes="runs",
        many=True,
    ),
    "play": Command("play", "play an episode yourself, in the terminal", "agentrl.play_env:play"),
    "replay": Command(
        "replay",
        "learn from a kept batch again (RUN_DIR step=N), bit for bit",
        "agentrl.replay:replay",
        lambda got: int(not got["equal"]),
        takes="run",
    ),
    "env check": Command(
        "env_tool",
        "look for breaches of the environment contract",
        "agentrl.env_tools:check_env",
        lambda breaches: int(bool(breaches)),
    ),
    "env replay": Command(
        "env_tool",
        "play a golden file again (golden=FILE) and compare",
        "agentrl.env_tools:replay_env",
        lambda got: int(got["agree"] != got["cases"]),
    ),
    "env bench": Command("env_tool", "measure an environment's speed and memory", "agentrl.env_tools:bench_env"),
    "export": Command(
        "export", "a run's policy for transformers and vLLM, with a card", "agentrl.export:export", takes="run"
    ),
    "new env": Command(
        "new", "write a small environment to change into your own", "agentrl.skeleton:new_env", takes="name"
    ),
    "new method": Command("new", "likewise a method", "agentrl.skeleton:new_method", takes="name"),
    "new reward": Command("new", "likewise a reward", "agentrl.skeleton:new_reward", takes="name"),
    "serve retriever": Command(
        "serve_retriever", "serve a corpus to Search-R1's clients (corpus=FILE)", "agentrl.serve:serve_retriever"
    ),
}
#: what `train` becomes when the command line names an experiment, and the words that it reads itself.
EXPERIMENT = Command(
    "run_experiment", "a table of a paper", "agentrl.experiment:run", lambda got: int(bool(got["failed"]))
)
EXPERIMENT_WORDS = ("experiment", "scale", "seeds", "rows", "workers", "gpus", "launcher", "out", "dry_run")
#: what a command that keeps runs becomes with -m, and the words that it reads itself.
SWEEP = Command("run_sweep", "a sweep of runs", "agentrl.sweep:run", lambda got: int(got["code"]))
SWEEP_WORDS = ("sweep", "sweep_file", "launcher", "workers", "gpus", "run_dir", "dry_run")
WANDB_WORDS = ("sweep", "sweep_file", "workers", "gpus", "run_dir", "dry_run", "wandb")

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
        name, rest = _command(words)
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


def _command(words: list[str]) -> tuple[str, list[str]]:
    """Split the command from its overrides. Raises ConfigError when there is no such command."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
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


def _usage() -> str:
    return USAGE.format(commands="\n".join(f"  {name:<16}{command.about}" for name, command in COMMANDS.items()))


def _run(name: str, rest: list[str]) -> int:
    """Review the overrides, then hand over to Hydra. Gives the exit code."""
    command, typed = COMMANDS[name], ["agentrl", *name.split(), *rest]
    args, rest = _flags(_named(rest) if name == "sweep" else rest)
    if args.config_dir:  # YAML and the Python files it names may lie side by side
        sys.path.append(str(Path(args.config_dir).resolve()))
    if name == "train" and any(re.match("experiment=(?!null)", word) for word in args.overrides):
        command, rest = EXPERIMENT, _gathered(EXPERIMENT_WORDS, rest, args)
    runs = not (args.help or args.hydra_help or args.info)
    found: list[str] = []
    if command.keeps and args.multirun:
        given = _not_of(SWEEP_WORDS, args)
        found = _mistakes(command.config, given, args) if runs else []
        command, rest = SWEEP, _swept(name, rest, args)
    elif name == "sweep":
        found = _mistakes("train", ["log=wandb", *_not_of(WANDB_WORDS, args)], args) if runs else []
        rest = _gathered(WANDB_WORDS, rest, args)
    found += _mistakes(command.config, args.overrides, args) if runs else []
    if found:
        from agentrl.config import listing

        raise ConfigError(listing(found))
    outcome = Outcome()
    _hydra(command, _placed(command, rest, args), outcome, typed)
    return outcome.code


def _flags(rest: list[str]) -> tuple[argparse.Namespace, list[str]]:
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


def _named(rest: list[str]) -> list[str]:
    """The first word of ``agentrl sweep`` as an override: a file, or a search space by its name."""
    if not rest or rest[0].startswith("-") or "=" in rest[0]:
        return rest
    file = Path(rest[0])
    mine = [f"sweep_file={file}"] if file.is_file() or file.suffix else [f"sweep={rest[0]}"]
    return [*mine, *rest[1:]]


def _not_of(own: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The words of the command line that a command of many runs does not read itself."""
    return [word for word in args.overrides if re.split("[.=]", word)[0] not in own and not word.startswith("hydra")]


def _gathered(own: Sequence[str], rest: list[str], args: argparse.Namespace) -> list[str]:
    """The command line of many runs: the words that it does not read itself become ``extra``, for its runs."""
    extra = _not_of(own, args)
    quoted = ",".join(json.dumps(word, ensure_ascii=False) for word in extra)
    more = [f"extra=[{quoted}]"] if extra else []
    args.overrides = [word for word in args.overrides if word not in extra] + more
    return more + [word for word in rest if word not in extra]


def _swept(name: str, rest: list[str], args: argparse.Namespace) -> list[str]:
    """The command line of a sweep: one job that runs many. Raises ConfigError."""
    if foreign := [word for word in args.overrides if word.startswith(("hydra/", "hydra."))]:
        raise ConfigError(
            f"{', '.join(foreign)}: a sweep starts its runs itself; choose launcher=, sweep= and run_dir="
        )
    words = _gathered(SWEEP_WORDS, rest, args)
    args.multirun = False
    args.overrides.append(f"command={name}")
    return [f"command={name}", *(word for word in words if word not in ("-m", "--multirun"))]


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
