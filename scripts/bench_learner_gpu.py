"""The learner alone on one GPU: tokens/s, peak memory and share of the GPU's arithmetic, random weights and tokens.

Rows have nothing in common, so that each token counts once: what sharing saves comes on top. One step is one pass of
``learner.learn`` (SFT, all tokens but the first trained): rows, forward, backward, clipping, AdamW. A CPU runs it, too,
with a small shape (``--device cpu --layers 2 --width 64 --vocabulary 500 --tokens 256 --row 64``): it shows that the
script works.

mfu: (4 or 6) x weights x tokens/s / peak: 6 where all weights learn, 4 under adapters, whose base gets no gradient
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from agentrl import config
from agentrl.bundled import locate
from agentrl.chat import Chat
from agentrl.device import resolve_device
from agentrl.model import Pretrained
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Shape:
    """A model (from its card on huggingface.co), what of it learns, and how many tokens a step has."""

    family: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    rank: int
    tokens: int
    row: int


SHAPES = {
    "Qwen3-0.6B LoRA r16": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 16, 16384, 4096),
    "Qwen3-4B LoRA r16": Shape("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, 16, 16384, 4096),
    "Qwen2.5-1.5B full": Shape("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 0, 16384, 4096),
}


def saved(folder: Path, shape: Shape) -> None:
    """Random weights in the shape, in Hugging Face layout."""
    made: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": shape.head_dim}),
    }
    settings, model, own = made[shape.family]
    torch.manual_seed(0)
    model(
        settings(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
            **own,
        )
    ).to(torch.bfloat16).save_pretrained(folder)
    Chat.load(locate("bundled:tiny"), False).tokenizer.save_pretrained(folder)


def plays(shape: Shape) -> list[Group]:
    """Rows of random tokens, the first of each a prompt."""
    rng = random.Random(0)
    found = []
    for number in range(shape.tokens // shape.row):
        ids = tuple(rng.randrange(min(1000, shape.vocabulary)) for _ in range(shape.row))
        task = Task(str(number), "train", str(number))
        turn = Turn(ids[:1], ids[1:], (), Message("assistant", ""), ())
        found.append(Group(task, (Trajectory(task, 0, (turn,), stop=Stop.done, reward=1.0),)))
    return found


def measure(shape: Shape, device: str, repeats: int, peak: float) -> dict[str, Any]:
    """Medians over the steps after the first two."""
    words = ["env=webshop", "method=sft", "learner=full", f"learner.micro_tokens={shape.tokens}"]
    cfg = config.compose("train", [*words, "learner.minibatches=1", f"device={device}"])
    with tempfile.TemporaryDirectory() as folder:
        saved(Path(folder), shape)
        policy = Pretrained(
            path=folder, view="text", dtype="auto", attention="sdpa", thinking=False, action_tokens=shape.row,
            context_tokens=shape.row, gradient_checkpointing=True, lora_rank=shape.rank, lora_alpha=32,
            lora_targets=LINEAR,
        ).build(device)  # fmt: skip
    learner = config.build(cfg.learner).build(policy, temperature=1.0, steps=10**6, seed=0)
    groups, method = plays(shape), config.build(cfg.method)
    cuda = policy.device.type == "cuda"
    times, told = [], {}
    for step in range(repeats + 2):
        if cuda and step == 2:
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        told = learner.learn(groups, method)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    speed = shape.tokens / statistics.median(times[2:])
    factor = 4 if shape.rank else 6
    return {
        "weights": policy.parameters_count,
        "tree": policy.shares(shape.row),
        "padding": told["learner/padding"],
        "tokens_per_s": round(speed),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if cuda else None,
        "mfu": round(factor * policy.parameters_count * speed / peak, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", type=float, default=989e12, help="bfloat16 operations a second; of an H100 or H200")
    for name in ("layers", "width", "vocabulary", "tokens", "row"):
        parser.add_argument(f"--{name}", type=int, default=0, help="instead of the models' own; 0: their own")
    args = parser.parse_args()
    device = resolve_device(args.device)
    changes = {n: getattr(args, n) for n in ("layers", "width", "vocabulary", "tokens", "row") if getattr(args, n)}
    if args.width:
        changes |= {"inner": 3 * args.width, "heads": 2, "kv_heads": 1, "head_dim": args.width // 2}
    print(json.dumps({"device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"}))
    for name, shape in SHAPES.items():
        shape = replace(shape, **changes)
        print(json.dumps({"shape": name, **measure(shape, str(device), args.repeats, args.peak)}), flush=True)


if __name__ == "__main__":
    main()
