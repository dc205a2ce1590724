"""The settings of a pretrained model, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from agentrl.bundled import locate
from agentrl.chat import Chat
from agentrl.device import resolve_device
from agentrl.errors import ConfigError
from agentrl.model.loading import load, loading_s, put_zeros, skeleton
from agentrl.model.placement import Placement
from agentrl.model.policy import Policy, adapter_weights
from agentrl.watchdog import patience

DTYPES = ("auto", "float32", "bfloat16", "mixed")

Parts = tuple[Any, Chat, Placement, Any]  # Hugging Face module, chat, placement, the module's peft wrapper or None


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model and how to hold it. Fields and their units are explained in ``conf/model/tiny.yaml``."""

    path: str
    view: str
    dtype: str
    attention: str
    thinking: bool
    action_tokens: int
    context_tokens: int
    gradient_checkpointing: bool
    lora_rank: int
    lora_alpha: int
    lora_targets: list[str]
    lora_rslora: bool = False  # runs of versions without it go on

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"model.dtype: got '{self.dtype}', expected one of {', '.join(DTYPES)}")
        if self.lora_rank < 0 or (self.lora_rank and not self.lora_targets):
            raise ValueError(
                f"model.lora_rank: got {self.lora_rank} with targets {self.lora_targets}, expected 0 (full weights) "
                "or a rank with at least one target"
            )

    def chat(self) -> Chat:
        """The model's chat format."""
        return Chat.load(self.path, self.thinking)

    def place(self, device: str) -> Placement:
        """``dtype: auto`` is float32 on a CPU; on a GPU bfloat16 under adapters, else float32 computed in bfloat16."""
        return self.placed(resolve_device(device))

    def placed(self, where: torch.device) -> Placement:
        """The same on a device that this machine may lack."""
        choice = self.dtype
        if choice == "auto":
            choice = "float32" if where.type == "cpu" else "bfloat16" if self.lora_rank else "mixed"
        return Placement(where, torch.bfloat16 if choice == "bfloat16" else torch.float32, choice == "mixed")

    def build(self, device: str, seed: int = 0) -> Policy:
        """Load the weights for training. ``seed`` initialises new adapters. Raises ConfigError."""
        return Policy(*self.parts(device, seed))

    def parts(self, device: str, seed: int, empty: bool = False, computes: Placement | None = None) -> Parts:
        """What a :class:`Policy` is made of: module, chat, placement, peft wrapper. Raises ConfigError.

        ``empty``: all weights are zero, since another process has them; ``computes``: where it will, if not on
        ``device``.
        """
        place = computes or self.place(device)
        here = replace(place, device=resolve_device(device))
        with patience("setup", "loading the model", loading_s(locate(self.path))):
            module, adapter = (skeleton if empty else load)(locate(self.path), here, self.attention, True)
        if self.lora_rank and adapter is None:
            adapter = _add_lora(module, self, seed)
        if empty:
            put_zeros(module, here.device)
        if self.gradient_checkpointing:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            if adapter is not None:
                module.enable_input_require_grads()
        return module, self.chat(), place, adapter

    def module(self, device: str, dtype: torch.dtype) -> nn.Module:
        """The bare Hugging Face module, for an engine's own copy of the weights (adapters merged).

        Raises ConfigError.
        """
        path, place = locate(self.path), Placement(resolve_device(device), dtype, False)
        with patience("setup", "loading the model", loading_s(path)):
            module, adapter = load(path, place, self.attention, False)
        return module if adapter is None else adapter.merge_and_unload()  # type: ignore[no-any-return]

    def sketch(self) -> nn.Module:
        """The module with its adapter, but without its weights (on torch's device ``meta``): to count with.

        Needs the model's config alone. Raises ConfigError.
        """
        nowhere = Placement(torch.device("meta"), torch.float32, False)
        module, adapter = skeleton(locate(self.path), nowhere, self.attention, True)
        if self.lora_rank and adapter is None:
            _add_lora(module, self, 0)
        return module  # type: ignore[no-any-return]

    @property
    def adapted(self) -> bool:
        """Is it an adapter that learns?"""
        return bool(self.lora_rank) or (Path(locate(self.path)) / "adapter_config.json").is_file()

    def base(self, device: str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        """The bare module below the adapter, and the adapter's first tensors (:meth:`Policy.adapter_weights`), for an
        engine that keeps the two apart. Raises ConfigError, also where an adapter sits on more than linear layers.
        """
        path, place = locate(self.path), Placement(resolve_device(device), dtype, False)
        with patience("setup", "loading the model", loading_s(path)):
            module, adapter = load(path, place, self.attention, trainable=False)
        adapter = adapter or _add_lora(module, self, 0)
        tensors = dict(adapter_weights(module))
        if sum(".lora_" in name for name, _ in module.named_parameters()) != len(tensors):
            raise ConfigError(
                f"model.lora_targets: {', '.join(self.lora_targets)} names a layer that is not linear, whose adapter "
                "an engine cannot hold apart; leave it out, or use engine.lora=merged"
            )
        return adapter.unload(), tensors


def _add_lora(module: Any, model: Pretrained, seed: int) -> Any:
    """Fresh adapters (zero at the start: the policy is the base), their random half drawn from ``seed``."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_alpha,
        target_modules=list(model.lora_targets),
        lora_dropout=0.0,
        use_rslora=model.lora_rslora,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(module, config)
        except ValueError as error:
            raise ConfigError(f"model.lora_targets: {str(error).splitlines()[0]}") from error
