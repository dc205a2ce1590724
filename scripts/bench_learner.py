"""Our learner's step beside TRL's GRPO step: same model, sequences, advantages and loss, one thread.

The loss is the token mean of DAPO. Both sides do forward, loss, backward, clipping and one fused AdamW step over one
batch of groups. TRL's side is what its GRPOTrainer does from padded tensors on (``_compute_loss`` on micro-batches,
entropies and its fused head included): prompts padded on the left and completions on the right to the longest of the
batch; a ``window`` turn is a row, a ``history`` play is one row with the observations out of the loss (its
``tool_mask``). Its gradient checkpointing, on by default, is off, as ours. ``trimmed`` is TRL with help: rows
sorted by length, each micro-batch cut to its own longest row. Micro-batches hold the same number of computed tokens on
all sides. Making TRL's tensors is not timed; making ours (rows, micro-batches, trees) is. ``padded`` is our own learner
on padded rows, what it falls back to.

time:    processor seconds per step, sides by turns within a round, medians of the rounds' ratios
memory:  with --memory, peak resident memory of one step above that before it, each side in a process of its own
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from learner_plays import groups
from transformers import Qwen3Config, Qwen3ForCausalLM

from agentrl import config
from agentrl.learner import Learner
from agentrl.model import Policy, Pretrained
from agentrl.samples import Row, rows
from agentrl.types import Group

SHAPES = {  # words of the config, tasks of the tiny model, tasks of the other, share of noise
    "webshop window": (["env=webshop", "context=window"], 4, 1, 0.5),
    "webshop window of 2": (["env=webshop", "context=window", "context.turns=2"], 4, 1, 0.5),
    "webshop history": (["env=webshop", "context=history"], 4, 1, 0.5),
    "sql window": (["env=intercode_sql", "context=window"], 4, 1, 0.9),
    "sql history": (["env=intercode_sql", "context=history"], 4, 1, 0.9),
}
TURNS, MEMBERS, LR, CLIP = (5, 15), 8, 1e-6, 1e9
TRAINED = {"learner.minibatches=1", f"learner.lr={LR}", f"learner.max_grad_norm={CLIP}", "learner.mismatch_limit=0"}
Step = Callable[[], float]  # one step, its loss


def saved(folder: Path, size: str) -> str:
    """Where the model of a size is: the bundled one, or 25 million random weights in Qwen3's shape."""
    if size == "tiny":
        return "bundled:tiny"
    tokenizer = bundled().chat().tokenizer
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1536, num_hidden_layers=8, head_dim=64,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=True,
        initializer_range=0.02, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def bundled() -> Pretrained:
    model: Pretrained = config.build(config.compose("train", ["env=webshop", "model=tiny", "device=cpu"]).model)
    return model


def ours(path: str, plays: Sequence[Group], micro_tokens: int, shared: bool = True) -> tuple[Step, Policy]:
    """Our step from plays on."""
    cfg = config.compose("train", ["env=webshop", "method=dapo", "learner=full", *TRAINED, "device=cpu"])
    policy = Pretrained(**{**vars(bundled()), "path": path, "dtype": "float32"}).build("cpu")
    if not shared:
        policy._trunk._longest = 0
    settings = config.build(cfg.learner)
    learner: Learner = type(settings)(**{**vars(settings), "micro_tokens": micro_tokens}).build(
        policy, temperature=1.0, steps=10**6, seed=0
    )
    method = config.build(cfg.method)
    told: dict[str, float] = {}

    def step() -> float:
        told.update(learner.learn(plays, method))
        step.told = told  # type: ignore[attr-defined]
        return told["learner/loss"]

    return step, policy


def padded(found: Sequence[Row]) -> dict[str, torch.Tensor]:
    """TRL's tensors of the rows, each ``[rows, longest prompt]`` or ``[rows, longest completion]``."""
    lengths = [row.runs[0] for row in found], [len(row.ids) - row.runs[0] for row in found]
    shapes = [torch.Size((len(found), max(side))) for side in lengths]
    prompts, prompt_mask = (torch.zeros(shapes[0], dtype=torch.int64) for _ in range(2))
    answers, answer_mask, trained = (torch.zeros(shapes[1], dtype=torch.int64) for _ in range(3))
    old, advantages = torch.zeros(shapes[1]), torch.zeros(shapes[1])
    for i, row in enumerate(found):
        first, rest = row.ids[: row.runs[0]], row.ids[row.runs[0] :]
        prompts[i, -len(first) :], prompt_mask[i, -len(first) :] = torch.tensor(first), 1
        answers[i, : len(rest)], answer_mask[i, : len(rest)] = torch.tensor(rest), 1
        sampled = torch.arange(len(row.runs[1:])).remainder(2).eq(0).repeat_interleave(torch.tensor(row.runs[1:]))
        trained[i, : len(rest)] = sampled
        where = trained[i].bool()
        old[i, where], advantages[i, where] = torch.from_numpy(row.logprobs), torch.from_numpy(row.advantages)
    return {
        "prompt_ids": prompts, "prompt_mask": prompt_mask, "completion_ids": answers, "completion_mask": answer_mask,
        "tool_mask": trained, "old_per_token_logps": old, "advantages": advantages,
    }  # fmt: skip


def micro(whole: dict[str, torch.Tensor], micro_tokens: int, trim: bool) -> list[dict[str, torch.Tensor]]:
    """Micro-batches of at most so many padded tokens."""
    sides = [whole[name].sum(-1) for name in ("prompt_mask", "completion_mask")]
    order = (sides[0] + sides[1]).argsort(descending=True).tolist() if trim else list(range(len(sides[0])))
    parts: list[list[int]] = []

    def width(part: list[int]) -> int:
        widths = [int(side[part].max()) if trim else whole[n].shape[1] for side, n in zip(sides, NAMES, strict=True)]
        return sum(widths)

    for index in order:
        if parts and (len(parts[-1]) + 1) * width([*parts[-1], index]) <= micro_tokens:
            parts[-1].append(index)
        else:
            parts.append([index])
    made = []
    for part in parts:
        left, right = (int(side[part].max()) for side in sides)
        cut = {name: tensor[part] for name, tensor in whole.items()}
        if trim:
            cut = {n: t[:, -left:] if n.startswith("prompt") else t[:, :right] for n, t in cut.items()}
        made.append(cut | {"num_items_in_batch": whole["tool_mask"].sum()})
    return made


NAMES = ("prompt_mask", "completion_mask")


def theirs(path: str, found: Sequence[Row], micro_tokens: int, trim: bool) -> tuple[Step, int]:
    """TRL's step, and the padded tokens it computes."""
    import datasets
    import trl

    from agentrl.bundled import locate

    arguments = trl.GRPOConfig(
        tempfile.mkdtemp(), use_cpu=True, report_to="none", per_device_train_batch_size=8, num_generations=8,
        gradient_checkpointing=False, bf16=False, beta=0.0, loss_type="dapo", epsilon_high=0.28,
        model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        locate(path),
        lambda **columns: [0.0] * len(columns["prompts"]),
        arguments,
        datasets.Dataset.from_dict({"prompt": ["red"] * 8}),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.eval()  # its loss then is that of the micro-batch as a part of all items
    parts = micro(padded(found), micro_tokens, trim)
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def step() -> float:
        total = 0.0
        for part in parts:
            loss = trainer._compute_loss(trainer.model, part)  # type: ignore[no-untyped-call]
            trainer.accelerator.backward(loss)
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step, sum(part["prompt_ids"].numel() + part["completion_ids"].numel() for part in parts)


def plays_of(name: str, size: str) -> list[Group]:
    words, tiny, other, noise = SHAPES[name]
    return groups(["model=tiny", *words], tiny if size == "tiny" else other, MEMBERS, TURNS, noise)


def compare(name: str, size: str, path: str, args: argparse.Namespace) -> dict[str, Any]:
    """One shape, all sides by turns."""
    plays = plays_of(name, size)
    budget = args.micro_tokens or (2048 if size == "tiny" else 4096)
    mine, policy = ours(path, plays, budget)
    padded_too, _ = ours(path, plays, budget, shared=False)
    found = rows(plays, config.build(config.compose("train", ["env=webshop", "method=dapo"]).method).advantages)
    sides: dict[str, Step] = {"ours": mine}
    if "padded" in args.sides:
        sides["padded"] = padded_too
    computed = {}
    for side in {"trl", "trimmed"} & set(args.sides):
        sides[side], computed[side] = theirs(path, found, budget, side == "trimmed")
    losses = {side: step() for side, step in sides.items()}  # a warm-up, and the proof that both do the same
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(args.repeats):
        for side, step in sides.items():
            begin = time.process_time()
            step()
            taken[side].append(time.process_time() - begin)
    told = mine.told  # type: ignore[attr-defined]
    tokens = sum(len(row.ids) for row in found)
    nodes = round(tokens * (1 - told["learner/shared"]))
    result: dict[str, Any] = {
        "shape": name, "size": size, "weights": policy.parameters_count, "rows": len(found), "row_tokens": tokens,
        "sampled_tokens": sum(len(row.advantages) for row in found), "ours_computes": nodes,
        "fewer": round(tokens / nodes, 2), "padding": round(told["learner/padding"], 4), "trl_computes": computed,
        "loss": losses, "seconds": {side: round(statistics.median(times), 3) for side, times in taken.items()},
        "row_tokens_per_s": {side: round(tokens / statistics.median(times)) for side, times in taken.items()},
    }  # fmt: skip
    for side in list(sides)[1:]:
        ratios = [a / b for a, b in zip(taken["ours"], taken[side], strict=True)]
        result[f"ours/{side}"] = round(statistics.median(ratios), 3)
        assert math.isclose(losses["ours"], losses[side], rel_tol=1e-3, abs_tol=1e-4), losses
    return result


def resident(key: str) -> float:
    """MiB of this process by the kernel's books: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def peak(side: str, name: str, size: str, path: str, micro_tokens: int) -> float:
    """MiB that one step of a side takes at most above what is held before it; run in a process of its own."""
    plays = plays_of(name, size)
    budget = micro_tokens or (2048 if size == "tiny" else 4096)
    if side in ("ours", "padded"):
        step = ours(path, plays, budget, shared=side == "ours")[0]
    else:
        found = rows(plays, config.build(config.compose("train", ["env=webshop", "method=dapo"]).method).advantages)
        step = theirs(path, found, budget, side == "trimmed")[0]
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = resident("VmRSS")
    step()
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "25m"], choices=["tiny", "25m"])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--micro-tokens", type=int, default=0, help="0: 2,048 for the tiny model, 4,096 for the other")
    parser.add_argument("--sides", nargs="+", default=["trl"], choices=["trl", "trimmed", "padded"], help="beside ours")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--path", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.side:
        print(peak(args.side, args.shapes[0], args.sizes[0], args.path, args.micro_tokens))
        return
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = saved(Path(folder), size)
            for name in args.shapes:
                result = memory(name, size, path, args) if args.memory else compare(name, size, path, args)
                print(json.dumps(result), flush=True)


def memory(name: str, size: str, path: str, args: argparse.Namespace) -> dict[str, Any]:
    """Peak MiB of one step, each side in a process of its own."""
    found: dict[str, Any] = {"shape": name, "size": size, "unit": "MiB"}
    for side in ("ours", *args.sides):
        words = ["--sizes", size, "--shapes", name, "--side", side, "--path", path]
        words += ["--micro-tokens", str(args.micro_tokens)]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
        found[side] = round(float(done.stdout.split()[-1]), 1)
    return found | {f"ours/{side}": round(found["ours"] / found[side], 3) for side in args.sides}


if __name__ == "__main__":
    main()
