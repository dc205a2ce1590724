"""How fast questions are asked, searched and judged: episodes of a noisy expert, all in one process."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrl.envs.long_qa.env import LongQA


def bench(env: LongQA, seconds: float = 5.0) -> dict[str, Any]:
    """Measure for about ``seconds`` of processor time: rates per CPU-second, start-up in CPU-seconds, memory in MiB."""
    begin = time.process_time()
    tasks = env.tasks("train")
    env.search("warm up")
    start_s = time.process_time() - begin
    half = seconds / 2
    expert = env.expert(0.5, 0)
    steps = episodes = 0
    begin = time.process_time()
    while (spent := time.process_time() - begin) < half:
        episode = env.start(tasks[episodes % len(tasks)])
        episodes += 1
        for _ in range(env.max_turns):
            steps += 1
            if episode.step(expert(episode)).done:
                break
    answers = 0
    begin = time.process_time()
    while (judging := time.process_time() - begin) < half:
        episode = env.start(tasks[answers % len(tasks)])
        env.judged(episode.record, episode.record.reference)
        answers += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "steps_per_s": round(steps / spent),
        "episodes_per_s": round(episodes / spent),
        "verdicts_per_s": round(answers / judging),
        "start_s": round(start_s, 3),
        "rss_mib": round(peak, 1),
        "torch_imported": "torch" in sys.modules,
    }
