"""vLLM beside the learner on one GPU: sampling, pushes of full weights and of adapters, rest and wake, the logprob gap.

The model has the shape of Qwen3-0.6B (or of ``--layers``, ``--width``) and random weights, so that nothing is
downloaded; prompts are random tokens. A CPU runs it, too, with a small shape: it shows that the script works.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from agentrl.bundled import locate
from agentrl.chat import Chat
from agentrl.device import resolve_device
from agentrl.engine.base import Request, Sampling
from agentrl.engine.vllm_engine import VLLM
from agentrl.model import Policy, Pretrained
from agentrl.sync import Sync, pushed

VOCABULARY = 151936  # Qwen3's


def shaped(folder: Path, layers: int, width: int, vocabulary: int) -> Path:
    """A random model in the shape of Qwen3-0.6B, but for what is given."""
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64), num_key_value_heads=max(1, width // 128), head_dim=128,
        max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    Chat.load(locate("bundled:tiny"), False).tokenizer.save_pretrained(folder)
    return folder


def random_model(folder: str, args: argparse.Namespace, new: int, context: int, rank: int) -> Pretrained:
    """Settings of a model of :func:`shaped` with adapters of this rank (0: none), for actions of ``new`` tokens."""
    return Pretrained(
        path=str(shaped(Path(folder), args.layers, args.width, args.vocabulary)), view="text", dtype="auto",
        attention="sdpa", thinking=False, action_tokens=new, context_tokens=context, gradient_checkpointing=False,
        lora_rank=rank, lora_alpha=32,
        lora_targets=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )  # fmt: skip


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up call, the GPU's queue included."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return round(statistics.median(times[1:]), 4)


def nudge(policy: Policy) -> None:
    """Move what is trained, as an optimiser would."""
    for weight in policy.parameters():
        weight.data += 1e-3 * torch.randn_like(weight)


def free_gib() -> float:
    """Free memory of the GPU."""
    return round(torch.cuda.mem_get_info()[0] / 2**30, 2) if torch.cuda.is_available() else 0.0


def measure(source: Pretrained, settings: VLLM, args: argparse.Namespace) -> dict[str, object]:
    """One engine and one learner on the device: all figures, seconds and GiB."""
    rng, device = random.Random(0), str(resolve_device(args.device))
    begin = time.perf_counter()
    engine = settings.start(source, device)
    start_s = round(time.perf_counter() - begin, 1)
    policy, sync, version = source.build(device), Sync(4, 1e-3, 0.5), 0
    prompts = [tuple(rng.randrange(1000) for _ in range(args.prompt)) for _ in range(args.rows)]
    asked = [Request(prompt, rng.getrandbits(62), args.new) for prompt in prompts]
    gaps: list[float] = []

    def push() -> None:
        nonlocal version
        nudge(policy)
        version += 1
        seen = sync.look(engine, [prompt[:64] for prompt in prompts[:4]])
        gaps.append(sync.push(policy, engine, version, None, seen)["sync/canary_gap"])

    def load_alone() -> None:
        nonlocal version
        version += 1
        engine.load(pushed(policy, engine), version)

    found: dict[str, object] = {"start_s": start_s, "trained": sum(p.numel() for p in policy.parameters())}
    found["push_with_proof_s"] = seconds(push, args.repeats)
    found["push_alone_s"] = seconds(load_alone, args.repeats)
    found["canary_gap"] = max(gaps)
    took = seconds(lambda: engine.generate(asked, Sampling(1.0)), args.repeats)
    found["sampled_tokens_per_s"] = round(args.rows * args.new / took)
    before = free_gib()
    engine.rest()
    found["rest_frees_gib"] = round(free_gib() - before, 2)
    load_alone()  # wakes it

    def rest_and_wake() -> None:
        engine.rest()
        load_alone()

    found["rest_and_wake_s"] = seconds(rest_and_wake, args.repeats)
    engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--rows", type=int, default=256, help="prompts sampled at once")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of each")
    parser.add_argument("--new", type=int, default=128, help="sampled tokens of each")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    where = resolve_device(args.device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
    settings = VLLM(
        dtype="auto", max_batch=args.rows, kv_cache_mib=0 if where.type == "cuda" else 256, block_size=32,
        gpu_memory=0.5, eager=False, prefix_cache=True, sleep=True, lora="merged",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        full = random_model(folder, args, args.new, args.prompt + args.new, rank=0)
        result = {"device": name, "arguments": vars(args), "full": measure(full, settings, args)}
        print(json.dumps(result, indent=1), flush=True)
        for lora in ("merged", "adapter"):
            source, how = replace(full, lora_rank=args.rank), replace(settings, lora=lora)
            print(json.dumps({f"lora_{lora}": measure(source, how, args)}, indent=1), flush=True)


if __name__ == "__main__":
    main()
