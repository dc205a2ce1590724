"""The commands of the command line: what each is called, its config and its job, and the help that lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
#: what `train` becomes when the command line names an experiment.
EXPERIMENT = Command(
    "run_experiment", "a table of a paper", "agentrl.experiment:run", lambda got: int(bool(got["failed"]))
)
#: what a command that keeps runs becomes with -m.
SWEEP = Command("run_sweep", "a sweep of runs", "agentrl.sweep:run", lambda got: int(got["code"]))


def usage() -> str:
    """What `agentrl --help` says."""
    return USAGE.format(commands="\n".join(f"  {name:<16}{command.about}" for name, command in COMMANDS.items()))
