"""Plays to learn from without a policy: groups of episodes in which a noisy expert acts. For scripts/bench_learner.py."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from agentrl import config
from agentrl.chat import tools_text
from agentrl.envs.base import offered
from agentrl.seeds import derive
from agentrl.types import Group, Stop, Task, Trajectory, Turn


def groups(words: Sequence[str], tasks: int, members: int, noise: float) -> list[Group]:
    """``members`` plays of each of the first ``tasks`` training tasks, in the config that the words compose.

    In each play the environment's expert acts, with ``noise`` as the share of other valid actions; rewards and logprobs
    are drawn at random, so that every token is learned from.
    """
    cfg = config.compose("train", ["device=cpu", *words])
    env, chat, context = config.build(cfg.env), config.build(cfg.model).chat(), config.build(cfg.context)
    try:
        chosen = env.tasks("train")[:tasks]
        return [
            Group(
                task,
                tuple(_play(env, chat, context, task, m, int(cfg.env.max_turns), noise) for m in range(members)),
            )
            for task in chosen
        ]
    finally:
        env.close()


def _play(env: Any, chat: Any, context: Any, task: Task, member: int, max_turns: int, noise: float) -> Trajectory:
    seed = derive(0, task.id, str(member))
    rng, expert, episode = random.Random(seed), env.expert(noise, seed), env.start(task)
    goal, first, tools = episode.goal, episode.observation, tools_text(offered(episode))
    turns: list[Turn] = []
    for _ in range(max_turns):
        prompt, action = context.prompt(chat, goal, first, turns, tools), expert(episode)
        ids, step = chat.encode_action(action), episode.step(action)
        turns.append(Turn(prompt, ids, tuple(rng.uniform(-7, -6) for _ in ids), action, step.observation))
        if step.done:
            break
    episode.close()
    return Trajectory(task, member, tuple(turns), stop=Stop.done, reward=rng.random())
