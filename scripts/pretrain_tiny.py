"""Pre-train the tiny base model that ships with agentrl."""
from __future__ import annotations

import argparse
import copy
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from tiny_probes import Probes
from tiny_text import Mix, Sample, draw, situation
from tiny_tokenizer import build, save as save_tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agentrl.envs.webshop.shopper import decide


def model_of(vocabulary: int, width: int, layers: int, heads: int) -> LlamaForCausalLM:
    """A small Llama with tied embeddings and mimetic initialisation (half of the heads start as same-token matchers)."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3 // 8 * 8, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=width**-0.5, bos_token_id=None, pad_token_id=0, eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            half = width // 2
            attention.k_proj.weight[:half] = 0.7 * attention.q_proj.weight[:half]
            torch.nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(0.3 * attention.v_proj.weight.T)
            layer.mlp.down_proj.weight.mul_((2 * layers) ** -0.5)
    return model


def batches(mix: Mix, tokenizer: PreTrainedTokenizerFast, tokens: int, rng: random.Random, pool: int = 1024):
    """Endless right-padded batches [batch, seq] of about `tokens` tokens, rows of similar length."""
    while True:
        texts = [draw(mix, rng).text() for _ in range(pool)]
        rows = sorted((e.ids for e in tokenizer._tokenizer.encode_batch(texts)), key=len)
        packs, start = [], 0
        while start < len(rows):
            end = start
            while end < len(rows) and (end + 1 - start) * len(rows[end]) <= tokens:
                end += 1
            packs.append(rows[start:end])
            start = end
        packs = [p for p in packs if len(p) * len(p[-1]) > tokens // 2]
        rng.shuffle(packs)
        for pack in packs:
            width = len(pack[-1])
            yield torch.tensor([row + [0] * (width - len(row)) for row in pack])


def answer_mask(ids: Tensor) -> Tensor:
    """True on the tokens after ``<act>`` up to and with ``<end>``. [batch, seq]"""
    return ((ids == 1).cumsum(1) - (ids == 1).int() > 0) & (ids != 0)


def lm_loss(model, hidden: Tensor, ids: Tensor, prompt_weight: float) -> Tensor:
    """Next-token loss: every answer token, and a random eighth of the prompt tokens at a lower weight."""
    target = ids[:, 1:]
    answer = answer_mask(ids)[:, 1:]
    prompt = ~answer & (target != 0) & (torch.rand(target.shape) < 0.125)
    loss = 0.0
    for mask, weight in ((answer, 1.0), (prompt, prompt_weight)):
        logits = hidden[:, :-1][mask] @ model.model.embed_tokens.weight.T
        loss = loss + weight * torch.nn.functional.cross_entropy(logits, target[mask])
    return loss


@torch.no_grad()
def gate(model, tokenizer, seed: int = 12345, count: int = 600) -> dict[str, float]:
    """Probability of the careful action in fabricated situations, by kind of decision."""
    rng = random.Random(seed)
    sums: dict[str, list[float]] = {}
    rows = []
    for _ in range(count):
        want, view = situation(rng)
        action = decide(want, view, 0.0, rng)
        kind = view.kind if view.kind == "home" else ("item" if "item" in action else action.split()[1] if action.split()[1] in ("next", "back", "buy") else "option")
        if kind == "item":
            kind += "!" if want.fits(view.rows[int(action[-1]) - 1].words, view.rows[int(action[-1]) - 1].price) else "?"
        rows.append((Sample(f"{want.text()}\n{view.text()}", action), f"{view.kind}:{kind}"))
    for sample, kind in rows:
        ids = torch.tensor([tokenizer._tokenizer.encode(sample.text()).ids])
        logp = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        mask = answer_mask(ids)[0, 1:]
        sums.setdefault(kind, []).append(math.exp(logp[mask].sum().item()))
    return {k: round(sum(v) / len(v), 3) for k, v in sorted(sums.items())}


def main() -> None:
    """Two stages: careful shoppers (reading is learned), then hasty ones (so that the base shops badly)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("agentrl/assets/tiny"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs=2, default=[4500, 1500])
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--tokens", type=int, default=6144)
    parser.add_argument("--noises", type=float, nargs="+", default=[0.4, 0.5, 0.7])
    parser.add_argument("--load", type=Path, help="skip the first stage: start from this folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = build()
    model = model_of(len(tokenizer), args.width, args.layers, args.heads)
    if args.load:
        model = LlamaForCausalLM.from_pretrained(args.load, dtype=torch.float32)
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    probes = Probes(args.width, tokenizer)
    if not args.load:
        train(model, probes, tokenizer, Mix(0.7, 4, (0.0,)), args.steps[0], args.lr, args.tokens, rng, fresh=True)
        save(model, args.out.with_name(args.out.name + "_reader"))
    train(model, probes, tokenizer, Mix(0.7, 4, tuple(args.noises)), args.steps[1], args.lr * 0.4, args.tokens, rng, fresh=False)
    save(model, args.out)


def train(model, probes, tokenizer, mix, steps, lr, tokens, rng, *, fresh) -> None:
    """AdamW with a short warm-up and a linear decay over the last 40 % of the steps."""
    params = [*model.parameters(), *probes.parameters()]
    optimiser = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    pages = (2, 3, 4) if fresh else (4,)
    stream = {rows: batches(replace(mix, rows=rows), tokenizer, tokens, rng) for rows in pages}
    start, seen, ema = time.time(), 0, {}
    for step in range(1, steps + 1):
        done = step / steps
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, step / 100, max(0.02, (1 - done) / 0.4))
        rows = (2 if step < 100 else 3 if step < 250 else 4) if fresh else 4
        ids = next(stream[rows])
        out = model.model(ids, output_hidden_states=True, use_cache=False)
        lm = lm_loss(model, out.last_hidden_state, ids, 0.3)
        aux, parts = probes(out.hidden_states, ids)
        optimiser.zero_grad()
        (lm + 0.5 * aux).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        seen += ids.numel()
        for key, value in {"lm": lm.item(), **parts}.items():
            ema[key] = 0.95 * ema.get(key, value) + 0.05 * value
        if step % 100 == 0:
            rate = seen / (time.time() - start)
            print(step, f"{time.time() - start:.0f}s {rate:.0f}tok/s", {k: round(v, 3) for k, v in ema.items()}, flush=True)
        if step % 500 == 0 or step == steps:
            print("   gate", gate(model, tokenizer), flush=True)


def save(model, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)


if __name__ == "__main__":
    main()
