"""``agentrl env check | replay | bench``: an environment alone, without a model or torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentrl.config import build
from agentrl.envs.check import check_env as breaches_of
from agentrl.errors import ConfigError


def check_env(cfg: Any) -> Any:
    """``agentrl env check``: every breach of the contract in a sentence."""
    env = build(cfg.env)
    try:
        breaches = breaches_of(env)
    finally:
        env.close()
    print("\n".join(_gathered(breaches)) or f"{type(env).__name__} keeps the contract")
    return breaches


def _gathered(breaches: Sequence[str]) -> list[str]:
    """Breaches that differ in the task or the action alone as one line, which tells how many they are."""
    kinds: dict[str, list[str]] = {}
    for breach in breaches:
        kinds.setdefault(re.sub(r"^task \S+?(, action '.*?')?(?=[:,] )", "", breach), []).append(breach)
    return [lines[0] + (f" (and {len(lines) - 1} more like it)" if lines[1:] else "") for lines in kinds.values()]


def replay_env(cfg: Any) -> dict[str, Any]:
    """``agentrl env replay golden=FILE``: exit code 0 only when every case agrees."""
    if not cfg.golden:
        raise ConfigError("golden: missing; give golden=FILE, a file of recorded cases")
    if not Path(cfg.golden).is_file():
        raise ConfigError(f"golden={cfg.golden}: there is no such file; give an existing one")
    return _print_json(_ability(cfg, "replay")(Path(cfg.golden)))


def bench_env(cfg: Any) -> dict[str, Any]:
    """``agentrl env bench``: the environment's own measurements."""
    return _print_json(_ability(cfg, "bench")(float(cfg.seconds)))


def _print_json(result: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(result), flush=True)
    return result


def _ability(cfg: Any, name: str) -> Callable[..., Any]:
    """A method that an environment may or may not have."""
    env = build(cfg.env)
    function: Callable[..., Any] | None = getattr(env, name, None)
    if function is None:
        raise ConfigError(
            f"env: {type(env).__name__} has no {name}(); choose another environment, or add that method to it"
        )
    return function
