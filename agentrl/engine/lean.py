"""A compact forward pass for models of the Llama, Qwen2 and Qwen3 kind, made for sampling.

It holds fused copies of the weights and does less than a general forward: a prompt shared by a group is read once and
its keys and values are never copied per member; the last layer of a prefill works on the last positions only; decoding
is a handful of tensor operations a layer. Equal to the Hugging Face forward to rounding (tested to 1e-5 in float32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from agentrl.engine.forward import right_padded

ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
PREFILL_TOKENS = {"cpu": 2048, "cuda": 32768}  # padded tokens read at once: in cache on a CPU, enough work on a GPU
PADDING = 16  # at most one in so many of them is padding: computing more costs more than the calls of another part
ROOM = 32  # tokens by which the cache of sampled tokens grows


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; query, key and value projections fused, gate and up projections too."""

    norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: torch.Tensor
    out_bias: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


def supports(module: Any) -> bool:
    """Can :class:`LeanForward` stand in for this Hugging Face module exactly?"""
    config = module.config
    if type(module).__name__ not in ARCHITECTURES or config.hidden_act != "silu":
        return False
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        return False
    first = module.model.layers[0]
    return module.model.rotary_emb.rope_type in STATIC_ROPE and first.mlp.down_proj.bias is None


class LeanForward:
    """The engine's weights and the operations on them."""

    def __init__(self, module: Any) -> None:
        config = module.config
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps: float = config.rms_norm_eps
        self.tensors: Mapping[str, torch.Tensor]
        names: dict[str, torch.Tensor] = {}
        self.embed = _own(names, "model.embed_tokens.weight", module.model.embed_tokens.weight)
        self.layers = [_layer(names, f"model.layers.{i}", layer) for i, layer in enumerate(module.model.layers)]
        self.norm = _own(names, "model.norm.weight", module.model.norm.weight)
        tied = module.lm_head.weight is module.model.embed_tokens.weight
        self.head = self.embed if tied else _own(names, "lm_head.weight", module.lm_head.weight)
        self.tensors = names
        rotary = module.model.rotary_emb
        angles = (
            torch.arange(config.max_position_embeddings, device=self.embed.device)[:, None]
            * rotary.inv_freq.float()[None]
        )
        self.cos = (angles.cos() * rotary.attention_scaling).to(self.embed.dtype)
        self.sin = (angles.sin() * rotary.attention_scaling).to(self.embed.dtype)

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        x = F.embedding(ids, self.embed)
        for layer in self.layers:
            q, k, v = self.project(layer, x, slice(0, ids.shape[1]))
            x = self.finish(layer, x, self._attend(q, k, v))
        return F.linear(self.rms(x, self.norm), self.head)

    def start(self, prompts: Sequence[tuple[int, ...]], rows: Sequence[int]) -> tuple[LeanDecoding, torch.Tensor]:
        device = self.embed.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        shape = (len(prompts), self.kv_heads, int(lengths.max()), self.head_dim)
        keys = [self.embed.new_zeros(shape) for _ in self.layers]
        values = [self.embed.new_zeros(shape) for _ in self.layers]
        hidden = []
        for part in _parts([len(prompt) for prompt in prompts], PREFILL_TOKENS[device.type]):
            ids = right_padded(prompts[part], device)
            hidden.append(self._prefill(ids, lengths[part], [k[part] for k in keys], [v[part] for v in values]))
        return LeanDecoding(self, keys, values, lengths, torch.tensor(rows, device=device)), F.linear(
            torch.cat(hidden), self.head
        )

    def _prefill(
        self, ids: torch.Tensor, lengths: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]
    ) -> torch.Tensor:
        """Read padded prompts [n, seq] and fill their caches; normed hidden states of the last tokens [n, width]."""
        width = ids.shape[1]
        x = F.embedding(ids, self.embed)
        for index, layer in enumerate(self.layers):
            q, k, v = self.project(layer, x, slice(0, width))
            keys[index][:, :, :width] = k
            values[index][:, :, :width] = v
            if index + 1 < len(self.layers):
                x = self.finish(layer, x, self._attend(q, k, v))
        rows = torch.arange(len(ids), device=ids.device)
        q = q[rows, :, lengths - 1].view(len(ids), self.kv_heads, -1, self.head_dim)
        scores = q @ k.transpose(2, 3) * self.head_dim**-0.5 + _bias(lengths, width, q.dtype)[:, None, None]
        mixed = (scores.softmax(-1) @ v).reshape(len(ids), -1)
        return self.rms(self.finish(self.layers[-1], x[rows, lengths - 1], mixed), self.norm)

    def project(
        self, layer: Layer, x: torch.Tensor, positions: slice | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[n, seq, width] -> queries [n, heads, seq, head_dim], keys and values [n, kv_heads, seq, head_dim]."""
        n, seq, _ = x.shape
        mixed = F.linear(self.rms(x, layer.norm), layer.qkv, layer.qkv_bias).view(n, seq, -1, self.head_dim)
        rotated = mixed[:, :, : self.heads + self.kv_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = rotated[:, :, : self.heads], rotated[:, :, self.heads :]
            rotated = torch.cat([self.rms(q, layer.q_norm), self.rms(k, layer.k_norm)], dim=2)
        cos, sin = self.cos[positions], self.sin[positions]
        cos, sin = cos.view(-1, seq, 1, cos.shape[-1]), sin.view(-1, seq, 1, sin.shape[-1])
        a, b = rotated.chunk(2, dim=-1)
        rotated = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).transpose(1, 2)
        return (
            rotated[:, : self.heads],
            rotated[:, self.heads :],
            mixed[:, :, self.heads + self.kv_heads :].transpose(1, 2),
        )

    def finish(self, layer: Layer, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The rest of a layer after attention: output projection, feed-forward, residuals."""
        x = x + F.linear(attended, layer.out, layer.out_bias)
        gate, up = F.linear(self.rms(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, layer.down)

    def rms(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Root-mean-square norm."""
        return F.rms_norm(x, weight.shape, weight, self.eps)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal attention over whole sequences, [n, seq, width of the queries]."""
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return out.transpose(1, 2).reshape(q.shape[0], q.shape[2], self.queries)


class LeanDecoding:
    """Rows being continued. Keys and values of a prompt exist once; all its rows attend to them together.

    ``slot`` places a row in the grid [prompts, group] (flattened), so that a group's queries meet its prompt in one
    product.
    """

    def __init__(
        self,
        forward: LeanForward,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        lengths: torch.Tensor,
        prompt: torch.Tensor,
    ) -> None:
        self._forward = forward
        self._keys, self._values = keys, values
        self._lengths = lengths
        self._bias = _bias(lengths, keys[0].shape[2], keys[0].dtype)[:, None, None]
        self._count = 0  # tokens appended so far, the same for every row
        self._new = [keys[0].new_empty(2, len(prompt), forward.kv_heads, 0, forward.head_dim) for _ in keys]
        self._place(prompt)

    def _place(self, prompt: torch.Tensor) -> None:
        """Give every row, continuing prompt[row], its slot in the grid."""
        self._prompt = prompt
        same = prompt[:, None] == prompt[None, :]
        member = same.tril(-1).sum(1)
        self._group = int(member.max()) + 1
        self._slot = prompt * self._group + member
        self._start = self._lengths[prompt]
        self._grid = len(self._lengths) * self._group
        self._full = self._grid == len(prompt) and bool((self._slot[1:] > self._slot[:-1]).all())

    def keep(self, rows: torch.Tensor) -> None:
        self._new = [new[:, rows] for new in self._new]
        used, prompt = torch.unique(self._prompt[rows], return_inverse=True)
        if 2 * len(used) <= len(self._lengths):
            self._keys, self._values = [k[used] for k in self._keys], [v[used] for v in self._values]
            self._lengths, self._bias = self._lengths[used], self._bias[used]
            self._place(prompt)
        else:
            self._place(self._prompt[rows])

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        forward = self._forward
        if self._count == self._new[0].shape[3]:
            self._new = [
                torch.cat([new, new.new_empty(*new.shape[:3], ROOM, new.shape[4])], dim=3) for new in self._new
            ]
        x = F.embedding(tokens[:, None], forward.embed)
        positions = self._start + self._count
        self._count += 1
        for index, layer in enumerate(forward.layers):
            q, k, v = forward.project(layer, x, positions)
            new = self._new[index]
            new[0, :, :, self._count - 1] = k[:, :, 0]
            new[1, :, :, self._count - 1] = v[:, :, 0]
            attended = self._attend(q, self._keys[index], self._values[index], new[:, :, :, : self._count])
            x = forward.finish(layer, x, attended)
        return F.linear(forward.rms(x[:, 0], forward.norm), forward.head)

    def _attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """One query a row, [rows, heads, 1, head_dim], over its prompt and its own tokens -> [rows, 1, queries]."""
        rows, width, kv = q.shape[0], keys.shape[2], self._forward.kv_heads
        q = q.view(rows, kv, -1, q.shape[-1]) * q.shape[-1] ** -0.5
        old = self._to_rows(self._to_grid(q) @ keys.transpose(2, 3) + self._bias)
        scores = torch.cat([old, q @ new[0].transpose(2, 3)], dim=-1).softmax(-1)
        mixed = self._to_rows(self._to_grid(scores[..., :width]) @ values) + scores[..., width:] @ new[1]
        return mixed.reshape(rows, 1, -1)

    def _to_grid(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, kv_heads, share, n] -> [prompts, kv_heads, group * share, n]; empty slots hold zeros."""
        if not self._full:
            x = x.new_zeros(self._grid, *x.shape[1:]).index_copy_(0, self._slot, x)
        return (
            x.view(-1, self._group, *x.shape[1:])
            .transpose(1, 2)
            .reshape(-1, x.shape[1], self._group * x.shape[2], x.shape[3])
        )

    def _to_rows(self, x: torch.Tensor) -> torch.Tensor:
        """The way back."""
        x = (
            x.view(x.shape[0], x.shape[1], self._group, -1, x.shape[3])
            .transpose(1, 2)
            .reshape(self._grid, x.shape[1], -1, x.shape[3])
        )
        return x if self._full else x[self._slot]


def _layer(names: dict[str, torch.Tensor], prefix: str, layer: Any) -> Layer:
    """Fused weights of a Hugging Face layer; ``names`` gets views into them."""
    attention, mlp = layer.self_attn, layer.mlp
    out = attention.o_proj
    parts = [(f"{prefix}.self_attn.{name}_proj", getattr(attention, f"{name}_proj")) for name in "qkv"]
    return Layer(
        norm=_own(names, f"{prefix}.input_layernorm.weight", layer.input_layernorm.weight),
        qkv=_fuse(names, [(f"{name}.weight", part.weight) for name, part in parts]),
        qkv_bias=_fuse(names, [(f"{name}.bias", part.bias) for name, part in parts])
        if parts[0][1].bias is not None
        else None,
        q_norm=_own(names, f"{prefix}.self_attn.q_norm.weight", attention.q_norm.weight)
        if hasattr(attention, "q_norm")
        else None,
        k_norm=_own(names, f"{prefix}.self_attn.k_norm.weight", attention.k_norm.weight)
        if hasattr(attention, "k_norm")
        else None,
        out=_own(names, f"{prefix}.self_attn.o_proj.weight", out.weight),
        out_bias=_own(names, f"{prefix}.self_attn.o_proj.bias", out.bias) if out.bias is not None else None,
        mlp_norm=_own(names, f"{prefix}.post_attention_layernorm.weight", layer.post_attention_layernorm.weight),
        gate_up=_fuse(
            names,
            [(f"{prefix}.mlp.{name}_proj.weight", getattr(mlp, f"{name}_proj").weight) for name in ("gate", "up")],
        ),
        down=_own(names, f"{prefix}.mlp.down_proj.weight", mlp.down_proj.weight),
    )


def _own(names: dict[str, torch.Tensor], name: str, weight: torch.Tensor) -> torch.Tensor:
    names[name] = weight.detach().clone()
    return names[name]


def _fuse(names: dict[str, torch.Tensor], parts: list[tuple[str, torch.Tensor]]) -> torch.Tensor:
    """One tensor of all parts, whose slices are known by the parts' names."""
    fused = torch.cat([weight.detach() for _, weight in parts])
    for (name, _), view in zip(parts, torch.split(fused, [len(weight) for _, weight in parts]), strict=True):
        names[name] = view
    return fused


def _bias(lengths: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor:
    """[n, width], 0 on a prompt's tokens and -inf on the padding behind them."""
    padding = torch.arange(width, device=lengths.device)[None] >= lengths[:, None]
    return torch.zeros(padding.shape, dtype=dtype, device=lengths.device).masked_fill_(padding, float("-inf"))


def _parts(lengths: Sequence[int], tokens: int) -> list[slice]:
    """Consecutive slices of prompts, sorted by length, of at most ``tokens`` padded tokens (one prompt at least), of
    which at most ``tokens / PADDING`` are padding."""
    parts, begin, real = [], 0, 0
    for end, length in enumerate(lengths, 1):
        real += length
        if end < len(lengths):
            padded = (end + 1 - begin) * lengths[end]
            if padded <= tokens and (padded - real - lengths[end]) * PADDING <= tokens:
                continue
        parts.append(slice(begin, end))
        begin, real = end, 0
    return parts
