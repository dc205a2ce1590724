"""The contract of an environment, checked: every breach explained in a sentence.

Tried on some tasks of every split: panels are fixed and disjoint, an episode follows from its task alone, a restored
snapshot goes on like the original and leaves it alone, valid actions are understood, odd ones are answered instead of
raised, what a step tells can be stored, the environment travels to another process, and the expert knows its trade.
"""

from __future__ import annotations

import json
import math
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from sysconfig import get_path
from traceback import extract_tb
from typing import Any

from agentrl.envs.base import Env, Episode, Step
from agentrl.errors import AgentRLError, EnvError
from agentrl.panel import SPLITS, require_disjoint
from agentrl.toolcalls import read
from agentrl.types import Message, Split, Task

TURNS = 8  # actions tried in one episode
EXPERT_TURNS = 100
LIBRARIES = (str(Path(__file__).parents[1]), get_path("stdlib"), get_path("purelib"))  # code that is not the reader's
ROLES = ("system", "user", "tool")
ODD = ("", " ", "nonsense", "click[", "]" * 50, "\x00\uffff", "search[" + "x" * 5000 + "]", "{}", "'; DROP TABLE t; --")


def said(text: str) -> Message:
    """What a policy that writes ``text`` says, calls of tools included."""
    return Message("assistant", text, read(text).calls)


def check_env(env: Env, tasks: int = 20, seed: int = 0) -> list[str]:
    """Breaches of the contract, one sentence each; an empty list means that the environment keeps it.

    ``tasks`` of each split are tried. Raises nothing that the environment raises: that is a breach, too.
    """
    return list(dict.fromkeys(_breaches(env, tasks, random.Random(seed))))


def _breaches(env: Env, count: int, rng: random.Random) -> Iterator[str]:
    try:
        require_disjoint(env)
    except AgentRLError as error:
        yield str(error)
    yield from _fact_breaches(env)
    copy = _copy(env)
    if isinstance(copy, str):
        yield copy
    for split in SPLITS:
        found = list(env.tasks(split))
        if not found:
            yield f"tasks('{split}') is empty; every split needs at least one task"
        elif [t.content() for t in env.tasks(split)] != [t.content() for t in found]:
            yield f"tasks('{split}') differs between two calls; panels must be fixed"
        elif not isinstance(copy, str) and [t.content() for t in copy.tasks(split)] != [t.content() for t in found]:
            yield f"tasks('{split}') differs in a pickled copy of the environment; panels must follow from its fields"
        for task in rng.sample(found, min(count, len(found))):
            try:
                yield from _task_breaches(env, env if isinstance(copy, str) else copy, task, rng)
            except Exception as error:  # whatever an environment raises is what we report
                yield f"task {task.id}: raised {_told(error)}; start() and valid actions must work"
        yield from _expert_breaches(env, split, found[:count])
    if not isinstance(copy, str):
        yield from _close_breaches(copy, "close() of the environment")


def _fact_breaches(env: Env) -> Iterator[str]:
    """What an environment says of itself."""
    if not math.isfinite(env.success_return):
        yield f"success_return is {env.success_return!r}; it must be a finite number"
    try:
        if json.loads(json.dumps(dict(env.fingerprint))) != dict(env.fingerprint):
            yield "fingerprint changes when written as JSON; use plain dicts with text keys, lists, numbers and texts"
    except (TypeError, ValueError) as error:
        yield f"fingerprint cannot be written as JSON ({error}); use plain dicts, lists, numbers and texts"
    turns = getattr(env, "max_turns", None)
    if not isinstance(turns, int) or turns < 1:
        yield f"max_turns is {turns!r}; it must be a field with the actions of an episode, which rollouts read"


def _copy(env: Env) -> Env | str:
    """The environment as another process gets it, or the breach."""
    try:
        data = pickle.dumps(env)
        return pickle.loads(data)  # type: ignore[no-any-return]
    except Exception as error:  # whatever pickling raises
        return f"the environment cannot be pickled: {_told(error)}; drop caches and handles in __getstate__"


def _task_breaches(env: Env, copy: Env, task: Task, rng: random.Random) -> Iterator[str]:
    where = f"task {task.id}"
    first, second = env.start(task), env.start(task)
    goal = first.goal
    if (goal, first.observation) != (second.goal, second.observation):
        yield f"{where}: two fresh episodes look different; an episode must follow from its task alone"
    if not first.observation and not goal:
        yield f"{where}: neither goal nor observation shows anything; the policy would act blindly"
    for _ in range(TURNS):
        valid = list(first.actions())
        action = rng.choice(valid) if valid and rng.random() < 0.85 else rng.choice(ODD)
        told = f"{where}, action '{action[:60]}'"
        yield from _fork_breaches(env, first, valid, told)
        restored = copy.restore(pickle.loads(pickle.dumps(first.snapshot())))
        one, other, third = (episode.step(said(action)) for episode in (first, second, restored))
        if one != other:
            yield f"{told}: two equal plays got different answers; episodes must not share or draw state"
        if one != third:
            yield f"{told}: an episode restored from its snapshot answers differently from the original"
        if action in valid and not one.parsed:
            yield f"{told}: actions() offers it, but the step says parsed=False; offer what the grammar accepts"
        yield from _step_breaches(one, told)
        if one.done or one != other or one != third:
            break
    if first.goal != goal:
        yield f"{where}: the goal changed during the episode; what changes belongs to the observations"
    try:
        first.step(said("after the end"))
    except Exception as error:  # the breach to report
        yield f"{where}: a step after the end raised {_told(error)}; answer it with an observation and done=True"
    yield from _odd_breaches(env, task, where)
    yield from _close_breaches(first, f"{where}: close()")
    second.close()


def _fork_breaches(env: Env, episode: Episode, valid: list[str], told: str) -> Iterator[str]:
    """A fork plays on without touching the original or the snapshot it came from."""
    try:
        state = episode.snapshot()
        before = pickle.dumps(state)
    except Exception as error:  # whatever pickling raises
        yield f"{told}: its snapshot cannot be made and pickled: {_told(error)}; snapshots hold plain data"
        return
    shown = (episode.observation, list(episode.actions()))
    fork = env.restore(state)
    if (fork.goal, fork.observation, list(fork.actions())) != (episode.goal, *shown):
        yield f"{told}: a fork shows another goal, observation or actions than the original"
    for action in [*valid[-1:], "nonsense"]:
        fork.step(said(action))
    fork.close()
    if (episode.observation, list(episode.actions())) != shown:
        yield f"{told}: playing a fork changed the original; restore() must copy what changes"
    again = env.restore(state)
    if (again.observation, list(again.actions())) != shown or pickle.loads(before) != state:
        yield f"{told}: playing a fork changed the snapshot; snapshots must be immutable"
    again.close()


def _step_breaches(step: Step, told: str) -> Iterator[str]:
    """What a step answers must fit a conversation, a sum and a file."""
    if not math.isfinite(step.reward):
        yield f"{told}: reward is {step.reward!r}; it must be a finite number"
    for message in step.observation:
        if message.role not in ROLES or not isinstance(message.content, str):
            yield f"{told}: an observation of role {message.role!r}; expected text of {', '.join(ROLES)}"
    try:
        json.dumps(step.info)
    except (TypeError, ValueError) as error:
        yield f"{told}: info cannot be written as JSON ({error}); use plain dicts, lists, numbers and texts"
    for name, part in step.info.get("reward_parts", {}).items():
        if not isinstance(part, int | float) or not math.isfinite(part):
            yield f"{told}: reward part {name} is {part!r}; it must be a finite number"


def _odd_breaches(env: Env, task: Task, where: str) -> Iterator[str]:
    for text in ODD:
        episode = env.start(task)
        try:
            episode.step(said(text))
        except Exception as error:  # the breach to report
            yield f"{where}: the action {text[:20]!r} raised {_told(error)}; an invalid action is data, no exception"
        episode.close()


def _close_breaches(thing: Any, what: str) -> Iterator[str]:
    try:
        thing.close()
        thing.close()
    except Exception as error:  # the breach to report
        yield f"{what} raised {_told(error)} when called twice; closing is idempotent"


def _expert_breaches(env: Env, split: Split, tasks: list[Task]) -> Iterator[str]:
    """A flawless expert should succeed, a noisy one play the same again."""
    try:
        env.expert(0.0, 0)
    except EnvError:
        return  # no expert: allowed
    try:
        wins = sum(_play(env, task, 0.0)[1] >= env.success_return - 1e-9 for task in tasks)
        if any(_play(env, task, 0.5) != _play(env, task, 0.5) for task in tasks[:3]):
            yield "two experts of equal noise and seed play differently; draw from a generator of their own"
    except Exception as error:  # whatever an environment raises is what we report
        yield f"the expert's episodes raised {_told(error)}"
        return
    if wins < 0.5 * len(tasks):
        yield f"the noise-free expert succeeds on {wins} of {len(tasks)} {split} tasks; demonstrations would mislead"


def _play(env: Env, task: Task, noise: float) -> tuple[list[str], float]:
    """The expert's actions and return."""
    expert, episode, total = env.expert(noise, 0), env.start(task), 0.0
    actions: list[str] = []
    for _ in range(EXPERT_TURNS):
        message = expert(episode)
        actions.append(message.content)
        step = episode.step(message)
        total += step.reward
        if step.done:
            break
    episode.close()
    return actions, total


def _told(error: Exception) -> str:
    """The error, and the last line on its way that is not agentrl's own or a library's."""
    ours = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(LIBRARIES)]
    where = f", in {Path(ours[-1].filename).name}, line {ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__} ({error}){where}"
