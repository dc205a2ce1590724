"""How far engine and learner are from the truth: logprobs of the same tokens beside those of their weights in float64.

WebShop and the bundled model, or a policy of its kind (``--model RUN/checkpoints/step_000060/model``), which plays;
every token but the first of each turn's prompt and action is scored by the learner (``sdpa`` and ``eager`` attention of
transformers), the torch engine and vLLM, all in float32, and by the lean forward pass in float64 (with the tables of
rotary angles that the others have).

between:  of each two of them, |difference|: median, 99.9 % quantile, largest, share above 1e-5
parts:    the float64 pass with one kind of operation in float32, beside itself: root mean square and largest difference
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from agentrl import config
from agentrl.engine.lean import LeanForward
from agentrl.rollout.base import Stage
from agentrl.rollout.independent import Independent

Sequences = Sequence[tuple[int, ...]]
Score = Callable[[Sequences], list[list[float]]]
PARTS = {  # (operation, is it the head's), None: whichever
    "projections": (F.linear, False),
    "norms": (F.rms_norm, None),
    "attention": (F.scaled_dot_product_attention, None),
    "activation": (F.silu, None),
    "head": (F.linear, True),
    "log-softmax": (torch.log_softmax, None),
}
BATCH = 16  # rows the learner scores at once


def _is_head(given: Sequence[Any]) -> bool:
    return bool(given[1].shape[0] > 1000)  # no other weight of a tiny model has so many rows


class Coarse(TorchFunctionMode):
    """Computes one kind of operation in float32, whatever it is given."""

    def __init__(self, operation: Any, head: bool | None) -> None:
        self._operation, self._head = operation, head
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not self._operation or (self._head is not None and self._head != _is_head(args)):
            return func(*args, **(kwargs or {}))
        low = [x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in args]
        return func(*low, **(kwargs or {})).double()


def words(args: argparse.Namespace, *more: str) -> Any:
    chosen = [f"model.path={args.model}"] if args.model else []
    return config.compose("train", ["env=webshop", "device=cpu", *chosen, *more])


@contextmanager
def engine_of(args: argparse.Namespace, name: str) -> Iterator[Any]:
    cfg = words(args, f"engine={name}")
    engine = config.build(cfg.engine).start(config.build(cfg.model), "cpu")
    try:
        yield engine
    finally:
        engine.close()


def played(args: argparse.Namespace, engine: Any) -> list[tuple[int, ...]]:
    """The turns of one play of each task."""
    cfg = words(args)
    env, chat = config.build(cfg.env), config.build(cfg.model).chat()
    one = Independent(
        group_size=1, temperature=1.0, max_turns=10, action_tokens=cfg.model.action_tokens,
        context_tokens=cfg.model.context_tokens, max_failed=0.0, pool=0,
    )  # fmt: skip
    stage = Stage(env, engine, chat, config.build(cfg.context))
    groups = one.play(stage, env.tasks("train")[: args.tasks], seed=0, step=0)
    plays = [play for group in groups for play in group.valid]
    return [turn.prompt_ids + turn.action_ids for play in plays for turn in play.turns]


def learner(args: argparse.Namespace, attention: str) -> Score:
    policy = config.build(words(args, f"model.attention={attention}").model).build("cpu")
    return lambda rows: [row for i in range(0, len(rows), BATCH) for row in policy.logprobs(rows[i : i + BATCH], 1.0)]


def exact(args: argparse.Namespace, operation: Any = None, head: bool | None = None) -> Score:
    """The lean forward pass of the weights in float64, all of it or all but one kind of operation."""
    forward = LeanForward(config.build(words(args).model).module("cpu", torch.float32).double())

    def score(ids: torch.Tensor) -> list[float]:
        logprobs = torch.log_softmax(forward.logits(ids)[:, :-1], -1)
        found: list[float] = logprobs.gather(-1, ids[:, 1:, None])[0, :, 0].tolist()
        return found

    @torch.inference_mode()
    def scores(rows: Sequences) -> list[list[float]]:
        with Coarse(operation, head):
            return [score(torch.tensor([row])) for row in rows]

    return scores


def gaps(one: list[list[float]], other: list[list[float]]) -> torch.Tensor:
    flat = (torch.tensor([x for row in rows for x in row], dtype=torch.float64) for rows in (one, other))
    return torch.sub(*flat).abs()


def told(found: torch.Tensor) -> dict[str, str]:
    return {
        "median": f"{found.median():.1e}", "p99.9": f"{found.quantile(0.999):.1e}", "most": f"{found.max():.1e}",
        "above 1e-5": f"{(found > 1e-5).sum()}/{len(found)}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--model", default="", help="folder of a policy with the bundled one's tokenizer ('': bundled)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with engine_of(args, "torch") as engine:
        rows = played(args, engine)
        sides = {"float64": exact(args)(rows), "torch engine": engine.logprobs(rows)}
    sides |= {f"learner, {name}": learner(args, name)(rows) for name in ("sdpa", "eager")}
    with engine_of(args, "vllm") as engine:
        sides["vllm"] = engine.logprobs(rows)
    between = {f"{a} | {b}": told(gaps(sides[a], sides[b])) for a, b in combinations(sides, 2)}
    parts = {}
    for name, part in PARTS.items():
        found = gaps(exact(args, *part)(rows), sides["float64"])
        parts[name] = {"rms": f"{found.square().mean().sqrt():.1e}", "most": f"{found.max():.1e}"}
    print(json.dumps({"sequences": len(rows), "between": between, "parts": parts}, indent=1))


if __name__ == "__main__":
    main()
