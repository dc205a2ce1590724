"""Policies: Hugging Face causal language models behind a small door.

A :class:`Policy` answers what a learner asks: log-probabilities of given tokens with gradients, weights under their
checkpoint names, a frozen reference, a folder that ``transformers`` (or ``peft``) loads. Hidden states are computed
once, the output head only at positions that predict trained tokens, in chunks, so that logits never dominate memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from agentrl.batch import Outputs
from agentrl.bundled import locate
from agentrl.chat import Chat
from agentrl.device import resolve_device
from agentrl.errors import CheckpointError, ConfigError, ShapeError
from agentrl.forward import Head, Trunk
from agentrl.watchdog import beat, patience

DTYPES = ("auto", "float32", "bfloat16", "mixed")
ADAPTER = "default"
IMPORT_S, DOWNLOAD_S = 60.0, 3600.0  # allowed for importing libraries, and for fetching a model from the hub
DISK = 20e6  # bytes a second: the slowest disk a model is read from or written to


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model lives: its device, the dtype of its weights, and whether it computes in bfloat16 (autocast)."""

    device: torch.device
    dtype: torch.dtype
    autocast: bool

    def describe(self) -> str:
        """``cpu, float32`` for people."""
        name = str(self.dtype).removeprefix("torch.")
        return f"{self.device}, {name}" + (" weights, bfloat16 compute" if self.autocast else "")


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
            module, adapter = (_skeleton if empty else _load)(locate(self.path), here, self.attention, True)
        if self.lora_rank and adapter is None:
            adapter = _add_lora(module, self, seed)
        if empty:
            _zeros(module, here.device)
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
            module, adapter = _load(path, place, self.attention, False)
        return module if adapter is None else adapter.merge_and_unload()  # type: ignore[no-any-return]

    def sketch(self) -> nn.Module:
        """The module with its adapter, but without its weights (on torch's device ``meta``): to count with.

        Needs the model's config alone. Raises ConfigError.
        """
        nowhere = Placement(torch.device("meta"), torch.float32, False)
        module, adapter = _skeleton(locate(self.path), nowhere, self.attention, True)
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
            module, adapter = _load(path, place, self.attention, trainable=False)
        adapter = adapter or _add_lora(module, self, 0)
        tensors = dict(_adapter_weights(module))
        if sum(".lora_" in name for name, _ in module.named_parameters()) != len(tensors):
            raise ConfigError(
                f"model.lora_targets: {', '.join(self.lora_targets)} names a layer that is not linear, whose adapter "
                "an engine cannot hold apart; leave it out, or use engine.lora=merged"
            )
        return adapter.unload(), tensors


Critic = Callable[[torch.Tensor], torch.Tensor]  # [n, width] hidden states -> [n] values


class Scorer(Protocol):
    """What computes log-probabilities of given tokens (and, with a ``critic``, values of the states before them)."""

    def outputs(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        loss_mask: torch.Tensor,
        temperature: float,
        chunk_tokens: int,
        critic: Critic | None = None,
    ) -> Outputs: ...


class Policy:
    """A causal language model that learns.

    ``module`` is the Hugging Face model (with LoRA layers inside when ``adapter``, its peft wrapper, is given).
    """

    def __init__(self, module: Any, chat: Chat, place: Placement, adapter: Any = None) -> None:
        self.module = module
        self.chat = chat
        self.place = place
        self.adapter = adapter
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
            if hasattr(layer, "attention_dropout"):
                layer.attention_dropout = 0.0
        self._head = Head(module)
        self._trunk = Trunk(module, self.compute_dtype, self._autocast)

    @property
    def device(self) -> torch.device:
        return self.place.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return self.place.dtype

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the forward pass computes in."""
        return torch.bfloat16 if self.place.autocast else self.place.dtype

    @property
    def parameters_count(self) -> int:
        """All weights, tied ones once, adapters included."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def context_length(self) -> int:
        """Most tokens the model was made for."""
        return int(self.module.config.get_text_config().max_position_embeddings)

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.module.config.get_text_config().hidden_size)

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser moves: the adapters under LoRA, else all weights."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def train(self) -> None:
        """Training mode (gradient checkpointing acts); dropout stays off."""
        self.module.train()

    def eval(self) -> None:
        """Evaluation mode."""
        self.module.eval()

    def shares(self, longest: int) -> bool:
        """Are rows of up to so many tokens computed as a tree, beginnings that are alike once and without padding?"""
        return self._trunk.shares(longest)

    def outputs(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        loss_mask: torch.Tensor,
        temperature: float,
        chunk_tokens: int,
        critic: Critic | None = None,
    ) -> Outputs:
        """Log-probabilities and entropies after temperature, float32, at the tokens of ``loss_mask``.

        All of shape ``[rows, seq]``; rows are padded on the right. Position t of the answer belongs to token t given
        the tokens before it; zero where the loss mask is off (and at position 0). The head works on ``chunk_tokens``
        positions at a time, recomputed in the backward pass when there are several. ``critic`` values the hidden
        state from which each of these tokens was predicted. Raises ShapeError.
        """
        if input_ids.shape != attention_mask.shape or input_ids.shape != loss_mask.shape:
            raise ShapeError(
                f"policy.outputs: input_ids {tuple(input_ids.shape)}, attention_mask {tuple(attention_mask.shape)} "
                f"and loss_mask {tuple(loss_mask.shape)} must be equal in shape"
            )
        if bool((attention_mask[:, 1:] & ~attention_mask[:, :-1]).any()):
            raise ShapeError("policy.outputs: rows must be padded on the right, but a token follows padding")
        mask = loss_mask.bool() & (torch.arange(input_ids.shape[1], device=input_ids.device) > 0)
        with self._autocast():
            trained = self._trunk(input_ids, attention_mask, mask)
            logprobs, entropy = self._head(trained.hidden, trained.targets, temperature, chunk_tokens)
        values = None if critic is None else critic(trained.hidden)
        blank = torch.zeros(input_ids.shape, dtype=torch.float32, device=input_ids.device)

        def spread(answers: torch.Tensor) -> torch.Tensor:
            return blank.masked_scatter(mask, trained.to_positions(answers))

        return Outputs(spread(logprobs), spread(entropy), None if values is None else spread(values), trained.work)

    @torch.no_grad()
    def logprobs(self, sequences: Sequence[tuple[int, ...]], temperature: float) -> list[list[float]]:
        """Logprobs of every token but the first of each sequence: what ``Engine.logprobs`` answers, by the learner."""
        width = max(map(len, sequences))
        ids = torch.zeros(len(sequences), width, dtype=torch.int64)
        mask = torch.zeros(len(sequences), width, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = True
        loss_mask = mask.clone()
        loss_mask[:, 0] = False
        out = self.outputs(ids.to(self.device), mask.to(self.device), loss_mask.to(self.device), temperature, 4096)
        return [values[1 : len(sequence)].tolist() for values, sequence in zip(out.logprobs, sequences, strict=True)]

    def named_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(checkpoint name, tensor) of all weights, adapters merged on the fly, tied ones once.

        Detached, not copied where unmerged.
        """
        merged = {
            f"{name}.base_layer.weight": layer
            for name, layer in self.module.named_modules()
            if hasattr(layer, "base_layer")
        }
        for name, weight in self.module.named_parameters():
            if ".lora_" in name:
                continue
            tensor = weight.detach()
            if name in merged:
                tensor = (tensor.float() + merged[name].get_delta_weight(ADAPTER).detach().float()).to(tensor.dtype)
            beat("sync", "reading the weights", name)
            yield name.replace(".base_layer.", "."), tensor

    def adapter_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor) of the LoRA adapter alone, float32: ``<layer>.lora_A.weight`` [rank, in] and
        ``<layer>.lora_B.weight`` [out, rank] with the adapter's scale in it, so that a layer adds B A x.

        Detached; A is not copied.
        """
        for name, tensor in _adapter_weights(self.module):
            beat("sync", "reading the adapter", name)
            yield name, tensor

    def reference(self) -> Scorer:
        """The policy as it is now, to measure KL from: a copy of all weights; under LoRA of the adapters alone."""
        return Earlier.of(self) if self.adapter is not None else self.clone_frozen()

    def clone_frozen(self) -> Policy:
        """A copy that never learns."""
        module = copy.deepcopy(self.module)
        module.requires_grad_(False)
        module.eval()
        return Policy(module, self.chat, self.place)

    def save(self, folder: Path) -> None:
        """Weights (safetensors), config and tokenizer as ``transformers`` loads them; under LoRA as ``peft`` does."""
        (self.module if self.adapter is None else self.adapter).save_pretrained(folder)
        self.chat.tokenizer.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Take back what ``save`` wrote, exactly. Raises CheckpointError."""
        from safetensors.torch import load_file

        files = sorted(folder.glob("*.safetensors"))
        saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
        target = self.kept()
        if set(saved) != set(target):
            odd = sorted(set(saved) ^ set(target))
            raise CheckpointError(
                f"checkpoint: '{folder}' does not fit this model: {len(odd)} tensors differ, the first is {odd[0]}; "
                "resume with the model it was saved from"
            )
        self.put(saved, target)

    def put(self, saved: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
        """Copy each saved tensor into the one of its name."""
        for name, tensor in saved.items():
            target[name].copy_(tensor)

    def kept(self) -> dict[str, torch.Tensor]:
        """The tensors that ``save`` writes, by the names it writes: all weights, or the adapters'."""
        if self.adapter is None:
            return {name: p.data for name, p in self.module.named_parameters()}
        from peft import get_peft_model_state_dict

        tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(self.adapter)
        return tensors

    def _autocast(self) -> AbstractContextManager[None]:
        if not self.place.autocast:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A policy as it once was, in the weights that learn (under LoRA the adapters): those of then change places with
    those of now for a question, and back."""

    policy: Policy
    then: list[torch.Tensor]

    @classmethod
    def of(cls, policy: Policy) -> Earlier:
        """The policy as it is now."""
        return cls(policy, [p.detach().clone() for p in policy.parameters()])

    @torch.no_grad()
    def outputs(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        loss_mask: torch.Tensor,
        temperature: float,
        chunk_tokens: int,
        critic: Critic | None = None,
    ) -> Outputs:
        self._swap()
        try:
            return self.policy.outputs(input_ids, attention_mask, loss_mask, temperature, chunk_tokens, critic)
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, tensor in zip(self.policy.parameters(), self.then, strict=True):
            now = parameter.detach().clone()
            parameter.copy_(tensor)
            tensor.copy_(now)


def loading_s(path: str) -> float:
    """Seconds in which a model must be there: by the size of its files, or time for a download."""
    folder = Path(path)
    if not folder.is_dir():
        return DOWNLOAD_S
    return IMPORT_S + sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / DISK


def _load(path: str, place: Placement, attention: str, trainable: bool) -> tuple[Any, Any]:
    """(Hugging Face module, its peft wrapper or None) of a folder or hub name. Raises ConfigError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    adapter_folder = path if (Path(path) / "adapter_config.json").is_file() else None
    try:
        if adapter_folder:
            from peft import PeftConfig

            path = str(PeftConfig.from_pretrained(path).base_model_name_or_path)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=place.dtype, attn_implementation=attention, output_loading_info=True
        )
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
    if adapter_folder is None:
        return module, None
    from peft import PeftModel

    return module, PeftModel.from_pretrained(module, adapter_folder, is_trainable=trainable)


def _skeleton(path: str, place: Placement, attention: str, trainable: bool) -> tuple[Any, Any]:
    """The same as :func:`_load`, of weights that are nowhere yet (on torch's device ``meta``); buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    adapter = None
    if (Path(path) / "adapter_config.json").is_file():
        from peft import PeftConfig

        adapter = PeftConfig.from_pretrained(path)
        adapter.inference_mode = not trainable
        path = str(adapter.base_model_name_or_path)
    with init_empty_weights():
        build: Any = AutoModelForCausalLM.from_config
        module = build(AutoConfig.from_pretrained(path), dtype=place.dtype, attn_implementation=attention)
    module.tie_weights()
    module.eval()
    if adapter is None:
        return module, None
    from peft import get_peft_model

    return module, get_peft_model(module, adapter)


def _zeros(module: nn.Module, device: torch.device) -> None:
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


def _adapter_weights(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What :meth:`Policy.adapter_weights` gives, of a module with LoRA layers inside."""
    for name, layer in module.named_modules():
        if ADAPTER in getattr(layer, "lora_A", ()):
            a, b = (getattr(layer, side)[ADAPTER].weight.detach().float() for side in ("lora_A", "lora_B"))
            yield f"{name}.lora_A.weight", a
            yield f"{name}.lora_B.weight", b * layer.scaling[ADAPTER]


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
