"""``agentrl plan``: the best split for each size of a cluster, as a table and as plan.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agentrl import config
from agentrl.errors import ConfigError
from agentrl.log.files import write_json
from agentrl.plan.profile import Placement, Profile
from agentrl.plan.reading import Reading, read
from agentrl.plan.search import Planner, Step

SIZES = tuple(2**power for power in range(11))  # GPUs of the table where none are asked for
COLUMNS = ("GPUs", "sampling + learning", "s/step", "tokens/s", "idle engines", "idle learner", "bound by", "GPU-hours")
WORTH = 0.9  # a doubling that leaves more of a step's time than this is not worth its GPUs
SHAPE = ("episodes.turns", "episodes.tokens", "episodes.first_prompt", "episodes.prompt")
ABOUT = ("run", "also", "gpus", "out", "seed")  # words that say nothing of the profile
ASSUMPTIONS = (
    "All engines are equal, and so are all GPUs; nothing fails and nothing slows down over the run.",
    "An engine's speed depends on how many sequences it decodes at once, not on their lengths; memory has no limit.",
    "Reading a prompt stops decoding; flowing gives a request to the engine with the fewest under way.",
    "Each batch is drawn from the same episodes: they get neither longer nor shorter as the policy learns.",
    "A push takes equally long for any number of engines, and stops engines and learner.",
    "The learner's time grows with sampled tokens; a doubling of its GPUs does learner.efficiency of twice the work.",
    "Evaluations, checkpoints, warm start and start-up are left out.",
)


def plan(cfg: Any) -> dict[str, Any]:
    """Print the plan; give it, and write it to ``cfg.out``/plan.json. Raises ConfigError, DataError."""
    if int(cfg.gpus) < 0 or int(cfg.steps) < 1:
        raise ConfigError(f"gpus={cfg.gpus} steps={cfg.steps}: expected gpus of at least 0 and steps of at least 1")
    reading = read(Path(cfg.run), [Path(other) for other in cfg.also]) if cfg.run else None
    profile, cfg, told = profiled(cfg, reading, config.overridden())
    planner = Planner(profile, int(cfg.seed))
    rows = [step for gpus in ([int(cfg.gpus)] if cfg.gpus else SIZES) if (step := planner.best(gpus)) is not None]
    if not rows:
        allowed = ", ".join(profile.loop.placements)
        raise ConfigError(
            f"gpus={cfg.gpus or SIZES[-1]}: an engine takes {profile.engine.gpus} and the learner at least "
            f"{profile.learner.gpus} (engine.gpus, learner.gpus), placed {allowed} (loop.placements); nothing fits, "
            "give more GPUs"
        )
    _show(rows, cfg, told, reading)
    result = {
        "rows": [_record(step, int(cfg.steps)) for step in rows],
        "moves": moves(rows),
        "profile": config.plain(cfg),
        "from": told,
        "missing": reading.missing if reading else [],
        "assumptions": list(ASSUMPTIONS),
    }
    if cfg.out:
        write_json(Path(cfg.out) / "plan.json", result)
    return result


def profiled(cfg: Any, reading: Reading | None, given: Sequence[str]) -> tuple[Profile, Any, dict[str, str]]:
    """The profile, the config with the run's values in it, and where each of these is from.

    What the command line gives (``given``: its keys) wins over what the run says. The run's episodes are drawn as they
    were, unless the command line changes their shape.
    """
    told: dict[str, str] = {}
    if reading is not None:
        values = {key: value for key, value in reading.values.items() if key not in given}
        told = {key: reading.told[key] for key in values}
        cfg = config.changed(cfg, values)
    told |= dict.fromkeys((key for key in given if key not in ABOUT), "the command line")
    config.check(cfg)
    parts = {name: config.build(cfg[name]) for name in ("engine", "push", "learner", "loop")}
    episodes = config.build(cfg.episodes)
    source = episodes
    if reading is not None and not any(key.startswith(SHAPE) for key in given):
        source = type(reading.recording)(reading.recording.groups, episodes.group_size)
    return Profile(source=source, tasks=int(cfg.tasks_per_step), world=config.build(cfg.env), **parts), cfg, told


def moves(rows: Sequence[Step]) -> str:
    """Where the bottleneck is at which size, and from where on more GPUs hardly help."""
    runs: list[list[Step]] = []
    for step in rows:
        if runs and runs[-1][0].bound == step.bound:
            runs[-1].append(step)
        else:
            runs.append([step])
    where = [
        f"{run[0].bound} with {run[0].gpus}" + (f" to {run[-1].gpus}" if len(run) > 1 else "") + " GPUs" for run in runs
    ]
    text = f"A step is bound by {', then by '.join(where)}."
    enough = next((a for a, b in pairwise(rows) if b.seconds > WORTH * a.seconds), None)
    if enough is not None:
        text += f" Doubling {enough.gpus} GPUs shortens it by less than {1 - WORTH:.0%}."
    return text


def _record(step: Step, steps: int) -> dict[str, Any]:
    record = asdict(step) | {"gpu_hours": step.gpu_hours(steps)}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in record.items()}


def _show(rows: Sequence[Step], cfg: Any, told: Mapping[str, str], reading: Reading | None) -> None:
    steps = int(cfg.steps)
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"best split by number of GPUs; cost of {steps} steps", title_justify="left")
    for name in (
        "GPUs",
        "sampling + learning",
        "s/step",
        "tokens/s",
        "idle: engines",
        "learner",
        "bound by",
        "GPU-hours",
    ):
        table.add_column(name, justify="left" if name in ("sampling + learning", "bound by") else "right")
    for step in rows:
        table.add_row(*_cells(step, steps))
    if console.is_terminal:
        console.print(table)
    else:
        print("\t".join(str(column.header) for column in table.columns))
        for step in rows:
            print("\t".join(_cells(step, steps)))
    lines = [moves(rows), *_origins(cfg, told)]
    if reading is not None:
        lines += ["Not in the run's files, so as conf/plan.yaml or the command line has it:"]
        lines += [f"  {text}" for text in reading.missing]
    else:
        lines += ["No run was given (run=RUN_DIR): all other numbers are the example of conf/plan.yaml."]
    console.print("\n".join([*lines, "The model assumes:", *(f"  {text}" for text in ASSUMPTIONS)]), markup=False)


def _origins(cfg: Any, told: Mapping[str, str]) -> list[str]:
    """The numbers by the file that each is from."""
    lines = []
    for source in dict.fromkeys(told.values()):
        found = [f"{key}={_short(config.at(cfg, key))}" for key, value in told.items() if value == source]
        lines.append(f"From {source}: {', '.join(found)}")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cells(step: Step, steps: int) -> list[str]:
    split = step.split
    shared = split.placement is Placement.colocated
    return [
        str(step.gpus),
        "all, in turns" if shared else f"{split.sampling} + {split.learning}",
        f"{step.seconds:.3g}",
        f"{step.tokens_per_s:.4g}",
        f"{step.idle_engines:.0%}",
        f"{step.idle_learner:.0%}",
        step.bound,
        f"{step.gpu_hours(steps):.3g}",
    ]
