"""The contract of an environment, checked: every breach explained in a sentence."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator

from agentrl.envs.base import Env, Episode
from agentrl.errors import AgentRLError
from agentrl.panel import SPLITS, require_disjoint
from agentrl.types import Message, Task

_ODD = (
    "",
    " ",
    "nonsense",
    "click[",
    "]" * 50,
    "\x00\uffff",
    "search[" + "x" * 5000 + "]",
    "{}",
    "DROP TABLE users; --",
)


def check_env(env: Env, tasks: int = 20, seed: int = 0) -> list[str]:
    """Breaches of the contract, one sentence each; an empty list means that the environment keeps it."""
    return list(_breaches(env, tasks, random.Random(seed)))


def _breaches(env: Env, count: int, rng: random.Random) -> Iterator[str]:
    try:
        require_disjoint(env)
    except AgentRLError as error:
        yield str(error)
    for split in SPLITS:
        found = env.tasks(split)
        if not found:
            yield f"tasks('{split}') is empty; every split needs at least one task"
            continue
        if [t.content() for t in env.tasks(split)] != [t.content() for t in found]:
            yield f"tasks('{split}') differs between two calls; panels must be fixed"
        for task in (
            found[:1] + [rng.choice(found) for _ in range(count)] if isinstance(found, list) else list(found[:count])
        ):
            yield from _check_task(env, task, rng)
    yield from _check_expert(env, count)


def _check_task(env: Env, task: Task, rng: random.Random) -> Iterator[str]:
    """Two equal plays, a restored one, and odd actions."""
    where = f"task {task.id}"
    first, second = env.start(task), env.start(task)
    if (first.goal, first.observation) != (second.goal, second.observation):
        yield f"{where}: two fresh episodes show different first observations; an episode must follow from its task alone"
    if not first.observation and not first.goal:
        yield f"{where}: neither goal nor observation shows anything; the policy would act blindly"
    for number in range(8):
        action = _draw(first, rng)
        restored = env.restore(pickle.loads(pickle.dumps(first.snapshot())))
        steps = [episode.step(Message("assistant", action)) for episode in (first, second, restored)]
        if steps[0] != steps[1]:
            yield f"{where}, action {number} '{action[:60]}': two equal plays got different answers; episodes must not share or draw state"
            return
        if steps[0] != steps[2]:
            yield f"{where}, action {number} '{action[:60]}': an episode restored from its snapshot answers differently from the original"
            return
        if not isinstance(steps[0].reward, float | int) or steps[0].reward != steps[0].reward:
            yield f"{where}: reward is {steps[0].reward!r}; it must be a finite number"
        if steps[0].done:
            break
    for text in _ODD:
        episode = env.start(task)
        try:
            episode.step(Message("assistant", text))
        except Exception as error:  # the breach to report
            yield f"{where}: the action {text[:20]!r} raised {type(error).__name__} ({error}); an invalid action is data, not an exception"
        episode.close()
    for episode in (first, second):
        episode.close()


def _draw(episode: Episode, rng: random.Random) -> str:
    valid = list(episode.actions())
    return rng.choice(valid) if valid and rng.random() < 0.85 else rng.choice(_ODD)


def _check_expert(env: Env, count: int) -> Iterator[str]:
    """A flawless expert should succeed on training tasks."""
    tasks = list(env.tasks("train"))[:count]
    try:
        env.expert(0.0, 0)
    except AgentRLError:
        return
    wins = 0
    for task in tasks:
        expert, episode, total = env.expert(0.0, 0), env.start(task), 0.0
        for _ in range(100):
            step = episode.step(expert(episode))
            total += step.reward
            if step.done:
                break
        wins += total >= env.success_return - 1e-9
    if wins < 0.5 * len(tasks):
        yield f"the noise-free expert succeeds on {wins} of {len(tasks)} training tasks; demonstrations would teach failure"
