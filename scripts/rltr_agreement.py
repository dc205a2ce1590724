"""How well do unreliable rewards agree with the truth? RLTR's table 3 with judges whose unreliability is set, offline.

    python scripts/rltr_agreement.py --plays 925 --noise 0.05

A noisy expert plays tool_planning tasks, as in a cold start. For every play the truth is the exact check of the
required calls. Against it stand rewards made to be as unreliable as the paper's: votes on completeness that are wrong
with probability .25 (one, or the majority of three independent ones), and a judge of the summarizer's answer that is
wrong with .35 or believes inventions. ACC and F1 (of "complete") for each, beside the paper's 925 human-labelled
ones: answer reward 65.30 / 76.17, completeness reward 74.59 / 84.64. With independent errors ACC is 1 - flip,
whatever the plays; F1 depends on the share of complete plays, so its distance from the paper's says little.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from agentrl.completeness import Exact, Noisy, calls_of
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.judges import Rules
from agentrl.rewards.judge import Answer, JudgeReward
from agentrl.seeds import derive
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

Label = Callable[[Trajectory], bool]
PAPER = {"answer reward": (65.30, 76.17), "completeness reward": (74.59, 84.64)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plays", type=int, default=925, help="as many as the paper had labelled")
    parser.add_argument("--noise", type=float, default=0.05, help="how often the expert errs, 0..1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flip-completeness", type=float, default=0.25)
    parser.add_argument("--flip-answer", type=float, default=0.35)
    parser.add_argument("--credulity", type=float, default=0.5, help="of the last row's judge")
    options = parser.parse_args()
    env = ToolPlanning(view="compact", test=options.plays)
    played = plays(env, options.plays, options.noise, options.seed)
    env.close()
    labels = rows(options.flip_completeness, options.flip_answer, options.credulity, options.seed)
    print(table(played, labels))


def plays(env: ToolPlanning, count: int, noise: float, seed: int) -> list[Trajectory]:
    """Plays of the test tasks, in turn, by the noisy expert."""
    tasks = env.tasks("test")
    return [one_play(env, tasks[i % len(tasks)], noise, derive(seed, "play", i)) for i in range(count)]


def one_play(env: ToolPlanning, task: Task, noise: float, seed: int) -> Trajectory:
    """A play without tokens."""
    episode, expert = env.start(task), env.expert(noise, seed)
    turns: list[Turn] = []
    for _ in range(env.max_turns):
        action: Message = expert(episode)
        step = episode.step(action)
        turns.append(Turn((), (), (), action, step.observation, step.reward, step.parsed, info=step.info))
        if step.done:
            break
    total = sum(turn.reward for turn in turns)
    stop = Stop.done if step.done else Stop.max_turns
    return Trajectory(task, 0, tuple(turns), stop, total, total >= env.success_return)


def rows(flip: float, flip_answer: float, credulity: float, seed: int) -> dict[str, Label]:
    """The rewards as yes or no."""

    def completeness(votes: int) -> Label:
        checker = Noisy(flip, votes, seed)
        return lambda play: checker.check(play.task, calls_of(play)).share > 0.5

    def answer(wrong: float, believes: float) -> Label:
        reward = JudgeReward(Rules(), Answer.summary, wrong, believes, seed)

        def label(play: Trajectory) -> bool:
            (group,) = reward.score([Group(play.task, (play,))], 0, 1)
            return group.trajectories[0].reward > 0.5

        return label

    return {
        "exact answer": answer(0.0, 0.0),
        f"completeness, flip {flip:g}, one vote": completeness(1),
        f"completeness, flip {flip:g}, majority of 3": completeness(3),
        f"answer, flip {flip_answer:g}": answer(flip_answer, 0.0),
        f"answer, flip {flip_answer:g}, credulity {credulity:g}": answer(flip_answer, credulity),
    }


def agreement(truth: Sequence[bool], said: Sequence[bool]) -> tuple[float, float]:
    """(ACC, F1) in percent; F1 is 0 where nothing true was found."""
    pairs = list(zip(truth, said, strict=True))
    hits = sum(t and s for t, s in pairs)
    wrong = sum(t != s for t, s in pairs)
    return 100 * (1 - wrong / len(pairs)), 100 * 2 * hits / (2 * hits + wrong) if hits else 0.0


def table(played: Sequence[Trajectory], labels: Mapping[str, Label]) -> str:
    """The report for people."""
    truth = [Exact().check(play.task, calls_of(play)).share > 0.5 for play in played]
    lines = [f"{len(played)} plays, {100 * sum(truth) / len(truth):.1f} % complete          ACC     F1"]
    for name, label in labels.items():
        acc, f1 = agreement(truth, [label(play) for play in played])
        lines.append(f"{name:<42}{acc:>7.2f}{f1:>7.2f}")
    lines += [f"{'paper: ' + name:<42}{acc:>7.2f}{f1:>7.2f}" for name, (acc, f1) in PAPER.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
