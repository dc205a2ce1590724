"""A causal language model that learns: what a learner asks of it, whatever it was loaded from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from agentrl.batch import Outputs
from agentrl.chat import Chat
from agentrl.errors import CheckpointError, ShapeError
from agentrl.forward import Head, Trunk
from agentrl.model.placement import Placement
from agentrl.watchdog import beat

ADAPTER = "default"

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
        for name, tensor in adapter_weights(self.module):
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


def adapter_weights(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What :meth:`Policy.adapter_weights` gives, of a module with LoRA layers inside."""
    for name, layer in module.named_modules():
        if ADAPTER in getattr(layer, "lora_A", ()):
            a, b = (getattr(layer, side)[ADAPTER].weight.detach().float() for side in ("lora_A", "lora_B"))
            yield f"{name}.lora_A.weight", a
            yield f"{name}.lora_B.weight", b * layer.scaling[ADAPTER]
