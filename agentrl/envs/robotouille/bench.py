"""How fast the kitchen is: steps with their valid actions, whole observations, fresh episodes, planning, memory.

Random play on the hand-made kitchens of the four tasks that were measured on the original, and on their seed 42.
"""

from __future__ import annotations

import dataclasses
import random
import resource
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentrl.envs.robotouille.recipes import PAPER
from agentrl.envs.robotouille.views import Stage
from agentrl.types import Message, Task

if TYPE_CHECKING:
    from agentrl.envs.robotouille.env import Robotouille

LENGTH = 30  # steps of one random play
RSS_UNITS = 2**20 if sys.platform == "darwin" else 2**10  # per MiB: macOS tells bytes, others KiB


def bench(env: Robotouille, seconds: float) -> dict[str, Any]:
    """Measure for about ``seconds``. All rates are per second of one process; memory in MiB."""
    start = time.perf_counter()
    fresh = dataclasses.replace(
        env, data="bundled", source="benchmark", recipes=list(PAPER), seeds=[0, 42], train=1, val=1
    )
    tasks = list(fresh.tasks("test"))
    stages = [fresh.stage(task) for task in tasks]
    start_s = time.perf_counter() - start
    share = seconds / 6
    made = [stage for stage, task in zip(stages, tasks, strict=True) if not task.data["seed"]]
    seeded = [stage for stage in stages if stage not in made]
    planned, planned_s = _plan(fresh, tasks, share)
    return {
        "steps_per_s": round(_steps(made, share, observe=False)),
        "steps_per_s_seed_42": round(_steps(seeded, share, observe=False)),
        "steps_with_text_per_s": round(_steps(made, share, observe=True)),
        "episode_steps_per_s": round(_episodes(fresh, tasks, share)),
        "new_kitchens_per_s": round(_kitchens(fresh, tasks, share)),
        "labelled_states_per_s": round(planned / planned_s),
        "start_s": round(start_s, 3),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_UNITS, 1),
        "torch_imported": "torch" in sys.modules,
    }


def _steps(stages: Sequence[Stage], seconds: float, observe: bool) -> float:
    """Steps per second, each with all its valid actions and the done flag, ``observe``: and the whole text."""
    rng = random.Random(0)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        stage = stages[int(rng.random() * len(stages))]
        kitchen, state = stage.kitchen, stage.kitchen.start
        for _ in range(LENGTH):
            moves = kitchen.moves(state.bits)
            state = kitchen.after(state, moves[int(rng.random() * len(moves))])
            count += 1
            if observe:
                stage.describer.observation(state.bits)
            if kitchen.done(state.bits):
                break
    return count / spent


def _episodes(env: Robotouille, tasks: Sequence[Task], seconds: float) -> float:
    """Steps per second through ``Episode.step`` with ``Episode.actions``: messages and step counts included."""
    rng = random.Random(0)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        episode = env.start(tasks[int(rng.random() * len(tasks))])
        for _ in range(LENGTH):
            count += 1
            if episode.step(Message("assistant", rng.choice(episode.actions()))).done:
                break
    return count / spent


def _kitchens(env: Robotouille, tasks: Sequence[Task], seconds: float) -> float:
    """Kitchens made from nothing, with their first observation, per second."""
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        episode = dataclasses.replace(env).start(tasks[count % len(tasks)])
        _ = episode.observation
        count += 1
    return count / spent


def _plan(env: Robotouille, tasks: Sequence[Task], seconds: float) -> tuple[int, float]:
    """(states labelled with all optimal actions, seconds): every state that random play visits, no state twice."""
    rng = random.Random(0)
    count, start = 0, time.perf_counter()
    seen = set()
    while (spent := time.perf_counter() - start) < seconds:
        episode = env.start(tasks[int(rng.random() * len(tasks))])
        for _ in range(LENGTH):
            key = (episode.task.id, episode.state)
            if key not in seen:
                seen.add(key)
                env.optimal_actions(episode)
                count += 1
            if episode.step(Message("assistant", rng.choice(episode.actions()))).done:
                break
            if time.perf_counter() - start > seconds:
                break
    return count, spent
