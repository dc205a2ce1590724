"""``agentrl config explain``: what one step of this config will really do, before anything runs.

Counts are exact; tokens come from playing a few episodes with the environment's own valid actions; the memory forecast
is arithmetic over the model's shape (weights, gradients, AdamW's two moments, activations of one micro-batch, the
engine's copy).
"""

from __future__ import annotations

import random
import statistics
from typing import Any

from agentrl import config
from agentrl.chat import Chat, Context, tools_text
from agentrl.config import Config
from agentrl.envs.base import Env, offered
from agentrl.model import Policy
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
    policy = pretrained.build(str(cfg.device))
    tokens = _episode_tokens(
        env, policy.chat, config.build(cfg.context), int(cfg.env.max_turns), int(cfg.model.context_tokens)
    )
    episodes = int(cfg.tasks_per_step) * rollout.group_size
    batches = learner.batches(int(cfg.steps))
    memory = memory_parts(policy, learner.micro_tokens, "ref_logprobs" in method.needs)
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
        "memory_mib": memory,
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


def memory_parts(policy: Policy, micro_tokens: int, reference: bool) -> dict[str, float]:
    """MiB by part: an estimate, within a factor of about 1.5 for activations."""
    shape = policy.module.config.get_text_config()
    weights, trained = policy.parameters_count, sum(p.numel() for p in policy.parameters())
    size = policy.dtype.itemsize
    kept = 1 if policy.module.is_gradient_checkpointing else shape.num_hidden_layers
    width = shape.hidden_size * 10 + shape.intermediate_size * 3  # numbers a layer keeps for each token
    parts = {
        "weights": weights * size,
        "master_weights": trained * 4 if size < 4 else 0,
        "gradients": trained * 4,
        "optimiser": trained * 8,
        "engine_copy": weights * size,
        "reference": weights * size if reference and policy.adapter is None else 0,
        "activations": micro_tokens
        * (kept * width + shape.num_hidden_layers * shape.hidden_size)
        * policy.compute_dtype.itemsize,
    }
    return {name: round(value / MIB, 1) for name, value in parts.items()} | {
        "total": round(sum(parts.values()) / MIB, 1)
    }


def _start(warm: dict[str, Any]) -> str:
    if not warm:
        return "none: the run starts from the model as it is"
    found = "found in" if warm["found"] else "to be made in"
    return f"{warm['steps']} steps on {warm['demonstrations']} demonstrations, {found} {warm['path']}"


def _words(cfg: Config, facts: dict[str, Any], splits: Any) -> str:
    tokens, memory = facts["prompt_tokens"], facts["memory_mib"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {value:g}" for name, value in memory.items() if name != "total" and value
    )
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
        f"memory      about {memory['total']:g} MiB for tensors: {parts}",
    ]
    return "\n".join(lines)
