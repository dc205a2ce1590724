"""The hub that models come from, asked once whether it has one: the libraries themselves try for a minute."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Thread

from agentrl.errors import ConfigError

ANSWER_S = 8.0  # in which the hub must answer


@cache
def require_reachable(name: str) -> None:
    """Nothing for a folder, for a model that was fetched before, and for one that the hub has. Raises ConfigError."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if Path(name).expanduser().is_dir():
        return
    got = f"and there is no folder '{name}' here"
    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        error = _asked(name)
    except HFValidationError as refused:
        error = refused
    if error is None or isinstance(error, GatedRepoError):  # what the gate says is told by whoever loads it
        return
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        raise ConfigError(
            f"model.path: the hub has no model '{name}', {got}; check the name, give a folder in Hugging Face layout, "
            "or, for a private model, log in: hf auth login"
        )
    raise ConfigError(
        f"model.path: the hub, where model '{name}' would be, cannot be reached ({type(error).__name__}), {got}; "
        "give a folder in Hugging Face layout or a bundled model (model=tiny), or mend the network"
    )


def _asked(name: str) -> Exception | None:
    """What is wrong when the hub is asked for the model; to look up its address takes no longer than that, either."""
    from huggingface_hub import HfApi

    found: list[Exception | None] = [TimeoutError()]

    def ask() -> None:
        try:
            HfApi().model_info(name, timeout=ANSWER_S)
            found[0] = None
        except Exception as error:  # whatever the network's libraries raise
            found[0] = error

    thread = Thread(target=ask, name="hub", daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return found[0]
