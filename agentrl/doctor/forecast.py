"""How long and how much: speed on the small batch, seconds of the run, memory of the configured batch."""

from __future__ import annotations

import time
from typing import Any

from agentrl.config import build
from agentrl.doctor.case import Case, nothing, trial
from agentrl.doctor.finding import Finding, check
from agentrl.explain import shape_of
from agentrl.log.console import duration
from agentrl.memory import GIB, Learning
from agentrl.peaks import device_memory, host_memory, resident


def speed(case: Case) -> list[Finding]:
    """Tokens per second of engine and learner, and what follows for a step and for the run."""
    tokens = sum(play.tokens for play in case.plays)
    engine = tokens / max(case.play_s, 1e-9)
    learner, learn_s = _learner(case)
    run = case.run
    share = int(run.cfg.tasks_per_step) / case.doctor.tasks
    batch_s = share * (case.play_s + learn_s * run.learner.config.epochs) + case.seconds.get("sync", 0.0)
    batches = int(run.cfg.steps) // run.updates
    plays = sum(len(group.trajectories) for group in case.played)
    panel = int(run.cfg.eval.tasks) * (1 + int(run.cfg.eval.samples)) * (1 + bool(run.cfg.eval.before))
    whole = batches * batch_s + panel * case.play_s / max(plays, 1)
    measured = f"engine {engine:,.0f} sampled tokens/s, learner {learner:,.0f} tokens/s with prompts"
    ahead = (
        f"at most {batch_s / run.updates:.2g} s per step, {duration(whole)} for {run.cfg.steps} steps with evaluations"
    )
    return [
        Finding("forecast: speed", "tokens per second of the small batch", measured, "", None, ""),
        Finding(
            "forecast: time", "seconds of a step and of the run, at the speed of the small batch", ahead, "", None, ""
        ),
    ]


def _learner(case: Case) -> tuple[float, float]:
    """(tokens per second with prompts, seconds) of one step on the small batch."""
    if nothing(case):
        return 0.0, 0.0
    begin = time.perf_counter()
    trial(case, case.used)
    took = time.perf_counter() - begin
    rows = {turn.prompt_ids + turn.action_ids for group in case.used for play in group.valid for turn in play.turns}
    kept = {ids for ids in rows if not any(other != ids and other[: len(ids)] == ids for other in rows)}
    return sum(map(len, kept)) / took, took


@check(
    "forecast: memory",
    "the most memory that the run will take, beside what there is",
    "",
    "lower learner.micro_tokens, learner.chunk_tokens or engine.max_batch; model.gradient_checkpointing=true; adapters "
    "(model.lora_rank=16 learner=lora)",
)
def memory(case: Case) -> tuple[bool | None, str, str]:
    """What is there now (weights, engine, libraries, environment), and what training puts on top of it."""
    extra = sum(training_parts(case).values())
    device = case.run.policy.device
    gpu = device.type == "cuda"
    now, whole = device_memory(device) if gpu else (resident(), host_memory())
    told = f"at most {case.doctor.memory_share:.0%} of {whole / GIB:.1f} GiB"
    figure = f"{now / GIB:.2f} GiB now, {(now + extra) / GIB:.2f} GiB at the most" + (" on the GPU" if gpu else "")
    return now + extra <= case.doctor.memory_share * whole, figure, told


def training_parts(case: Case) -> dict[str, int]:
    """Bytes that are not there before the first step: gradients, optimiser, reference, activations, logits."""
    run = case.run
    config: Any = run.learner.config
    rows = sum(len(turn.prompt_ids + turn.action_ids) for play in case.plays for turn in play.turns)
    batch = rows * int(run.cfg.tasks_per_step) / case.doctor.tasks / config.minibatches
    micro = max(1, min(config.micro_tokens, int(batch)))
    policy = run.policy
    learning = Learning(
        weight_bytes=policy.dtype.itemsize,
        compute_bytes=policy.compute_dtype.itemsize,
        checkpointing=bool(run.cfg.model.gradient_checkpointing),
        micro_tokens=micro,
        chunk_tokens=config.chunk_tokens,
        reference="ref_logprobs" in run.method.needs,
    )
    parts = learning.parts(shape_of(build(run.cfg.model)))
    return {name: size for name, size in parts.items() if name != "weights"}


CHECKS = {"forecast": (speed, memory)}
