"""Runs of the real loop on the toy world, composed like any other run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from agentrl import config, loop

CONF = Path(__file__).parent / "conf"
QUIET = ("watchdog.quiet_s=0", "guards.idle=0", "guards.slower=0")  # what a clock decides: equal runs may differ in it


def toy_overrides(model: Path, run_dir: Path) -> list[str]:
    """What makes any method a toy run of a second or two."""
    words = """
        env=colours model=local model.action_tokens=2 model.context_tokens=32 context=window learner=tiny
        learner.lr=0.01 learner.schedule=constant learner.minibatches=1 tasks_per_step=8
        eval.tasks=4 eval.samples=8 log=files
    """
    return [*words.split(), f"model.path={model}", f"run_dir={run_dir}"]


def toy_train(model: Path, run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Train with these further overrides and give the summary."""
    return loop.train(toy_config(model, run_dir, overrides))


def toy_config(model: Path, run_dir: Path, overrides: Sequence[str] = ()) -> config.Config:
    """The checked config of a toy run."""
    return config.changed(_composed(model, tuple(overrides)), {"run_dir": str(run_dir)})


@cache
def _composed(model: Path, overrides: tuple[str, ...]) -> config.Config:
    """Many runs differ in their folder alone."""
    cfg = config.compose("train", [*toy_overrides(model, Path("somewhere")), *QUIET, *overrides], config_dir=CONF)
    config.check(cfg)
    return cfg
