"""Pre-train the tiny base model that ships with agentrl (agentrl/assets/tiny), from fabricated text alone.

Two stages: turns of careful shoppers, until titles are read and matched; then turns of hasty ones, so that the base can
read but shops badly and reinforcement learning has something to find. The defaults are those of the shipped base: 2,500
steps of at most 6,144 tokens (about 14 million), 17 minutes of a core that has nothing else to do. Progress, and the
probability of careful actions on fabricated pages (the gate), are printed as it goes.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tiny_probes import Probes
from tiny_text import Mix, Sample, draw, situation
from tiny_tokenizer import ACT_ID, PAD_ID, build
from tiny_tokenizer import save as save_tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from agentrl.envs.webshop.compact import View, Want
from agentrl.envs.webshop.shopper import decide

SHOP_SHARE, PAGE_ROWS = 0.7, 4  # share of shop turns among the samples; products of a full page
CURRICULUM = ((100, 2), (250, 3))  # stage one: pages of 2 products before step 100, of 3 before step 250
PROMPT_WEIGHT, PROBE_WEIGHT = 0.3, 0.5


def main() -> None:
    """Train both stages and write the model with its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("agentrl/assets/tiny"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=4, help="at least 4: the probes read layers 2 and 3")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=32, help="vLLM on a CPU serves no smaller heads")
    parser.add_argument("--steps", type=int, nargs=2, default=[1800, 700], help="of the careful and the hasty stage")
    parser.add_argument("--lr", type=float, default=2e-3, help="of the careful stage; the hasty one takes 0.4 of it")
    parser.add_argument("--tokens", type=int, default=6144, help="tokens of a batch, at most")
    parser.add_argument("--noises", type=float, nargs="+", default=[0.4, 0.5, 0.7], help="grades of hasty shoppers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = build()
    model = model_of(len(tokenizer), args.width, args.layers, args.heads, args.head_dim)
    probes = Probes(args.width, tokenizer)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    careful = Mix(SHOP_SHARE, PAGE_ROWS, (0.0,))
    train(model, probes, tokenizer, careful, args.steps[0], args.lr, args.tokens, rng, CURRICULUM)
    hasty = Mix(SHOP_SHARE, PAGE_ROWS, tuple(args.noises))
    train(model, probes, tokenizer, hasty, args.steps[1], 0.4 * args.lr, args.tokens, rng, ())
    save(model, args.out)


def model_of(vocabulary: int, width: int, layers: int, heads: int, head_dim: int) -> Qwen2ForCausalLM:
    """A small decoder, tied embeddings, mimetic initialisation: half of the heads start as same-token matchers."""
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=width * 8 // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=head_dim,
            max_position_embeddings=16384,  # rotary positions: room for the faithful pages
            tie_word_embeddings=True,
            initializer_range=width**-0.5,
            bos_token_id=None,
            pad_token_id=PAD_ID,
            eos_token_id=2,
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            half = heads // 2 * head_dim
            attention.k_proj.weight[:half] = 0.7 * attention.q_proj.weight[:half]
            torch.nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(0.3 * attention.v_proj.weight.T)
            layer.mlp.down_proj.weight.mul_((2 * layers) ** -0.5)
    return model


def train(
    model: Qwen2ForCausalLM,
    probes: Probes,
    tokenizer: PreTrainedTokenizerFast,
    mix: Mix,
    steps: int,
    lr: float,
    tokens: int,
    rng: random.Random,
    curriculum: tuple[tuple[int, int], ...],
) -> None:
    """AdamW, 100 steps of warm-up, linear decay over the last 40 % of the steps. `curriculum`: (before step, rows)."""
    params = [*model.parameters(), *probes.parameters()]
    optimiser = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    sizes = {rows for _, rows in curriculum} | {mix.rows}
    streams = {rows: batches(replace(mix, rows=rows), tokenizer, tokens, rng) for rows in sizes}
    start, seen, shown = time.time(), 0, {}
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, step / 100, max(0.02, (1 - step / steps) / 0.4))
        ids = next(streams[next((rows for before, rows in curriculum if step < before), mix.rows)])
        out = model.model(ids, output_hidden_states=True, use_cache=False)
        lm = lm_loss(model, out.last_hidden_state, ids)
        aux, parts = probes(out.hidden_states, ids)
        optimiser.zero_grad()
        (lm + PROBE_WEIGHT * aux).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        seen += ids.numel()
        for key, value in {"lm": lm.item(), **parts}.items():
            shown[key] = 0.95 * shown.get(key, value) + 0.05 * value
        if step % 100 == 0:
            losses = {key: round(value, 3) for key, value in shown.items()}
            took = time.time() - start
            print(f"step {step}  {took:.0f} s  {seen / took:.0f} tokens/s  {losses}", flush=True)
        if step % 500 == 0 or step == steps:
            print("  gate", gate(model, tokenizer), flush=True)


def batches(
    mix: Mix, tokenizer: PreTrainedTokenizerFast, tokens: int, rng: random.Random, pool: int = 1024
) -> Iterator[Tensor]:
    """Endless right-padded batches of ids [batch, seq], at most `tokens` each, rows of similar length."""
    while True:
        texts = [draw(mix, rng).text() for _ in range(pool)]
        rows = sorted((entry.ids for entry in tokenizer.backend_tokenizer.encode_batch(texts)), key=len)
        packs, start = [], 0
        while start < len(rows):
            end = start
            while end < len(rows) and (end + 1 - start) * len(rows[end]) <= tokens:
                end += 1
            packs.append(rows[start:end])
            start = end
        packs = [pack for pack in packs if len(pack) * len(pack[-1]) > tokens // 2]
        rng.shuffle(packs)
        for pack in packs:
            width = len(pack[-1])
            yield torch.tensor([row + [PAD_ID] * (width - len(row)) for row in pack])


def answer_mask(ids: Tensor) -> Tensor:
    """True on the tokens after ``<act>`` up to and with ``<end>``. [batch, seq]"""
    return ((ids == ACT_ID).cumsum(1) - (ids == ACT_ID).int() > 0) & (ids != PAD_ID)


def lm_loss(model: Qwen2ForCausalLM, hidden: Tensor, ids: Tensor) -> Tensor:
    """Next-token loss (scalar): every answer token, and a random eighth of the prompt tokens at a lower weight."""
    target = ids[:, 1:]
    answer = answer_mask(ids)[:, 1:]
    prompt = ~answer & (target != PAD_ID) & (torch.rand(target.shape) < 0.125)
    loss = torch.zeros(())
    for mask, weight in ((answer, 1.0), (prompt, PROMPT_WEIGHT)):
        logits = hidden[:, :-1][mask] @ model.model.embed_tokens.weight.T
        loss = loss + weight * torch.nn.functional.cross_entropy(logits, target[mask])
    return loss


@torch.no_grad()
def gate(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int = 12345, count: int = 600
) -> dict[str, float]:
    """Mean probability of the careful action on fabricated pages, by kind of page and decision."""
    rng, found = random.Random(seed), {}
    for _ in range(count):
        want, view = situation(rng)
        action = decide(want, view, 0.0, rng)
        text = Sample(f"{want.text()}\n{view.text()}", action).text()
        ids = torch.tensor([tokenizer.backend_tokenizer.encode(text).ids])
        logprobs = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        probability = math.exp(logprobs[answer_mask(ids)[0, 1:]].sum().item())
        found.setdefault(decision(want, view, action), []).append(probability)
    return {kind: round(sum(values) / len(values), 3) for kind, values in sorted(found.items())}


def decision(want: Want, view: View, action: str) -> str:
    """What a careful action decides: ``full search``, ``right item``, ``best of wrong items``, ``option`` ..."""
    if view.kind == "home":
        return "full search"
    if view.kind == "results" and "item" in action:
        row = view.rows[int(action[-1]) - 1]
        return "right item" if want.fits(row.words, row.price) else "best of wrong items"
    target = action.removeprefix("click ")
    return f"{target} on {view.kind}" if target in ("next", "back", "buy") else "option"


def save(model: Qwen2ForCausalLM, folder: Path) -> None:
    """Write bf16 weights and the tokenizer.

    The model is written as the equal Llama (its output bias, which Qwen2 has not, is zero): for Qwen2
    configurations, transformers replaces any tokenizer by Qwen2's own.
    """
    have = model.config
    twin = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=have.vocab_size,
            hidden_size=have.hidden_size,
            intermediate_size=have.intermediate_size,
            num_hidden_layers=have.num_hidden_layers,
            num_attention_heads=have.num_attention_heads,
            num_key_value_heads=have.num_key_value_heads,
            head_dim=have.head_dim,
            max_position_embeddings=have.max_position_embeddings,
            tie_word_embeddings=True,
            attention_bias=True,
            rms_norm_eps=have.rms_norm_eps,
            bos_token_id=None,
            pad_token_id=have.pad_token_id,
            eos_token_id=have.eos_token_id,
        )
    )
    twin.load_state_dict(copy.deepcopy(model.state_dict()), strict=False)
    for layer in twin.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.bias)
    twin.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)


if __name__ == "__main__":
    main()
