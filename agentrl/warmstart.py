"""Where a run starts: from the model as it is, or from a warm start, the same loop over demonstrations before it.

A warm start is kept under a hash of everything that determines its weights: model, environment and what it says of its
data, context, learner, the warm start's own settings, seed, precision, version. All runs of equal hash start from equal
weights, so the methods of a sweep differ in the method alone::

    folder/<hash>/
        model/           Hugging Face (or peft) layout: `agentrl eval model.path=folder/<hash>/model` plays it
        config.yaml, metrics.jsonl, trajectories.jsonl, summary.json   as every run leaves them
        warmstart.json   what was hashed, and the seconds it took
        manifest.json    SHA-256 of every other file
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentrl import checkpoint, config
from agentrl.alone import draft
from agentrl.bundled import locate
from agentrl.config import Config
from agentrl.envs.base import Env
from agentrl.errors import CheckpointError
from agentrl.hashes import file_sha256
from agentrl.ranges import require_positive
from agentrl.rollout.demonstrations import Demonstrations
from agentrl.rollout.rejection import Rejection, Teacher
from agentrl.watchdog import patience

FORMAT = 1
LOOKING_S = 600.0  # in which the environment's data must be read, and the model's files hashed
HASHED = ("seed", "steps", "tasks_per_step", "model", "context", "env", "method", "rollout", "learner")

Learn = Callable[[Config], None]  # makes the run of a config and leaves its policy in <run_dir>/model


@dataclass(frozen=True, slots=True)
class Start:
    """A warm start: its hash, its optimiser steps, its folder, the seconds it once took, and whether it was found."""

    hash: str
    steps: int
    path: str
    seconds: float
    found: bool

    @property
    def model(self) -> Path:
        """Folder in Hugging Face or peft layout."""
        return Path(self.path) / "model"

    def verify(self) -> None:
        """Raises CheckpointError when a file is missing or not as it was written."""
        kept(Path(self.path))

    def __str__(self) -> str:
        how = "found" if self.found else f"made in {self.seconds:.1f} s"
        return f"warm start {self.hash}: {how}, {self.steps} steps on demonstrations; {self.path}"


@dataclass(frozen=True)
class NoWarmStart:
    """The run starts from the model as it is."""

    def ready(self, cfg: Config, learn: Learn) -> None:
        """Nothing to do."""

    def forecast(self, cfg: Config, env: Env) -> dict[str, Any]:
        """Nothing to tell."""
        return {}


@dataclass(frozen=True)
class WarmStart:
    """The schema of conf/warmstart/sft.yaml, where every number has its unit."""

    steps: int
    tasks_per_step: int
    lr: float
    noise: float
    slips: float
    only_success: bool
    pool: int
    temperature: float
    max_turns: int
    action_tokens: int
    context_tokens: int
    max_failed: float
    folder: str

    def __post_init__(self) -> None:
        none = "for no warm start take warmstart=none"
        require_positive(self, "warmstart", "steps", "tasks_per_step", "lr", hint=none)

    def ready(self, cfg: Config, learn: Learn) -> Start:
        """The warm start of a run's config: found, or made now by ``learn``. Raises ConfigError, CheckpointError.

        Runs that make the same one at the same time work in folders of their own; the first to finish is kept.
        """
        with patience("setup", "building the environment, hashing data and model", LOOKING_S):
            env: Env = config.build(cfg.env)
            about = self._about(cfg, env)
            env.close()
        target = self._target(about)
        found = target.is_dir()
        if not found:
            config.build(cfg.learner).batches(self.steps, "warmstart.steps")
            print(f"agentrl: making warm start {target.name}: {self.steps} steps on demonstrations, kept in {target}")
            self._make(cfg, about, target, learn)
        return Start(target.name, self.steps, str(target), kept(target).parts["warmstart"]["seconds"], found)

    def forecast(self, cfg: Config, env: Env) -> dict[str, Any]:
        """``hash``, ``steps``, ``demonstrations``, ``path``, and whether it is there (``found``)."""
        target = self._target(self._about(cfg, env))
        return {
            "hash": target.name,
            "steps": self.steps,
            "demonstrations": config.build(cfg.learner).batches(self.steps, "warmstart.steps") * self.tasks_per_step,
            "path": str(target),
            "found": target.is_dir(),
        }

    def derived(self, cfg: Config, run_dir: Path) -> Config:
        """The config of the warm start's own run: the method is SFT, and what only other methods read is fixed."""
        name, rollout = self.demonstrations(cfg)
        return config.changed(
            cfg,
            {
                "run_dir": str(run_dir),
                "steps": self.steps,
                "tasks_per_step": self.tasks_per_step,
                "max_staleness": 0,
                "method": {"_target_": "agentrl.methods.sft.SFT"},
                "rollout": rollout,
                "reward": {"_target_": "agentrl.rewards.env.EnvReward"},
                "learner.lr": self.lr,
                "learner.old_logprobs": "rollout",
                "learner.tis_cap": 0.0,
                "learner.mismatch_limit": 0.0,
                "learner.critic_lr": 1.0,
                "learner.critic_gradient": False,
                "warmstart": {"_target_": "agentrl.warmstart.NoWarmStart"},
                "checkpoint.every": 0,
                "checkpoint.best": None,
                "checkpoint.batches": False,
                "eval.every": 0,
                "log": {"files": {"_target_": "agentrl.log.files.Files", "trajectories": 1.0, "limit_mib": 64.0}},
                "choices.method": "sft",
                "choices.rollout": name,
                "choices.reward": "env",
            },
        )

    def demonstrations(self, cfg: Config) -> tuple[str, dict[str, Any]]:
        """Name and config node of the rollout that is learned from."""
        own = {field.name: getattr(self, field.name) for field in fields(Demonstrations)}
        return "demonstrations", {"_target_": "agentrl.rollout.demonstrations.Demonstrations", **own}

    def _about(self, cfg: Config, env: Env) -> dict[str, Any]:
        """Everything that determines the weights, JSON-able."""
        own = config.plain(self.derived(cfg, Path()))
        about = {name: own[name] for name in HASHED}
        return about | {
            "format": FORMAT,
            "agentrl": version("agentrl"),
            "precision": config.build(cfg.model).place(str(cfg.device)).describe(),
            "data": dict(env.fingerprint),
            "model": about["model"] | weights_of(about["model"]["path"]),
        }

    def _target(self, about: Mapping[str, Any]) -> Path:
        text = json.dumps(about, sort_keys=True, default=str)
        return Path(self.folder).expanduser().resolve() / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _make(self, cfg: Config, about: Mapping[str, Any], target: Path, learn: Learn) -> None:
        begin = time.perf_counter()
        with draft(target) as folder:
            learn(self.derived(cfg, folder))
            config.save(self.derived(cfg, target), folder / "config.yaml")
            seconds = round(time.perf_counter() - begin, 3)
            checkpoint.seal(folder, self.steps, {"warmstart": {"seconds": seconds, "about": json_able(about)}})
            try:
                folder.rename(target)
            except OSError:
                if not target.is_dir():  # else another run made the same one first, and that one is used
                    raise


@dataclass(frozen=True)
class RejectionStart(WarmStart):
    """The schema of conf/warmstart/rejection.yaml: SFT on the best of ``samples`` plays by the environment's expert."""

    samples: int
    checker: Any

    def demonstrations(self, cfg: Config) -> tuple[str, dict[str, Any]]:
        """Name and config node of the rollout that is learned from."""
        own = {f.name: getattr(self, f.name) for f in fields(Rejection) if f.name not in ("teacher", "checker")}
        node = {"_target_": "agentrl.rollout.rejection.Rejection", "teacher": Teacher.expert.value, **own}
        return "rejection", node | {"checker": config.plain(cfg.warmstart.checker)}


def kept(folder: Path) -> checkpoint.Checkpoint:
    """A verified warm start. Raises CheckpointError when a file is missing or not as it was written."""
    try:
        return checkpoint.load(folder)
    except CheckpointError as error:
        raise CheckpointError(
            f"warm start: '{folder}' is missing, incomplete or damaged; delete it, and a new run makes it again "
            "(a resumed run measures its KL from it and needs it back as it was)"
        ) from error


def weights_of(path: str) -> dict[str, str]:
    """What stands for a model in a hash: the SHA-256 of its files in place of its folder; a hub name as it is."""
    folder = Path(locate(path))
    if not folder.is_dir():
        return {"path": path}
    digest = hashlib.sha256()
    for file in sorted(entry for entry in folder.iterdir() if entry.suffix in (".json", ".safetensors", ".jinja")):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return {"path": "", "sha256": digest.hexdigest()}


def json_able(value: Any) -> Any:
    """The value as JSON keeps it."""
    return json.loads(json.dumps(value, default=str))
