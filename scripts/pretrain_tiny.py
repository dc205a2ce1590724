"""Pre-train the tiny base model that ships with agentrl."""
from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tiny_probes import Probes
from tiny_text import Mix, Sample, draw, situation
from tiny_tokenizer import build
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from agentrl.envs.webshop.shopper import decide


def model_of(vocabulary: int, width: int, layers: int, heads: int) -> Qwen2ForCausalLM:
    """A small Qwen2 with tied embeddings and mimetic initialisation (half of the heads start as same-token matchers)."""
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3 // 8 * 8, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=width**-0.5, bos_token_id=None, pad_token_id=0, eos_token_id=2,
    )
    model = Qwen2ForCausalLM(config)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("agentrl/assets/tiny"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--tokens", type=int, default=6144)
    parser.add_argument("--probes", type=float, default=0.5)
    parser.add_argument("--shop", type=float, default=0.7)
    parser.add_argument("--noises", type=float, nargs="+", default=[0.0])
    parser.add_argument("--load", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = build()
    model = model_of(len(tokenizer), args.width, args.layers, args.heads)
    if args.load:
        model = Qwen2ForCausalLM.from_pretrained(args.load, dtype=torch.float32)
    probes = Probes(args.width, tokenizer)
    params = [*model.parameters(), *probes.parameters()]
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    optimiser = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    start, step, seen, budget = time.time(), 0, 0, args.minutes * 60
    stream = {rows: batches(Mix(args.shop, rows, tuple(args.noises)), tokenizer, args.tokens, rng) for rows in (2, 3, 4)}
    ema = {}
    while (done := (time.time() - start) / budget) < 1:
        rate = args.lr * min(1, (step + 1) / 100) * (1 if done < 0.6 else max(0.02, (1 - done) / 0.4))
        for g in optimiser.param_groups:
            g["lr"] = rate
        ids = next(stream[2 if done < 0.1 and not args.load else 3 if done < 0.2 and not args.load else 4])
        out = model.model(ids, output_hidden_states=True, use_cache=False)
        lm = lm_loss(model, out.last_hidden_state, ids, 0.3)
        aux, parts = probes(out.hidden_states, ids)
        loss = lm + args.probes * aux
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimiser.step()
        step, seen = step + 1, seen + ids.numel()
        for k, v in {"lm": lm.item(), **parts}.items():
            ema[k] = v if k not in ema else 0.95 * ema[k] + 0.05 * v
        if step % 50 == 0:
            print(step, f"{time.time() - start:.0f}s {seen / (time.time() - start):.0f}tok/s", {k: round(v, 3) for k, v in ema.items()}, flush=True)
        if step % 200 == 0:
            print("   gate", gate(model, tokenizer, count=300), flush=True)
    print("   gate", gate(model, tokenizer, count=1000), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out, save_jinja_files=False)


if __name__ == "__main__":
    main()
