"""Plays without a policy, for benchmarks of the learner: groups of episodes in which a noisy expert acts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from agentrl import config
from agentrl.chat import tools_text
from agentrl.envs.base import offered
from agentrl.seeds import derive
from agentrl.types import Group, Stop, Task, Trajectory, Turn

TRIES = 20  # actions that are tried where one would end the episode too soon


def groups(words: Sequence[str], tasks: int, members: int, turns: tuple[int, int], noise: float) -> list[Group]:
    """``members`` plays of each of the first ``tasks`` training tasks, in the config that the words compose.

    Each play has a length of its own within ``turns``. The environment's expert acts, with ``noise`` as the share of
    other valid actions; what would end an episode before its length is drawn anew. Rewards and logprobs are random, so
    that every token is learned from.
    """
    cfg = config.compose("train", ["device=cpu", f"env.max_turns={turns[1]}", *words])
    env, chat, context = config.build(cfg.env), config.build(cfg.model).chat(), config.build(cfg.context)
    try:
        chosen = env.tasks("train")[:tasks]
        plays = [[_play(env, chat, context, task, m, turns, noise) for m in range(members)] for task in chosen]
        return [Group(task, tuple(found)) for task, found in zip(chosen, plays, strict=True)]
    finally:
        env.close()


def _play(
    env: Any, chat: Any, context: Any, task: Task, member: int, turns: tuple[int, int], noise: float
) -> Trajectory:
    seed = derive(0, task.id, str(member))
    rng, expert, episode = random.Random(seed), env.expert(noise, seed), env.start(task)
    goal, first, tools = episode.goal, episode.observation, tools_text(offered(episode))
    length = rng.randint(*turns)
    played: list[Turn] = []
    while len(played) < length:
        prompt = context.prompt(chat, goal, first, played, tools)
        for _ in range(TRIES):
            before, action = episode.snapshot(), expert(episode)
            step = episode.step(action)
            if not step.done or len(played) == length - 1:
                break
            episode = env.restore(before)
            expert = env.expert(1.0, rng.getrandbits(32))
        ids = chat.encode_action(action)
        played.append(Turn(prompt, ids, tuple(rng.uniform(-7, -6) for _ in ids), action, step.observation))
        if step.done:
            break
    episode.close()
    return Trajectory(task, member, tuple(played), stop=Stop.done, reward=rng.random())
