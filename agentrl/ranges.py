"""Numbers of a config that must lie in a range: one sentence for each way to be outside."""

from __future__ import annotations

from agentrl.errors import ConfigError


def require_shares(owner: object, node: str, *names: str) -> None:
    """Fields of ``owner`` from 0 to 1; ``node`` is where the config has them. Raises ConfigError."""
    for name in names:
        value = getattr(owner, name)
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{node}.{name}: got {value:g}, expected a number from 0 to 1")


def require_positive(owner: object, node: str, *names: str, hint: str = "") -> None:
    """Fields of ``owner`` above 0; ``hint`` says what to do. Raises ConfigError."""
    for name in names:
        value = getattr(owner, name)
        if not value > 0:
            raise ConfigError(
                f"{node}.{name}: got {value:g}, expected a number above 0" + (f"; {hint}" if hint else "")
            )


def require_least(owner: object, node: str, **least: float) -> None:
    """Fields of ``owner`` of at least so much. Raises ConfigError."""
    for name, low in least.items():
        value = getattr(owner, name)
        if not value >= low:
            raise ConfigError(f"{node}.{name}: got {value:g}, expected at least {low:g}")
