"""``agentrl eval``: a fixed panel, played without learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.alone import alone
from agentrl.config import Config
from agentrl.evaluate import flat
from agentrl.interrupt import terminable
from agentrl.log.files import cut
from agentrl.run import player
from agentrl.summary import close_player, table


def evaluate_only(cfg: Config) -> dict[str, Any]:
    """``agentrl eval``: play a fixed panel without learning."""
    begun = f"ended by SIGTERM; nothing is kept: begin again with the same command, run_dir={cfg.run_dir}"
    with config.build(cfg.watchdog).over(Path(cfg.run_dir)), alone(Path(cfg.run_dir)), terminable(begun):
        return measured(cfg)


def measured(cfg: Config) -> dict[str, Any]:
    """The panel's numbers."""
    one = player(cfg)
    try:
        cut(one.folder, {})  # of an evaluation that was killed
        log = one.open_log(steps=1)
        with one.clock.phase("evaluate"):
            found = one.evaluate.run(one.stage, one.panel, one.seed)
        log.log(0, flat("eval", found.blocks))
        log.evaluation(0, "eval", found.plays)
        log.note(table({"eval": found.blocks}))
        result = close_player(one, found.blocks)
        log.close(result)
    finally:
        one.close()
    config.save(cfg, one.folder / "config.yaml")  # last: a folder that has it holds a whole evaluation
    return result
