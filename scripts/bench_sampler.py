"""Speed of the torch engine on one CPU thread, as a ratio to `transformers`' own `generate` on the same requests.

The load is that of a rollout of the bundled model: 128 requests, prompts of 20-90 tokens, 3-10 new tokens. Ratios are
what to compare between machines; tokens per second (of distinct prompts, and new ones) depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from agentrl.engine.base import Request, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.model import Pretrained

REQUESTS = 128


def requests(prompts: int, vocabulary: int, rng: random.Random) -> list[Request]:
    """`REQUESTS` requests that share so many distinct prompts."""
    texts = [tuple(rng.randrange(vocabulary) for _ in range(rng.randint(20, 90))) for _ in range(prompts)]
    return [Request(texts[i % prompts], rng.getrandbits(63), rng.randint(3, 10)) for i in range(REQUESTS)]


@torch.inference_mode()
def naive(module: Any, asked: Sequence[Request]) -> None:
    """All requests in one padded `generate`, as one would write it first."""
    width = max(len(request.prompt_ids) for request in asked)
    ids = torch.tensor([(0,) * (width - len(r.prompt_ids)) + r.prompt_ids for r in asked])
    mask = torch.tensor([(0,) * (width - len(r.prompt_ids)) + (1,) * len(r.prompt_ids) for r in asked])
    budget = max(request.max_tokens for request in asked)
    module.generate(
        ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=budget, min_new_tokens=budget, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up call."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled:tiny", help="bundled model, folder or hub name")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = Pretrained(
        path=args.model, view="text", dtype=args.dtype, attention="sdpa", thinking=False, action_tokens=16,
        context_tokens=256, gradient_checkpointing=False, lora_rank=0, lora_alpha=0, lora_targets=[],
    )  # fmt: skip
    module: Any = source.module("cpu", getattr(torch, args.dtype))
    engine = TorchEngine(module, max_batch=512)
    rng = random.Random(0)
    result: dict[str, object] = {
        "model": args.model,
        "dtype": args.dtype,
        "threads": args.threads,
        "requests": REQUESTS,
    }
    for prompts in (16, 64, 128):
        asked = requests(prompts, module.config.vocab_size, rng)
        ours = seconds(partial(engine.generate, asked, Sampling()), args.repeats)
        theirs = seconds(partial(naive, module, asked), args.repeats)
        new = sum(len(answer.ids) for answer in engine.generate(asked, Sampling()))
        read = sum(len(prompt) for prompt in {request.prompt_ids for request in asked})
        result[f"prompts_{prompts}"] = {
            "ms": round(1000 * ours, 1),
            "tokens_per_s": round((read + new) / ours),
            "new_tokens_per_s": round(new / ours),
            "times_faster_than_generate": round(theirs / ours, 1),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
