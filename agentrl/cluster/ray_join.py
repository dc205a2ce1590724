"""Ray itself: imported with our settings, joined or started, and its accounts of what went wrong."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from agentrl.device import visible_gpus
from agentrl.errors import ConfigError

INSTALL = "pip install 'agentrl[ray]'"
SETTINGS = {  # what Ray reads when it is imported or started; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_worker_niceness": "0",  # else actors give way (nice 15) to everything else on a busy machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # actors without GPUs keep the variables they have
}


def require_ray(group: str = "cluster", other: str = "processes") -> Any:
    """The module ``ray``, its settings made. Raises ConfigError where it is absent, naming the config group that asked
    for it and its ``other`` choice."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"{group}=ray: Ray cannot be imported here ({error}); install it with `{INSTALL}`, or use {group}={other}"
        ) from error
    return ray


def join(ray: Any, address: str, group: str = "cluster", first_gpu: bool = True) -> bool:
    """Connect this process to Ray; True where a Ray was started for it. One that is connected already is used as it is.
    A Ray that is started here has no use of this process's first GPU where ``first_gpu`` is false.

    Raises ConfigError when there is no Ray at the address.
    """
    if ray.is_initialized():
        return False
    with _own_sigterm(), nullcontext() if address or first_gpu else _hidden_gpu():
        quiet = {"logging_level": "ERROR", "log_to_driver": False}  # errors come as answers, the rest is in Ray's logs
        try:
            ray.init(address=address or "local", include_dashboard=None if address else False, **quiet)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise ConfigError(
                f"{group}.address: got '{address}', but there is no Ray that this machine can join "
                f"({str(error).splitlines()[0]}); start one (`ray start --head`), or leave the address empty"
            ) from None
    return not address


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM over; the run keeps its own way of ending."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _hidden_gpu() -> Iterator[None]:
    """What is started inside does not see this process's first GPU; this process goes on seeing it."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = ",".join(visible_gpus()[1:])
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def cause(error: Exception) -> str:
    """The end of Ray's account, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    return f"{type(error).__name__}: {lines[-1].split(' Some common causes')[0].rstrip('.')}"
