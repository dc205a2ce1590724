"""Masks (A9) and boundaries between turns (A8): what the learner sees is what the engine sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from agentrl.batch import Outputs
from agentrl.chat import History, tools_text
from agentrl.doctor.case import Case, fresh_learner, nothing, trial
from agentrl.doctor.finding import check
from agentrl.envs.base import offered
from agentrl.types import Message, Trajectory, Turn

Flags = tuple[bool, ...]
THOUGHT = "<think>\n\n</think>\n\n"  # what generation prompts of some templates hold, and whole conversations do not
FILLER = "look"  # an action where the environment names none


@check(
    "mask: tokens",
    "the loss mask is on exactly on the tokens that were sampled, stop tokens included",
    "0 tokens wrong",
    "the rows are made wrong: gradient would reach what the environment said. Report it with doctor.json",
)
def mask_tokens(case: Case) -> tuple[bool | None, str]:
    if why := nothing(case):
        return None, why
    known = rows_of(case)
    wrong = tokens = stray = 0
    for batch in fresh_learner(case).collate(case.used, case.run.method, case.run.step):
        lengths = batch.attention_mask.sum(-1).tolist()
        for row in range(batch.rows):
            place = int(batch.unique[row])
            ids = tuple(batch.input_ids[place, : lengths[place]].tolist())
            found = batch.loss_mask[row, : len(ids)].tolist()
            tokens += len(ids)
            stray += int(batch.loss_mask[row, len(ids) :].sum())
            expected = known.get(ids)
            wrong += len(ids) if expected is None else sum(a != b for a, b in zip(found, expected, strict=True))
    if not tokens:
        return None, "the learner left out every row: no play has an advantage"
    return wrong + stray == 0, f"{wrong + stray} of {tokens:,} tokens wrong"


@check(
    "mask: gradient",
    "tokens of the environment get exactly no gradient, sampled ones do",
    "0 outside, above 0 on sampled tokens",
    "the loss reaches tokens that nobody sampled: look at method.objective and the loss mask",
)
def mask_gradient(case: Case) -> tuple[bool | None, str]:
    if why := nothing(case):
        return None, why
    known = rows_of(case)
    watched = Watched(case.run.policy)
    trial(case, case.used, watched)
    outside = inside = sampled = strange = 0
    for ids, gradients in watched.seen:
        for row in range(len(ids)):
            flags = _flags_of(ids[row], known)
            strange += flags is None
            mask = torch.tensor(flags or (True,) * ids.shape[1])
            hit = torch.zeros(ids.shape[1], dtype=torch.bool)
            for gradient in gradients:
                hit |= gradient[row] != 0
            outside += int((hit & ~mask).sum()) if flags else 0
            inside += int((hit & mask).sum())
            sampled += int(mask.sum())
    figure = f"{outside} environment tokens with gradient; {inside} of {sampled} sampled ones"
    return outside == 0 and inside > 0 and strange == 0, figure


class Watched:
    """A policy that lets one see which tokens the loss reaches: ``seen`` holds ``(input ids, gradients)``, all
    ``[rows, seq]``."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._kept: list[tuple[torch.Tensor, list[torch.Tensor]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def outputs(self, input_ids: torch.Tensor, *rest: Any, **more: Any) -> Outputs:
        found: Outputs = self._policy.outputs(input_ids, *rest, **more)
        answers = [t for t in (found.logprobs, found.entropy, found.values) if t is not None and t.requires_grad]
        for answer in answers:
            answer.retain_grad()
        if answers:
            self._kept.append((input_ids, answers))
        return found

    @property
    def seen(self) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        return [(ids.cpu(), [a.grad.cpu() for a in answers if a.grad is not None]) for ids, answers in self._kept]


def rows_of(case: Case) -> dict[tuple[int, ...], Flags]:
    """For the tokens of each row that the plays give: which of them were sampled, by the turns alone."""
    found: dict[tuple[int, ...], Flags] = {}
    for group in case.used:
        for play in group.valid:
            ids: tuple[int, ...] = ()
            flags: Flags = ()
            for turn in play.turns:
                if ids and turn.prompt_ids[: len(ids)] == ids:
                    flags += (False,) * (len(turn.prompt_ids) - len(ids))
                else:
                    flags = (False,) * len(turn.prompt_ids)
                ids = turn.prompt_ids + turn.action_ids
                flags += (True,) * len(turn.action_ids)
                found[ids] = flags
    return found


def _flags_of(row: torch.Tensor, known: dict[tuple[int, ...], Flags]) -> Flags | None:
    """Which tokens of a padded row were sampled: of the longest known row that it begins with, none in the padding."""
    ids = tuple(row.tolist())
    for length in range(len(ids), 0, -1):
        if ids[:length] in known:
            return known[ids[:length]] + (False,) * (len(ids) - length)
    return None


@check(
    "boundary: growth",
    "every prompt begins with the tokens so far: nothing that was sampled is written anew",
    "all later turns",
    "the context re-renders its past: grow prompts by Chat.delta, as context=history does",
)
def growth(case: Case) -> tuple[bool | None, str]:
    later = [pair for play in case.plays for pair in zip(play.turns, play.turns[1:], strict=False)]
    grown = sum(b.prompt_ids[: len(a.prompt_ids + a.action_ids)] == a.prompt_ids + a.action_ids for a, b in later)
    if not isinstance(case.run.stage.context, History) and not grown:
        return None, "every turn is a row of its own, by the choice of context"
    if not later:
        return None, "no play of the sample has a second turn"
    return grown == len(later), f"{grown} of {len(later)} later turns"


@check(
    "boundary: pieces",
    "prompts put together turn by turn have the tokens of the whole conversation by the chat template",
    "0 conversations differ",
    "a token is lost or doubled between turns: use another chat template, or context=window",
)
def pieces(case: Case) -> tuple[bool | None, str]:
    stage = case.run.stage
    if not isinstance(stage.context, History):
        return None, "prompts are rendered whole, by the choice of context"
    plays = [group.valid[0] for group in case.played if group.valid and group.valid[0].turns]
    where = [spot for spot in (_first_difference(case, play) for play in plays) if spot is not None]
    told = f", the first at token {where[0]}" if where else ""
    return not where and bool(plays), f"{len(where)} of {len(plays)} conversations differ{told}"


def _first_difference(case: Case, play: Trajectory) -> int | None:
    """Where a conversation with the play's observations and plain actions differs from its pieces; None if nowhere."""
    stage = case.run.stage
    episode = stage.env.start(play.task)
    try:
        goal, first, tools = episode.goal, episode.observation, tools_text(offered(episode))
        said = Message("assistant", (next(iter(episode.actions()), "") or FILLER).strip())
    finally:
        episode.close()
    turns: list[Turn] = []
    messages = [*goal, *first]
    for turn in play.turns:
        prompt = stage.context.prompt(stage.chat, goal, first, turns, tools)
        turns.append(Turn(prompt, stage.chat.encode_action(said), (), said, turn.observation))
        messages += [said, *turn.observation]
    thought = tuple(stage.chat.tokenizer.encode(THOUGHT, add_special_tokens=False))
    grown = _without(stage.context.prompt(stage.chat, goal, first, turns, tools), thought)
    whole = _without(stage.chat.render(messages, tools), thought)
    if grown == whole:
        return None
    return next((i for i, (a, b) in enumerate(zip(grown, whole, strict=False)) if a != b), min(len(grown), len(whole)))


def _without(ids: Sequence[int], part: tuple[int, ...]) -> list[int]:
    kept: list[int] = []
    for token in ids:
        kept.append(token)
        if tuple(kept[-len(part) :]) == part:
            del kept[-len(part) :]
    return kept


@check(
    "boundary: sampled ids",
    "every action that is learned from is, token for token, what the engine answered",
    "0 actions differ",
    "something decodes and encodes actions between engine and learner: keep the sampled ids",
)
def sampled_ids(case: Case) -> tuple[bool | None, str]:
    turns = [turn for play in case.plays for turn in play.turns if turn.logprobs]
    if not turns:
        return None, "no engine sampled these actions: they are demonstrations"
    wrong = sum((turn.prompt_ids, turn.action_ids) not in case.heard.answers for turn in turns)
    anew = sum(_again(case, turn) != turn.action_ids for turn in turns)
    return wrong == 0, f"{wrong} of {len(turns)} actions differ ({anew} would, if they were encoded again)"


def _again(case: Case, turn: Turn) -> tuple[int, ...]:
    """The ids that the text of an action would get."""
    ids = case.run.stage.chat.encode_action(turn.action)
    return ids if turn.finish == "stop" else ids[:-1]


CHECKS = {"mask": (mask_tokens, mask_gradient), "boundary": (growth, pieces, sampled_ids)}
