"""Probes for the pre-training of the tiny base model: dense targets for reading, thrown away afterwards.

Matching a goal against titles is three steps for a causal model: mark what belongs to the goal, find it again in
a title, gather the marks at the item's label. Each probe asks one of these of one layer, at every token where
it makes sense, so that matching is learned within minutes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from agentrl.envs.webshop.words import TITLE_WORDS


class Probes(nn.Module):
    """Linear read-outs of the hidden states: is this word wanted, how many wanted words has this title, does it fit."""

    def __init__(self, width: int, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        ids = tokenizer.get_vocab()
        size = len(ids)
        self.title = torch.zeros(size, dtype=torch.bool)
        self.title[[ids[f"Ġ{word}"] for word in TITLE_WORDS]] = True
        self.label = torch.zeros(size, dtype=torch.bool)
        self.label[[ids[f"Ġ{word}"] for word in ("item1", "item2", "item3", "item4", "chosen")]] = True
        self.number = torch.full((size,), -1.0)
        for number in range(101):
            self.number[ids[f"Ġ{number}"]] = number
        self.bar, self.newline, self.want = ids["Ġ|"], ids["Ċ"], ids["want"]
        self.results = ids["results"]
        self.wanted, self.count, self.fit = nn.Linear(width, 1), nn.Linear(width, 7), nn.Linear(width, 1)
        self.norm = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def targets(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Title words after the goal, wanted among them, labels, wanted words of a label's title, fits. [batch, seq]"""
        after = (ids == self.newline).cumsum(1) > 0
        title = self.title[ids]
        goal = torch.zeros(len(ids), len(self.title), dtype=torch.bool)
        goal.scatter_(1, torch.where(title & ~after, ids, 0), True)
        goal[:, 0] = False
        shop = ids[:, :1] == self.want
        body = title & after & shop
        wanted = body & goal.gather(1, ids)
        total = wanted.cumsum(1)
        base = torch.where(ids == self.bar, total, 0).cummax(1).values
        results = (ids == self.results).any(1, keepdim=True)
        count = total - base * results
        label = self.label[ids] & after & shop
        value = self.number[ids]
        position = torch.arange(ids.shape[1]).expand_as(ids)
        last = torch.where(value >= 0, position, 0).cummax(1).values
        price = value.gather(1, last)
        limit = torch.where(~after & (value >= 0), value, -1).max(1, keepdim=True).values
        affordable = (limit < 0) | (price <= limit)
        fits = (count == goal.sum(1, keepdim=True)) & affordable
        return body, wanted, label, count, fits

    def forward(self, states: Sequence[Tensor], ids: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Sum of the probe losses, and each of them by name."""
        body, wanted, label, count, fits = self.targets(ids)
        if not label.any():
            return torch.zeros(()), {}
        low, high = self.norm[0](states[2]), self.norm[1](states[3])
        a = bce(self.wanted(low)[body][:, 0], wanted[body].float())
        b = cross_entropy(self.count(high)[label], count[label].clamp(max=6))
        c = bce(self.fit(high)[label][:, 0], fits[label].float())
        return a + b + c, {"wanted": a.item(), "count": b.item(), "fit": c.item()}
