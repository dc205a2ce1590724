"""Go on pre-training the tiny base for one more world: agentrl/assets/tiny/<env> from agentrl/assets/tiny.

The base that ships with agentrl knows the words of all small worlds, but has read the pages of the shop alone. This
script shows it the compact pages of another environment, generated from *other seeds* than those of the panels (the
environment's own ``seed`` field), while a noisy expert plays. Two stages, as for the shop: labels of a careful expert
at the states that a hasty one reaches, then the hasty one's own actions, so that the model can read the world, plays it
badly, and reinforcement learning has something to find. ``agentrl eval env=<env>`` measures what came out; the README
of the assets holds the figures of those that ship.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pretrain_tiny import answer_mask
from tiny_tokenizer import PAD_ID, save
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

from agentrl.chat import Chat, Window
from agentrl.config import build, compose
from agentrl.envs.base import Env

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "agentrl" / "assets" / "tiny"
PROMPT_WEIGHT = 0.3


def main() -> None:
    """Train both stages and write the model with its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", help="a choice of conf/env")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the environment, as env.key=value")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=8, help="worlds of other seeds that are read")
    parser.add_argument("--steps", type=int, nargs=2, default=[500, 200], help="of the careful and the hasty stage")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="of the careful stage; the hasty one takes 0.4 of it")
    parser.add_argument("--tokens", type=int, default=6144, help="tokens of a batch, at most")
    parser.add_argument("--noises", type=float, nargs="+", default=[0.4, 0.5, 0.7], help="grades of hasty players")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    model = LlamaForCausalLM.from_pretrained(args.base, dtype=torch.float32)
    save(args.out or BASE / args.env)
    chat = Chat(AutoTokenizer.from_pretrained(args.out or BASE / args.env))
    worlds = [world(args.env, args.set, 1000 + number) for number in range(args.worlds)]
    careful = samples(worlds, chat, args.noises, rng, careful=True)
    train(model, careful, args.steps[0], args.lr, args.tokens, rng)
    hasty = samples(worlds, chat, args.noises, rng, careful=False)
    train(model, hasty, args.steps[1], 0.4 * args.lr, args.tokens, rng)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(args.out or BASE / args.env)


def world(name: str, overrides: list[str], seed: int) -> Env:
    """The environment in its compact view, generated from a seed that no panel uses."""
    cfg = compose("env_tool", [f"env={name}", "env.view=compact", f"env.seed={seed}", *overrides])
    env: Env = build(cfg.env)
    return env


Sample = tuple[tuple[int, ...], tuple[int, ...]]  # prompt ids, action ids


def samples(worlds: list[Env], chat: Chat, noises: list[float], rng: random.Random, careful: bool) -> Iterator[Sample]:
    """Endless single turns of hasty players; with ``careful`` the action shown is what a careful one would do."""
    window = Window(turns=0)
    for number in itertools.count():
        env = rng.choice(worlds)
        task = rng.choice(env.tasks("train"))
        hasty, right = env.expert(rng.choice(noises), rng.randrange(2**31)), env.expert(0.0, number)
        episode = env.start(task)
        observation = episode.observation
        for _ in range(int(getattr(env, "max_turns", 10))):
            prompt = window.prompt(chat, episode.goal, observation, [])
            shown = right(episode) if careful else None
            action = hasty(episode)
            yield prompt, chat.encode_action(shown or action)
            step = episode.step(action)
            observation = step.observation
            if step.done:
                break
        episode.close()


def train(
    model: LlamaForCausalLM, source: Iterator[Sample], steps: int, lr: float, tokens: int, rng: random.Random
) -> None:
    """AdamW, 50 steps of warm-up, linear decay over the last 40 % of the steps."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    stream = batches(source, tokens, rng)
    start, seen, shown = time.time(), 0, 0.0
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1, step / 50, max(0.02, (1 - step / steps) / 0.4))
        ids = next(stream)
        loss, answer = losses(model, ids)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        seen += ids.numel()
        shown = answer if step == 1 else 0.95 * shown + 0.05 * answer
        if step % 50 == 0 or step == steps:
            took = time.time() - start
            print(f"step {step}  {took:.0f} s  {seen / took:.0f} tokens/s  loss of actions {shown:.3f}", flush=True)


def losses(model: LlamaForCausalLM, ids: Tensor) -> tuple[Tensor, float]:
    """Next-token loss: every action token, and a random eighth of the prompt tokens at a lower weight."""
    hidden = model.model(ids, use_cache=False).last_hidden_state
    target = ids[:, 1:]
    answer = answer_mask(ids)[:, 1:]
    prompt = ~answer & (target != PAD_ID) & (torch.rand(target.shape) < 0.125)
    parts = []
    for mask, weight in ((answer, 1.0), (prompt, PROMPT_WEIGHT)):
        logits = hidden[:, :-1][mask] @ model.model.embed_tokens.weight.T
        parts.append(weight * torch.nn.functional.cross_entropy(logits, target[mask]))
    return parts[0] + parts[1], parts[0].item()


def batches(source: Iterator[Sample], tokens: int, rng: random.Random, pool: int = 1024) -> Iterator[Tensor]:
    """Endless right-padded batches of ids [batch, seq], at most ``tokens`` each, rows of similar length."""
    while True:
        rows = sorted(([*prompt, *action] for prompt, action in itertools.islice(source, pool)), key=len)
        packs: list[list[list[int]]] = [[]]
        for row in rows:
            if packs[-1] and (len(packs[-1]) + 1) * len(row) > tokens:
                packs.append([])
            packs[-1].append(row)
        rng.shuffle(packs)
        for pack in packs:
            width = max(map(len, pack))
            yield torch.tensor([row + [PAD_ID] * (width - len(row)) for row in pack])


if __name__ == "__main__":
    main()
