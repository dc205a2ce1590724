"""``agentrl config explain``: what one step of this config will really do, before anything runs.

Counts are exact; tokens come from playing a few episodes with the environment's own valid actions; the memory forecast
is arithmetic over the model's shape (:mod:`agentrl.memory`). Of the model, its config and tokenizer are read alone.
"""

from __future__ import annotations

import random
import statistics
from typing import Any

import torch

from agentrl import config
from agentrl.chat import Chat, Context, tools_text
from agentrl.config import Config
from agentrl.device import resolve_device
from agentrl.envs.base import Env, offered
from agentrl.memory import GIB, Explain, Learning, Plan, Serving, Shape, plan
from agentrl.model import Pretrained
from agentrl.panel import panel, require_disjoint
from agentrl.types import Message, Turn

MIB = 2**20
SAMPLE_TASKS = 16


def explain(cfg: Config) -> dict[str, Any]:
    """Print what one step does; gives the same as numbers."""
    env: Env = config.build(cfg.env)
    rollout, learner, pretrained = config.build(cfg.rollout), config.build(cfg.learner), config.build(cfg.model)
    evaluate, method = config.build(cfg.eval), config.build(cfg.method)
    splits = require_disjoint(env)
    chosen = panel(env, evaluate.panel_split, evaluate.tasks)
    tokens = _episode_tokens(
        env, pretrained.chat(), config.build(cfg.context), int(cfg.env.max_turns), int(cfg.model.context_tokens)
    )
    episodes = int(cfg.tasks_per_step) * rollout.group_size
    batches = learner.batches(int(cfg.steps))
    shape, place = shape_of(pretrained), pretrained.placed(_device(cfg))
    learning = Learning(
        weight_bytes=place.dtype.itemsize,
        compute_bytes=(torch.bfloat16 if place.autocast else place.dtype).itemsize,
        checkpointing=pretrained.gradient_checkpointing,
        micro_tokens=learner.micro_tokens,
        chunk_tokens=learner.chunk_tokens,
        reference="ref_logprobs" in method.needs,
    )
    facts = {
        "tasks_per_batch": int(cfg.tasks_per_step),
        "group_size": rollout.group_size,
        "episodes_per_batch": episodes,
        "most_episodes_per_batch": int(cfg.tasks_per_step) * rollout.most_episodes,
        "optimiser_steps_per_batch": learner.updates,
        "batches": batches,
        "optimiser_steps": int(cfg.steps),
        "episodes": episodes * batches,
        "epochs_over_train_tasks": round(
            batches * int(cfg.tasks_per_step) / (rollout.pool or splits["train"]["tasks"]), 3
        ),
        "evaluation_episodes": 2 * evaluate.tasks * (1 + evaluate.samples),
        "panel_hash": chosen.hash,
        "warmstart": config.build(cfg.warmstart).forecast(cfg, env),
        "prompt_tokens": tokens,
        "memory_mib": {name: round(size / MIB, 1) for name, size in learning.parts(shape).items()},
        "gpu": _plan(cfg, shape, learning, episodes),
        "engines": config.build(cfg.cluster).describe(),
    }
    print(_words(cfg, facts, splits))
    return facts


def _episode_tokens(env: Env, chat: Chat, context: Context, turns: int, limit: int) -> dict[str, float]:
    """Prompt lengths along episodes of random valid actions: the policy's own will differ."""
    lengths: list[int] = []
    rng = random.Random(0)
    for task in env.tasks("train")[:SAMPLE_TASKS]:
        episode = env.start(task)
        played: list[Turn] = []
        goal, first, tools = episode.goal, episode.observation, tools_text(offered(episode))
        for _ in range(turns):
            prompt = context.prompt(chat, goal, first, played, tools)
            lengths.append(len(prompt))
            action = Message("assistant", rng.choice(list(episode.actions()) or ["nothing"]))
            step = episode.step(action)
            ids = chat.encode_action(action)
            played.append(Turn(prompt, ids, (), action, step.observation))
            if step.done or len(prompt) > limit:
                break
        episode.close()
    return {
        "mean": round(statistics.fmean(lengths), 1),
        "max": max(lengths),
        "over_limit": sum(n > limit for n in lengths) / len(lengths),
    }


def _device(cfg: Config) -> torch.device:
    """What is planned for: the GPU that was named by its size, or this machine's device."""
    return torch.device("cuda") if cfg.explain.gpu_gib else resolve_device(str(cfg.device))


def shape_of(pretrained: Pretrained) -> Shape:
    """Of the model, without its weights."""
    module: Any = pretrained.sketch()
    sizes = module.config.get_text_config()
    adapter = sum(p.numel() for name, p in module.named_parameters() if ".lora_" in name)
    return Shape(
        layers=sizes.num_hidden_layers,
        width=sizes.hidden_size,
        inner=sizes.intermediate_size,
        kv_heads=getattr(sizes, "num_key_value_heads", None) or sizes.num_attention_heads,
        head_dim=getattr(sizes, "head_dim", None) or sizes.hidden_size // sizes.num_attention_heads,
        vocabulary=sizes.vocab_size,
        weights=sum(p.numel() for p in module.parameters()) - adapter,
        adapter=adapter,
    )


def _plan(cfg: Config, shape: Shape, learning: Learning, episodes: int) -> Plan | None:
    """Learner and vLLM on one GPU; None where they do not share one."""
    where, asked = _device(cfg), config.build(cfg.explain)
    if cfg.choices.engine != "vllm" or cfg.choices.cluster != "here" or where.type == "cpu":
        return None
    serving = Serving(
        weight_bytes=4 if cfg.engine.dtype == "float32" else 2,
        cache=int(cfg.engine.kv_cache_mib) * MIB,
        share=float(cfg.engine.gpu_memory),
        max_batch=int(cfg.engine.max_batch),
        context_tokens=int(cfg.model.context_tokens),
    )
    return plan(shape, learning, serving, _gpu_bytes(asked, where), episodes, bool(cfg.engine.sleep))


def _gpu_bytes(asked: Explain, where: torch.device) -> int:
    if asked.gpu_gib:
        return int(asked.gpu_gib * GIB)
    return int(torch.cuda.get_device_properties(where).total_memory)


def _start(warm: dict[str, Any]) -> str:
    if not warm:
        return "none: the run starts from the model as it is"
    found = "found in" if warm["found"] else "to be made in"
    return f"{warm['steps']} steps on {warm['demonstrations']} demonstrations, {found} {warm['path']}"


def _words(cfg: Config, facts: dict[str, Any], splits: Any) -> str:
    tokens, memory = facts["prompt_tokens"], facts["memory_mib"]
    parts = ", ".join(f"{name} {value:g}" for name, value in memory.items() if value)
    counts = ", ".join(f"{name} {split['tasks']}" for name, split in splits.items())
    lines = [
        f"{cfg.choices.method} on {cfg.choices.env}, model {cfg.choices.model}, reward {cfg.choices.reward}, "
        f"rollout {cfg.choices.rollout}",
        f"engines     {cfg.choices.engine} in {facts['engines']}",
        f"one batch   {facts['tasks_per_batch']} tasks x group of {facts['group_size']} = "
        f"{facts['episodes_per_batch']} episodes of at most {cfg.env.max_turns} turns"
        f" -> {facts['optimiser_steps_per_batch']} optimiser step(s), then one push of weights",
        f"the run     {facts['batches']} batches = {facts['optimiser_steps']} optimiser steps, {facts['episodes']} "
        "episodes"
        f" ({facts['epochs_over_train_tasks']:g} times the training tasks); a method may play extra ones",
        *(
            [f"exploring   up to {facts['most_episodes_per_batch']:,} episodes a batch, with all that is rolled out"]
            if facts["most_episodes_per_batch"] > facts["episodes_per_batch"]
            else []
        ),
        f"prompts     {tokens['mean']:g} tokens on average, {tokens['max']} at most, in {SAMPLE_TASKS} episodes of "
        "random valid actions"
        f" (limit {cfg.model.context_tokens}; over it: {tokens['over_limit']:.0%}); actions up to "
        f"{cfg.model.action_tokens}",
        f"evaluation  {facts['evaluation_episodes']} episodes before and after, panel {facts['panel_hash']}",
        f"splits      {counts} tasks, disjoint by family",
        f"warm start  {_start(facts['warmstart'])}",
        f"memory      about {sum(memory.values()):.1f} MiB for the learner's tensors: {parts}",
        *(facts["gpu"].words() if facts["gpu"] else []),
    ]
    return "\n".join(lines)
