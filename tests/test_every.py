"""Every method trains on the shop, and one for each way of playing on every bundled world: two batches by the real
loop, with the tiny model. A diagonal through all ways of playing and all worlds runs twice, and leaves equal bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from tests.worlds import WORLDS

CONF = Path(__file__).parents[1] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
PLAYED = ("grpo", "sft", "rltr", "single_turn", "rro", "fixed_size", "ipr", "eto")  # one for each rollout
PAIRS = [(method, env) for method in METHODS for env in WORLDS if env == "webshop" or method in PLAYED]
TWICE = {(method, WORLDS[i % len(WORLDS)]) for i, method in enumerate(PLAYED)}
CLOCKS = ("time/", "speed/", "memory/")
SMALL = [
    "tasks_per_step=2", "learner.minibatches=1", "eval.tasks=2", "log=files", "env.max_turns=3", "device=cpu",
    "eval.before=false", "watchdog.quiet_s=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def shared_worlds() -> Iterator[None]:
    """Worlds are read-only: one of each is built for all pairs."""
    built: dict[str, Any] = {}
    build = config.build

    def once(node: Any) -> Any:
        if str(node._get_full_key(None)) != "env":
            return build(node)
        key = repr(config.plain(node))
        if key not in built:
            built[key] = build(node)
        return built[key]

    patch = pytest.MonkeyPatch()
    patch.setattr(config, "build", once)
    yield
    patch.undo()
    for env in built.values():
        env.close()


@pytest.mark.usefixtures("shared_worlds")
@pytest.mark.parametrize(("method", "env"), PAIRS)
def test_two_batches(method: str, env: str, tmp_path: Path) -> None:
    words = [f"method={method}", f"env={env}", f"run_dir={tmp_path / 'run'}", *SMALL]
    cfg = config.compose("train", words)
    cfg.steps = 2 * config.build(cfg.learner).updates
    config.check(cfg)
    result = loop.train(cfg)
    assert result["status"] == "done"
    assert result["steps"] == cfg.steps
    assert result["episodes"] > 0
    assert result["method"] == method
    assert result["env"] == env
    if (method, env) in TWICE:
        cfg.run_dir = str(tmp_path / "again")
        loop.train(cfg)
        assert left(tmp_path / "run") == left(tmp_path / "again")


def left(run: Path) -> tuple[list[bytes], bytes, list[dict[str, float]]]:
    """Weights and optimiser, trajectories, and metrics without clocks."""
    tensors = [path.read_bytes() for path in sorted(run.glob("checkpoints/*/**/*.safetensors"))]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    numbers = [{name: value for name, value in line.items() if not name.startswith(CLOCKS)} for line in lines]
    assert tensors  # the model's, and the optimiser's where there was anything to learn
    return tensors, (run / "trajectories.jsonl").read_bytes(), numbers


def test_the_diagonal_is_whole() -> None:
    assert {env for _, env in TWICE} == set(WORLDS)
    assert {method for method, _ in TWICE} == set(PLAYED)
    assert set(PAIRS) >= TWICE


def test_every_rollout_is_played() -> None:
    names = {config.compose("train", [f"method={method}"]).choices.rollout for method in METHODS}
    assert names == {config.compose("train", [f"method={method}"]).choices.rollout for method in PLAYED}
