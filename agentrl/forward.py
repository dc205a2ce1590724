"""From tokens to log-probabilities: the trunk of a Hugging Face model over many rows at once, and its output head.

Where the model allows it, rows go through the trunk as a :class:`~agentrl.tree.Tree`: embeddings, projections and MLPs
see each distinct prefix once and no padding, and attention alone knows the tree. Where it does not (attention with
kernels of its own, a sliding window shorter than the rows), rows are padded on the right. The head works only at
positions that predict trained tokens, in chunks, so that logits never dominate memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from agentrl.batch import Work
from agentrl.errors import ConfigError
from agentrl.tree import Tree
from agentrl.tree_attention import TreeAttention, blocks_of
from agentrl.tree_varlen import Flash, VarlenAttention, levels, owned

NAME = "agentrl_tree"  # of our attention in transformers' table
EXACT, COARSE = 1e-3, 5e-2  # how far hidden states of a tree may be from those of its rows; in float32, in 16 bits
COPIES, CALLS = 8.0, 4e5  # price of a tree: share of a token times width, tokens times width^2 (docs/benchmarks.md)

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]  # queries, keys, values, scale
Autocast = Callable[[], AbstractContextManager[None]]  # what the forward pass computes in


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **given: Any
) -> tuple[torch.Tensor, None]:
    """transformers' SDPA, or where the trunk was given a tree, attention over it."""
    attend: Attend | None = given.pop("agentrl_tree", None)
    if attend is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = given.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    return attend(query, key, value, scale).transpose(1, 2).contiguous(), None


def _attending(tree: Tree, device: torch.device) -> Attend:
    """Attention over a tree; what it needs of the tree is made once for all layers."""
    if device.type == "cpu":
        blocks = blocks_of(tree)
        return lambda q, k, v, scale: TreeAttention.apply(q, k, v, scale, tree, blocks)  # type: ignore[no-untyped-call]
    own, above, kernel = owned(tree, device), levels(tree, device), Flash()
    return lambda q, k, v, scale: VarlenAttention.apply(q, k, v, scale, own, above, kernel)  # type: ignore[no-untyped-call]


def _supported(device: torch.device, dtype: torch.dtype) -> bool:
    """Is there a kernel for tensors of this device and dtype?"""
    return device.type == "cpu" or (device.type == "cuda" and dtype in (torch.bfloat16, torch.float16))


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@dataclass(frozen=True, slots=True)
class Trained:
    """Hidden states from which trained tokens were predicted, each distinct one once."""

    hidden: torch.Tensor  # [n, width]
    targets: torch.Tensor  # [n] int64, the trained tokens
    slots: torch.Tensor | None  # [trained positions] which of the n each has, row by row; None: they are the n
    work: Work

    def to_positions(self, answers: torch.Tensor) -> torch.Tensor:
        """``[n]`` -> ``[trained positions]``."""
        return answers if self.slots is None else answers.index_select(0, self.slots)


class Trunk:
    """The model below its head.

    ``module``: a causal language model of transformers; ``dtype``: what it computes in, by the ``autocast`` that the
    caller puts around every call.
    """

    def __init__(self, module: Any, dtype: torch.dtype, autocast: Autocast) -> None:
        self._module = module
        self._longest = 0  # tokens of the longest row that can be part of a tree
        config = module.config.get_text_config()
        known = config._attn_implementation in ("sdpa", NAME) and module._supports_attention_backend
        if known and _supported(next(module.parameters()).device, dtype):
            before, config._attn_implementation = config._attn_implementation, NAME
            with autocast():
                agrees = self._agrees(EXACT if dtype.itemsize >= 4 else COARSE)
            self._longest = _window(config) if agrees else 0
            config._attn_implementation = NAME if self._longest else before

    def shares(self, longest: int) -> bool:
        """Are rows of up to so many tokens computed as a tree, beginnings that are alike once and without padding?"""
        return longest <= self._longest

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, trained: torch.Tensor) -> Trained:
        """Of rows ``[rows, seq]`` padded on the right; ``trained`` is False at position 0."""
        if self.shares(input_ids.shape[1]):
            tree = Tree.of(input_ids, attention_mask)
            if self._pays(len(tree.ids), input_ids.numel()):
                return self._over_tree(tree, input_ids.device, trained)
        return self._over_rows(input_ids, attention_mask, trained)

    def _pays(self, nodes: int, padded: int) -> bool:
        """Is the tree quicker than rows that are padded? Its attention costs copies of each token and some calls."""
        width = int(self._module.config.get_text_config().hidden_size)
        return nodes * (1 + COPIES / width) + CALLS / width**2 < padded

    def _over_rows(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, trained: torch.Tensor) -> Trained:
        # With padding on the right, causality alone keeps it out of sight: no mask, fastest kernels.
        states = self._module.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        work = Work(int(attention_mask.sum()), input_ids.numel())
        return Trained(states[:, :-1][trained[:, 1:]], input_ids[trained], None, work)

    def _over_tree(self, tree: Tree, device: torch.device, trained: torch.Tensor) -> Trained:
        def tensor(array: Any) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        ids = tensor(tree.ids)
        states = self._module.base_model(
            input_ids=ids[None],
            position_ids=tensor(tree.positions)[None],
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),  # ours: transformers makes none
            use_cache=False,
            agentrl_tree=_attending(tree, device),
        ).last_hidden_state[0]
        nodes = tensor(tree.nodes)[trained]
        wanted, slots = torch.unique(nodes, return_inverse=True)
        work = Work(len(ids), len(ids))
        return Trained(states.index_select(0, tensor(tree.parents)[wanted]), ids[wanted], slots, work)

    @torch.no_grad()
    def _agrees(self, tolerance: float) -> bool:
        """Does the model answer of a small tree what it answers of its rows? False too where it refuses the tree."""
        device = next(self._module.parameters()).device
        ids = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 5, 0], [1, 2, 3, 5, 4], [2, 1, 3, 0, 0]], device=device)
        mask = torch.arange(5, device=device) < torch.tensor([[5], [4], [5], [3]], device=device)
        ids = ids % self._module.config.get_text_config().vocab_size
        trained = mask & (torch.arange(5, device=device) > 0)
        try:
            tree = self._over_tree(Tree.of(ids, mask), device, trained)
        except (TypeError, ValueError, RuntimeError):  # of the model, of the kernel
            return False
        rows, ours = self._over_rows(ids, mask, trained).hidden.float(), tree.to_positions(tree.hidden).float()
        return bool((ours - rows).abs().max() <= tolerance * rows.abs().max())


class Head:
    """From hidden states to log-probabilities: a linear layer with at most a soft cap on its logits.

    Raises ConfigError where the model does more to its logits.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._softcap: float | None = getattr(module.config.get_text_config(), "final_logit_softcapping", None)
        self._require_plain()

    def __call__(
        self, hidden: torch.Tensor, targets: torch.Tensor, temperature: float, chunk_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``[n, width]``, ``[n]`` -> logprobs of the targets after temperature and entropies, float32 ``[n]``.

        ``chunk_tokens`` positions at a time, recomputed in the backward pass when there are several.
        """
        if hidden.shape[0] <= chunk_tokens:
            return self._score(hidden, targets, temperature)
        parts = [
            checkpoint(self._score, h, t, temperature, use_reentrant=False)
            for h, t in zip(torch.split(hidden, chunk_tokens), torch.split(targets, chunk_tokens), strict=True)
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _score(
        self, hidden: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self._logits(hidden) / (temperature or 1.0)
        logp = torch.log_softmax(logits, dim=-1)
        return logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._module.get_output_embeddings()(hidden).float()
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)

    @torch.no_grad()
    def _require_plain(self) -> None:
        """Refuse architectures whose logits are not head(hidden) with at most a soft cap."""
        module = self._module
        ids = (
            torch.arange(4, device=next(module.parameters()).device)[None] % module.config.get_text_config().vocab_size
        )
        whole = module(input_ids=ids, use_cache=False).logits.float()
        ours = self._logits(module.base_model(input_ids=ids, use_cache=False).last_hidden_state)
        if not torch.allclose(whole, ours, rtol=1e-2, atol=1e-2):
            raise ConfigError(
                f"model: {type(module).__name__} does more to its logits than a linear head and a soft cap; "
                "this architecture is not supported yet"
            )


def _window(config: Any) -> int:
    """Tokens within which every layer sees all that went before."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    if set(kinds) == {"full_attention"}:
        window = None if getattr(config, "layer_types", None) else getattr(config, "sliding_window", None)
    elif set(kinds) <= {"full_attention", "sliding_attention"}:
        window = config.sliding_window
    else:
        return 0
    return int(window) if window else int(config.max_position_embeddings)
