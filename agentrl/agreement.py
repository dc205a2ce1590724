"""How well do rewards agree with the truth about a play? RLTR's table 3 (arXiv:2508.19598), without people.

A noisy expert plays tool_planning tasks, as in a cold start. The truth about a play is the exact check of the calls
that its task requires; a reward says "complete" when it pays more than one half. Rewards are made as unreliable as the
paper's: votes on completeness that are wrong with probability ``flip_completeness`` (one of them, or the majority of
``votes`` independent ones), and a judge of the summarizer's answer that is wrong with ``flip_answer`` or believes what
no call supports. At ``scale=paper`` the rewards of real judges (``judged``) stand beside them.

Differs from the paper: the truth is exact, not people's; the plays are the expert's, not a model's. With independent
errors ACC is 1 - flip, whatever the plays; F1 (of "complete") depends on the share of complete plays too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.comparison import Column, cell, command_of, folder_of, keep, markdown
from agentrl.completeness import Exact, Noisy, calls_of
from agentrl.config import Config
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.errors import ConfigError
from agentrl.judges import Rules as Judge
from agentrl.ranges import require_shares
from agentrl.rewards.base import Reward
from agentrl.rewards.completeness import Completeness
from agentrl.rewards.judge import Answer, JudgeReward
from agentrl.seeds import derive
from agentrl.summarizer import Rules as Summarizer
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

ACC, F1 = Column("acc", digits=2), Column("f1", digits=2)


@dataclass(frozen=True)
class Agreement:
    """The schema of conf/experiment/rltr_table3.yaml.

    title, source       what is compared; the paper and its table
    seeds               of plays and of errors; one study each
    plays               plays of a study
    noise               how often the expert errs, 0..1
    flip_completeness   chance that a vote on completeness is wrong
    votes               of the majority
    flip_answer         chance that a verdict on the answer is wrong
    credulity           chance that an answer without any successful call passes, in the row that has this loophole
    judged              name -> a reward by real judges, for scale=paper
    published           name -> [ACC, F1] of the paper, in percent
    notes               sentences below the table
    """

    title: str
    source: str
    seeds: list[int]
    plays: int
    noise: float
    flip_completeness: float
    votes: int
    flip_answer: float
    credulity: float
    judged: dict[str, Any] = field(default_factory=dict)
    published: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.plays < 1 or not self.seeds:
            raise ConfigError(f"experiment: got {self.plays} plays and seeds {self.seeds}, expected at least one each")
        require_shares(self, "experiment", "noise", "flip_completeness", "flip_answer", "credulity")

    def run(self, cfg: Config) -> dict[str, Any]:
        """Play, compare and report (report.md, table.json). Raises ConfigError, JudgeError."""
        if cfg.rows or cfg.extra:
            raise ConfigError(
                f"experiment={cfg.choices.experiment}: it trains nothing, so that it takes no rows and no words of "
                f"`agentrl train`; got {', '.join([*cfg.rows, *cfg.extra])}"
            )
        if cfg.dry_run:
            print("nothing is run but the study itself: it trains nothing")
            return {"failed": []}
        env = self.env()
        asked = cfg.scale == "paper"
        studies = {int(seed): self.study(env, int(seed), asked) for seed in (cfg.seeds or self.seeds)}
        env.close()
        told = {seed: {name: agreement(said) for name, said in study.items()} for seed, study in studies.items()}
        result = {"experiment": cfg.choices.experiment, "scale": cfg.scale, "values": told, "failed": []}
        keep(folder_of(cfg), self.report(list(studies.values()), command_of(cfg)), result)
        return result

    def env(self) -> ToolPlanning:
        """The world of all studies."""
        return ToolPlanning(view="compact", test=self.plays)

    def study(self, env: ToolPlanning, seed: int, asked: bool) -> dict[str, list[tuple[bool, bool]]]:
        """name of the reward -> for each play whether it is complete, and whether the reward says so; ``asked``: by
        real judges, too."""
        tasks = env.tasks("test")
        played = [
            expert_play(env, tasks[n % len(tasks)], self.noise, derive(seed, "play", n)) for n in range(self.plays)
        ]
        rewards = self.rewards(seed) | (self.judged if asked else {})
        truth = [Exact().check(play.task, calls_of(play)).share > 0.5 for play in played]
        return {name: list(zip(truth, says(reward, played), strict=True)) for name, reward in rewards.items()}

    def rewards(self, seed: int) -> dict[str, Reward]:
        """The rewards that are spoilt offline."""

        def completeness(votes: int) -> Reward:
            return Completeness(Noisy(self.flip_completeness, votes, seed), 0.0, 0.0, False)

        def answer(flip: float, credulity: float) -> Reward:
            return JudgeReward(Judge(), Summarizer(invents=True), Answer.summary, flip, credulity, seed)

        flip = f"answer, flip {self.flip_answer:g}"
        return {
            f"completeness, flip {self.flip_completeness:g}, one vote": completeness(1),
            f"completeness, flip {self.flip_completeness:g}, majority of {self.votes}": completeness(self.votes),
            flip: answer(self.flip_answer, 0.0),
            f"{flip}, credulity {self.credulity:g}": answer(self.flip_answer, self.credulity),
            "answer, judge without noise": answer(0.0, 0.0),
        }

    def report(self, studies: Sequence[Mapping[str, Sequence[tuple[bool, bool]]]], command: str) -> str:
        """The table with 95 % intervals: of ACC over seeds and plays, of F1 over seeds."""
        lines = [["reward", "ACC", "F1"]]
        for name in studies[0]:
            hits = [{str(n): 100.0 * (a == b) for n, (a, b) in enumerate(study[name])} for study in studies]
            f1 = [{"": agreement(study[name])[1]} for study in studies]
            lines.append([name, cell(hits, ACC), cell(f1, F1)])
        lines += [[f"{name} (paper)", f"{acc:.2f}", f"{f1:.2f}"] for name, (acc, f1) in self.published.items()]
        complete = [truth for study in studies for truth, _ in next(iter(study.values()))]
        facts = (
            f"{len(studies)} studies of {self.plays} plays by an expert that errs at {100 * self.noise:g} % of its "
            f"turns; {100 * sum(complete) / len(complete):.1f} % are complete."
        )
        head = [f"# {self.title}", f"{self.source}. Percent, with 95 % intervals."]
        notes = "\n".join(f"- {note}" for note in (facts, *self.notes, f"Command: `{command}`."))
        return "\n\n".join([*head, markdown(lines), notes]) + "\n"


def expert_play(env: ToolPlanning, task: Task, noise: float, seed: int) -> Trajectory:
    """A play by the noisy expert, without tokens."""
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


def says(reward: Reward, played: Sequence[Trajectory]) -> list[bool]:
    """Whether the reward takes each play for complete. A play without a verdict counts as not."""
    scored = reward.score([Group(play.task, (play,)) for play in played], 0, 1)
    return [group.trajectories[0].reward > 0.5 for group in scored]


def agreement(pairs: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    """(ACC, F1) in percent of (truth, said); F1 is 0 where nothing true was found."""
    hits = sum(truth and said for truth, said in pairs)
    wrong = sum(truth != said for truth, said in pairs)
    return 100 * (1 - wrong / len(pairs)), 100 * 2 * hits / (2 * hits + wrong) if hits else 0.0
