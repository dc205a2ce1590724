"""What scripted players reach in the bundled shop: the bounds beside which learning curves are read.

Prints success on the first tasks of the test panel, in all and by difficulty: a random item of the first page,
the first result, the best title of the first page, the oracle (reads titles and prices, turns pages), the noisy expert.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence

from agentrl.envs.webshop import WebShop
from agentrl.envs.webshop.catalogue import DIFFICULTIES
from agentrl.envs.webshop.compact import View, Want, view_of, want_of
from agentrl.envs.webshop.shopper import SCRIPTED, Player, decide
from agentrl.types import Message, Task

WIDTH = 14  # of a column


def main() -> None:
    """Play every scripted player on the panel and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300, help="first tasks of the test panel")
    parser.add_argument("--noises", type=float, nargs="*", default=[0.2, 0.4, 0.5, 0.6], help="of the noisy expert")
    args = parser.parse_args()
    env = WebShop(view="compact")
    tasks = env.tasks("test")[: args.tasks]
    players = SCRIPTED | {f"expert, noise {noise:g}": noisy(noise) for noise in args.noises}
    counts = [sum(task.data["goal"]["difficulty"] == level for task in tasks) for level in DIFFICULTIES]
    heads = ["all", *(f"{level} ({count})" for level, count in zip(DIFFICULTIES, counts, strict=True))]
    print(f"{len(tasks)} test tasks, at most {env.max_turns} turns")
    print(f"{'player':24}" + "".join(f"{head:{WIDTH}}" for head in heads))
    for name, player in players.items():
        print(f"{name:24}{row(env, tasks, player)}")


def noisy(noise: float) -> Player:
    """The expert of the environment with this noise."""

    def player(want: Want, view: View, rng: random.Random) -> str:
        return decide(want, view, noise, rng)

    return player


def row(env: WebShop, tasks: Sequence[Task], player: Player) -> str:
    """Success in all and by difficulty, as text."""
    won: dict[str, list[bool]] = {level: [] for level in DIFFICULTIES}
    for seed, task in enumerate(tasks):
        won[task.data["goal"]["difficulty"]].append(play(env, task, player, random.Random(seed)))
    every = [win for wins in won.values() for win in wins]
    return "".join(f"{sum(wins) / max(len(wins), 1):<{WIDTH}.3f}" for wins in (every, *won.values()))


def play(env: WebShop, task: Task, player: Callable[[Want, View, random.Random], str], rng: random.Random) -> bool:
    """Did the player earn the full reward within the turns of the environment?"""
    episode = env.start(task)
    want = want_of(episode.goal_record)
    for _ in range(env.max_turns):
        action = player(want, view_of(episode.session, episode.shop), rng)
        step = episode.step(Message("assistant", action))
        if step.done:
            return step.reward == env.success_return
    return False


if __name__ == "__main__":
    main()
