"""One running episode: prompts out, completions in, a frozen Trajectory at the end.

Every way of exploring is built from this. A failing environment ends the episode as data
(``Stop.env_error`` with the environment's own words); it never becomes a reward of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from agentrl.engine.base import Completion, Request, Sampling
from agentrl.envs.base import Episode
from agentrl.errors import ConfigError, EnvError
from agentrl.rollout.base import Limits, Stage
from agentrl.seeds import derive
from agentrl.types import Message, Messages, Stop, Task, Trajectory, Turn


class Play:
    """One play of one task by the stage's engine."""

    def __init__(self, stage: Stage, task: Task, member: int, limits: Limits, draw: int | None = None) -> None:
        """``draw`` tells the samples of plays apart that share task and member (default: the member)."""
        self.task = task
        self.member = member
        self._draw = member if draw is None else draw
        self.stop: Stop | None = None
        self._stage = stage
        self._limits = limits
        self._turns: list[Turn] = []
        self._error: str | None = None
        self._episode: Episode | None = None
        self._goal: Messages = ()
        self._first: Messages = ()
        try:
            self._episode = stage.env.start(task)
            self._goal = self._episode.goal
            self._first = self._episode.observation
        except Exception as error:  # an environment's failure is data
            self._fail(error)

    def request(self, seed: int, step: int) -> Request | None:
        """What to ask the engine next; None once the episode is over (also when the next prompt does not fit)."""
        if self.stop is not None:
            return None
        prompt = self._stage.context.prompt(self._stage.chat, self._goal, self._first, self._turns)
        if len(prompt) + self._limits.action_tokens > self._limits.context_tokens:
            if not self._turns:
                self._error = f"its first prompt has {len(prompt)} tokens"
            self._finish(Stop.max_tokens)
            return None
        draw = derive(seed, "sample", step, self.task.id, self._draw, len(self._turns))
        return Request(prompt, draw, self._limits.action_tokens)

    def answer(self, request: Request, completion: Completion) -> None:
        """Act with what the engine sampled."""
        action = self._stage.chat.message(completion.ids)
        self.act(action, request.prompt_ids, completion)

    def act(self, action: Message, prompt_ids: tuple[int, ...], completion: Completion) -> None:
        """Play one action, record the turn, end the episode when it is over."""
        assert self._episode is not None
        try:
            step = self._episode.step(action)
        except Exception as error:  # an environment's failure is data
            self._fail(error)
            return
        self._turns.append(
            Turn(
                prompt_ids=prompt_ids,
                action_ids=completion.ids,
                logprobs=completion.logprobs,
                action=action,
                observation=step.observation,
                reward=float(step.reward),
                parsed=step.parsed,
                finish=completion.finish,
                version=completion.version,
                info=step.info,
            )
        )
        if step.done:
            self._finish(Stop.done)
        elif len(self._turns) >= self._limits.turns:
            self._finish(Stop.max_turns)

    def record(self) -> Trajectory:
        """The finished play."""
        assert self.stop is not None, "record() before the episode is over"
        total = sum(turn.reward for turn in self._turns)
        return Trajectory(
            task=self.task,
            member=self.member,
            turns=tuple(self._turns),
            stop=self.stop,
            env_return=total,
            success=self.stop is not Stop.env_error and total >= self._stage.env.success_return - 1e-9,
            error=self._error,
            first_observation=self._goal + self._first,
        )

    @property
    def episode(self) -> Episode:
        """The environment's side (for experts, which may look behind the curtain)."""
        assert self._episode is not None
        return self._episode

    def _finish(self, stop: Stop) -> None:
        self.stop = stop
        if self._episode is not None:
            self._episode.close()

    def _fail(self, error: Exception) -> None:
        self._error = f"{type(error).__name__}: {error}"
        self.stop = Stop.env_error
        if self._episode is not None:
            with suppress(Exception):  # it is broken already: its first words count
                self._episode.close()


def advance(stage: Stage, plays: Sequence[Play], temperature: float, seed: int, step: int) -> None:
    """Play all episodes to their end in lockstep: one engine call per turn for all that are still going."""
    sampling = Sampling(temperature=temperature, stop_ids=stage.chat.stop_ids)
    alive = list(plays)
    while True:
        asked = [(play, request) for play in alive if (request := play.request(seed, step)) is not None]
        if not asked:
            return
        completions = stage.engine.generate([request for _, request in asked], sampling)
        for (play, request), completion in zip(asked, completions, strict=True):
            play.answer(request, completion)
        alive = [play for play, _ in asked]


def refuse_failures(trajectories: Sequence[Trajectory], max_failed: float) -> None:
    """Stop the run when more than the stated share of episodes failed for reasons of the environment."""
    failed = [t for t in trajectories if t.stop is Stop.env_error]
    if len(failed) > max_failed * len(trajectories):
        raise EnvError(
            f"environment: {len(failed)} of {len(trajectories)} episodes failed, more than "
            f"rollout.max_failed={max_failed:g} allows; "
            f"the first, task {failed[0].task.id}, said: {failed[0].error}. Mend the environment (`agentrl env "
            "check` helps) "
            "or allow more."
        )


def refuse_mute(trajectories: Sequence[Trajectory], limits: Limits) -> None:
    """Stop the run when not one episode could begin: no first prompt left room for an action."""
    mute = [t for t in trajectories if t.stop is Stop.max_tokens and not t.turns]
    if mute and len(mute) == len(trajectories):
        raise ConfigError(
            f"model.context_tokens={limits.context_tokens}: no episode could begin; of the first, task "
            f"{mute[0].task.id}, {mute[0].error}, and an action may have {limits.action_tokens} more; raise "
            "model.context_tokens, or choose a shorter view of the environment"
        )
