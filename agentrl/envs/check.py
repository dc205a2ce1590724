"""The contract of an environment, checked: every breach explained in a sentence.

Tried on some tasks of every split: panels are fixed and disjoint, an episode follows from its task alone, a restored
snapshot goes on like the original, odd actions are answered instead of raised, and the expert knows its trade.
"""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterator

from agentrl.envs.base import Env, Episode
from agentrl.errors import AgentRLError
from agentrl.panel import SPLITS, require_disjoint
from agentrl.types import Message, Task

TURNS = 8  # actions tried in one episode
EXPERT_TURNS = 100
ODD = ("", " ", "nonsense", "click[", "]" * 50, "\x00\uffff", "search[" + "x" * 5000 + "]", "{}", "'; DROP TABLE t; --")


def check_env(env: Env, tasks: int = 20, seed: int = 0) -> list[str]:
    """Breaches of the contract, one sentence each; an empty list means that the environment keeps it.

    ``tasks`` of each split are tried. Raises nothing that the environment raises: that is a breach, too.
    """
    return list(_breaches(env, tasks, random.Random(seed)))


def _breaches(env: Env, count: int, rng: random.Random) -> Iterator[str]:
    try:
        require_disjoint(env)
    except AgentRLError as error:
        yield str(error)
    for split in SPLITS:
        found = list(env.tasks(split))
        if not found:
            yield f"tasks('{split}') is empty; every split needs at least one task"
        elif [t.content() for t in env.tasks(split)] != [t.content() for t in found]:
            yield f"tasks('{split}') differs between two calls; panels must be fixed"
        for task in rng.sample(found, min(count, len(found))):
            try:
                yield from _task_breaches(env, task, rng)
            except Exception as error:  # whatever an environment raises is what we report
                yield f"task {task.id}: raised {type(error).__name__} ({error}); start() and valid actions must work"
    yield from _expert_breaches(env, count)


def _task_breaches(env: Env, task: Task, rng: random.Random) -> Iterator[str]:
    where = f"task {task.id}"
    first, second = env.start(task), env.start(task)
    if (first.goal, first.observation) != (second.goal, second.observation):
        yield f"{where}: two fresh episodes look different; an episode must follow from its task alone"
    if not first.observation and not first.goal:
        yield f"{where}: neither goal nor observation shows anything; the policy would act blindly"
    for _ in range(TURNS):
        action = _draw(first, rng)
        told = f"{where}, action '{action[:60]}'"
        restored = env.restore(pickle.loads(pickle.dumps(first.snapshot())))
        one, other, third = (episode.step(Message("assistant", action)) for episode in (first, second, restored))
        if one != other:
            yield f"{told}: two equal plays got different answers; episodes must not share or draw state"
        if one != third:
            yield f"{told}: an episode restored from its snapshot answers differently from the original"
        if not math.isfinite(one.reward):
            yield f"{told}: reward is {one.reward!r}; it must be a finite number"
        if one.done or one != other or one != third:
            break
    yield from _odd_breaches(env, task, where)
    first.close()
    second.close()


def _odd_breaches(env: Env, task: Task, where: str) -> Iterator[str]:
    for text in ODD:
        episode = env.start(task)
        try:
            episode.step(Message("assistant", text))
        except Exception as error:  # the breach to report
            name = type(error).__name__
            yield f"{where}: the action {text[:20]!r} raised {name} ({error}); an invalid action is data, no exception"
        episode.close()


def _draw(episode: Episode, rng: random.Random) -> str:
    valid = list(episode.actions())
    return rng.choice(valid) if valid and rng.random() < 0.85 else rng.choice(ODD)


def _expert_breaches(env: Env, count: int) -> Iterator[str]:
    """A flawless expert should succeed on training tasks."""
    try:
        env.expert(0.0, 0)
    except AgentRLError:
        return  # no expert: allowed
    tasks = list(env.tasks("train"))[:count]
    try:
        wins = sum(_expert_return(env, task) >= env.success_return - 1e-9 for task in tasks)
    except Exception as error:  # whatever an environment raises is what we report
        yield f"the expert's episodes raised {type(error).__name__} ({error})"
        return
    if wins < 0.5 * len(tasks):
        yield f"the noise-free expert succeeds on {wins} of {len(tasks)} training tasks; demonstrations would mislead"


def _expert_return(env: Env, task: Task) -> float:
    expert, episode, total = env.expert(0.0, 0), env.start(task), 0.0
    for _ in range(EXPERT_TURNS):
        step = episode.step(expert(episode))
        total += step.reward
        if step.done:
            break
    episode.close()
    return total
