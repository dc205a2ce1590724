"""Models from folders and hubs, with their weights or without them, with the adapters that they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from agentrl.errors import ConfigError
from agentrl.hub import require_reachable
from agentrl.model.placement import Placement

IMPORT_S, DOWNLOAD_S = 60.0, 3600.0  # allowed for importing libraries, and for fetching a model from the hub
DISK = 20e6  # bytes a second: the slowest disk a model is read from or written to


def loading_s(path: str) -> float:
    """Seconds in which a model must be there: by the size of its files, or time for a download."""
    folder = Path(path)
    if not folder.is_dir():
        return DOWNLOAD_S
    return IMPORT_S + sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / DISK


def base_of(path: str) -> tuple[str, Any]:
    """Where the weights are, and the config of the adapter on top of them or None. Raises ConfigError."""
    adapter = None
    if (Path(path) / "adapter_config.json").is_file():
        from peft import PeftConfig

        adapter = PeftConfig.from_pretrained(path)
        path = str(adapter.base_model_name_or_path)
    require_reachable(path)
    return path, adapter


def load(path: str, place: Placement, attention: str, trainable: bool) -> tuple[Any, Any]:
    """(Hugging Face module, its peft wrapper or None) of a folder or hub name. Raises ConfigError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    given = path
    try:
        path, adapter = base_of(given)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=place.dtype, attn_implementation=attention, output_loading_info=True
        )
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"model.path: no model could be loaded from '{path}' ({line}); give a folder in Hugging Face layout or a "
            "hub name that is reachable"
        ) from error
    module, info = loaded
    if absent := sorted(info["missing_keys"]):
        raise ConfigError(
            f"model.path: '{path}' lacks {len(absent)} weights of its architecture, the first is '{absent[0]}'; "
            "the folder is incomplete or of another architecture: fetch it again"
        )
    module = module.to(place.device).eval()
    if adapter is None:
        return module, None
    from peft import PeftModel

    return module, PeftModel.from_pretrained(module, given, is_trainable=trainable)


def skeleton(path: str, place: Placement, attention: str, trainable: bool) -> tuple[Any, Any]:
    """The same as :func:`load`, of weights that are nowhere yet (on torch's device ``meta``); buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    path, adapter = base_of(path)
    with init_empty_weights():
        build: Any = AutoModelForCausalLM.from_config
        module = build(AutoConfig.from_pretrained(path), dtype=place.dtype, attn_implementation=attention)
    module.tie_weights()
    module.eval()
    if adapter is None:
        return module, None
    from peft import get_peft_model

    adapter.inference_mode = not trainable
    return module, get_peft_model(module, adapter)


def put_zeros(module: nn.Module, device: torch.device) -> None:
    """Put zeros where weights are nowhere, tied ones once."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter not in made:
                data = torch.zeros(parameter.shape, dtype=parameter.dtype, device=device)
                made[parameter] = nn.Parameter(data, requires_grad=parameter.requires_grad)
            setattr(owner, name, made[parameter])
        for buffer in owner.buffers(recurse=False):
            buffer.data = buffer.data.to(device)
