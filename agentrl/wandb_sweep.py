"""A sweep that Weights & Biases leads: ``agentrl sweep NAME|FILE [WORDS]``.

The search space (conf/sweep, or a file in W&B's schema) becomes a sweep there, and agents of this machine take their
runs from it: each gets the chosen values as words of ``agentrl train``, besides the WORDS of this command. Agents on
other machines join with ``wandb agent``. The same command goes on with the same sweep: its id is kept in the sweep's
folder.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl import config, redact
from agentrl.config import Config
from agentrl.errors import ConfigError
from agentrl.interrupt import ended_by, signal_of, signals_raise
from agentrl.launch.local import Local
from agentrl.log.files import read_json, write_json
from agentrl.log.metrics import METRICS, Best
from agentrl.search import Search, flattened
from agentrl.sweep import folder_of, read_space, space_of

KEPT = "wandb_sweep.json"  # in the sweep's folder: entity/project/id


def run(cfg: Config) -> dict[str, Any]:
    """Create the sweep, or find it again, and work on it while W&B has runs. Raises ConfigError, Interrupted."""
    space = space_of(cfg)
    if not isinstance(space, Search):
        raise ConfigError("sweep=grid: no search space; name one of conf/sweep or a file: agentrl sweep NAME|FILE")
    launcher = config.build(cfg.launcher)
    if not isinstance(launcher, Local):
        raise ConfigError(
            "launcher: the agents of a sweep that W&B leads share out this machine; leave launcher=local, and begin "
            "`wandb agent` on other machines"
        )
    folder = folder_of(cfg)
    content = read_space(Path(cfg.sweep_file)) if cfg.sweep_file else config.plain(cfg.sweep)
    where = config.config_dir()
    flags = ["--config-dir", str(where.absolute())] if where else []
    told = schema(content, space, list(cfg.extra), folder, flags)
    if cfg.dry_run:
        print(json.dumps(told, indent=2))
        return {"code": 0}
    path = _kept(folder) or _created(told, cfg, folder)
    print(f"agents work on sweep {path}; on other machines: wandb agent {path}", flush=True)
    codes = _agents(path, launcher.shares(os.cpu_count() or 1), folder)
    return {"sweep": path, "code": int(any(codes))}


def schema(
    content: Mapping[str, Any], space: Search, extra: Sequence[str], folder: Path, flags: Sequence[str]
) -> dict[str, Any]:
    """The sweep as W&B reads it: its own keys as they are, parameters under dotted words, the command of a run."""
    if (name := space.metric.name) not in METRICS:
        raise ConfigError(f"sweep.metric.name: got {name}, expected a name of the metric table; {near(name)}")
    best = METRICS[name].best
    summed = name if best is Best.last else f"{name}.{best}"  # under which W&B's summary has it
    ours = {key: value for key, value in content.items() if key not in ("_target_", "program", "command", "run_cap")}
    run_dir = f"hydra.run.dir={folder}/${{oc.env:WANDB_RUN_ID}}"
    return ours | {
        "method": str(space.method),
        "metric": {"name": summed, "goal": str(space.metric.goal)},
        "parameters": {word: dict(node) for word, node in flattened(space.parameters)},
        **({"run_cap": space.run_cap} if space.run_cap else {}),
        "command": [
            sys.executable,
            "-m",
            "agentrl",
            "train",
            "log=wandb",
            *extra,
            run_dir,
            "${args_no_hyphens}",
            *flags,
        ],
    }


def near(name: str) -> str:
    return config.nearest(name, METRICS)


def _kept(folder: Path) -> str | None:
    path = folder / KEPT
    return str(read_json(path)["path"]) if path.is_file() else None


def _created(told: Mapping[str, Any], cfg: Config, folder: Path) -> str:
    """A new sweep; gives entity/project/id. Raises ConfigError."""
    import wandb

    project = str(told.get("project") or cfg.wandb.project)
    entity = told.get("entity") or cfg.wandb.entity
    try:
        name = wandb.sweep(dict(told), project=project, entity=entity)
        entity = entity or wandb.Api().default_entity
    except Exception as error:  # wandb raises its own and network errors of many kinds
        raise ConfigError(
            f"agentrl sweep: Weights & Biases did not take the sweep: {redact.text(str(error)).rstrip('.')}; run "
            "`wandb login`, or search without an account: agentrl train -m sweep=NAME (sweep_file=FILE)"
        ) from None
    path = "/".join(part for part in (entity, project, name) if part)
    write_json(folder / KEPT, {"path": path, "config": told})
    return path


def _agents(path: str, shares: Sequence[Mapping[str, str]], folder: Path) -> list[int]:
    """One agent for each share of the machine; their exit codes. Raises Interrupted, after SIGTERM Terminated."""
    command = [sys.executable, "-m", "wandb", "agent", "--forward-signals", path]
    print(shlex.join(["wandb", *command[3:]]), flush=True)
    env = {**os.environ, "WANDB_DIR": str(folder), "WANDB_TAGS": os.environ.get("WANDB_TAGS", folder.name[:64])}
    agents = [subprocess.Popen(command, env={**env, **share}, start_new_session=True) for share in shares]
    try:
        with signals_raise():
            return [agent.wait() for agent in agents]
    except KeyboardInterrupt as asked:
        print("\nagentrl: the agents' runs save and end; the same command goes on", flush=True)
        for agent in agents:
            agent.send_signal(signal_of(asked))
        for agent in agents:
            agent.wait()
        raise ended_by(asked, f"the same command, or wandb agent {path}, goes on") from None
