"""From trajectories to tensors: which rows the learner computes, and how they are split.

A row is a prompt with the tokens sampled after it. Turns whose prompt extends the tokens so far (prompt and action of
the turn before, as in a ``history`` context) share one row; where the prompt starts anew (``window``) each turn has its
own. The loss mask is True exactly on sampled tokens. Rows of equal tokens are computed once (``Batch.unique``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch
from agentrl.errors import ShapeError
from agentrl.types import Group, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Row:
    """One sample. ``runs`` are the lengths of its stretches of tokens: prompt, action, observation, action, ...

    ``advantages`` and ``logprobs`` hold one number for each sampled token; the logprobs are NaN where no engine
    sampled (demonstrations). ``version`` is the oldest policy_version among its turns.
    """

    ids: tuple[int, ...]
    runs: tuple[int, ...]
    advantages: NDArray[np.float32]
    logprobs: NDArray[np.float32]
    version: int


def rows(groups: Sequence[Group], advantages: Callable[[Group], list[NDArray[np.float32]]]) -> list[Row]:
    """Every row of the groups, in order; ``advantages`` is the method's, and is multiplied by the weight of the group.

    Raises ShapeError when a group mixes tasks, or the method does not answer with one advantage for each sampled token.
    """
    found: list[Row] = []
    for group in groups:
        if strangers := {play.task.id for play in group.trajectories} - {group.task.id}:
            raise ShapeError(
                f"group of task {group.task.id}: it holds plays of task {min(strangers)}; only plays of one task "
                "can be compared: mend the rollout or the method's refill"
            )
        answer = advantages(group)
        got, expected = [len(values) for values in answer], [play.tokens for play in group.valid]
        if got != expected:
            raise ShapeError(
                f"method.advantages: task {group.task.id}: got arrays of {got} numbers, expected {expected}, "
                "one number for each sampled token of each play that did not fail; mend the method"
            )
        for play, values in zip(group.valid, answer, strict=True):
            found.extend(_rows_of(play, values if group.weight == 1.0 else values * np.float32(group.weight)))
    return found


def _rows_of(play: Trajectory, advantages: NDArray[np.float32]) -> list[Row]:
    """The rows of one play; ``advantages`` is ``[play.tokens]``."""
    found = []
    start = 0
    for turns in _stretches(play):
        tokens = sum(len(turn.action_ids) for turn in turns)
        if tokens:
            found.append(_row(turns, advantages[start : start + tokens]))
        start += tokens
    return found


def _stretches(play: Trajectory) -> list[list[Turn]]:
    """Turns that share a row: each prompt extends the tokens before it."""
    stretches: list[list[Turn]] = []
    before: tuple[int, ...] | None = None
    for turn in play.turns:
        if before is not None and turn.prompt_ids[: len(before)] == before:
            stretches[-1].append(turn)
        else:
            stretches.append([turn])
        before = turn.prompt_ids + turn.action_ids
    return stretches


def _row(turns: Sequence[Turn], advantages: NDArray[np.float32]) -> Row:
    runs: list[int] = []
    length = 0
    for turn in turns:
        runs += (len(turn.prompt_ids) - length, len(turn.action_ids))
        length = len(turn.prompt_ids) + len(turn.action_ids)
    sampled = all(len(turn.logprobs) == len(turn.action_ids) for turn in turns)
    values = chain.from_iterable(turn.logprobs for turn in turns)
    logprobs = np.fromiter(values, np.float32) if sampled else np.full_like(advantages, np.nan)
    ids = turns[-1].prompt_ids + turns[-1].action_ids
    return Row(ids, tuple(runs), advantages, logprobs, min(turn.version for turn in turns))


def collate(
    rows: Sequence[Row], weights: Callable[[torch.Tensor], torch.Tensor], skip_zero: bool, device: torch.device
) -> Batch:
    """Tensors of the rows of one optimiser step, on ``device``; ``weights`` is the method's.

    The weights are fixed over all rows; then, if ``skip_zero``, rows whose advantages are all zero are left out, and
    rows of equal tokens get one place in ``input_ids``. ``old_logprobs`` are the
    engine's until the learner puts its own there.
    """
    mask = _dense(_spread_mask(rows), rows, bool)
    shares = weights(torch.from_numpy(mask)).float()
    newest = max((row.version for row in rows), default=0)
    keep = [i for i, row in enumerate(rows) if not skip_zero or row.advantages.any()]
    kept = [rows[i] for i in keep]
    width = max((len(row.ids) for row in kept), default=0)
    flat_mask = _spread_mask(kept)
    loss_mask = _dense(flat_mask, kept, bool)
    places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    unique = np.array([places.setdefault((row.ids, row.runs), len(places)) for row in kept], np.int64)
    first = np.unique(unique, return_index=True)[1]
    distinct = [kept[i] for i in first]
    ids = np.fromiter(chain.from_iterable(row.ids for row in distinct), np.int64)
    logprobs = _dense(_scatter([row.logprobs for row in kept], flat_mask), kept, np.float32)
    advantages = _dense(_scatter([row.advantages for row in kept], flat_mask), kept, np.float32)

    def tensor(array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    rollout = tensor(logprobs)
    return Batch(
        input_ids=tensor(_dense(ids, distinct, np.int64)),
        attention_mask=tensor(_dense(np.ones(len(ids), bool), distinct, bool)),
        unique=tensor(unique),
        loss_mask=tensor(loss_mask),
        advantages=tensor(advantages),
        weights=shares[keep, :width].to(device),
        rollout_logprobs=rollout,
        old_logprobs=rollout,
        fresh=tensor(np.array([row.version == newest for row in kept], bool)),
    )


def _spread_mask(rows: Sequence[Row]) -> NDArray[np.bool_]:
    """The loss masks of all rows, one after the other."""
    runs = np.fromiter(chain.from_iterable(row.runs for row in rows), np.int64)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def _scatter(values: Sequence[NDArray[np.float32]], flat_mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Numbers of sampled tokens at their places among all tokens; zero elsewhere."""
    flat = np.zeros(len(flat_mask), np.float32)
    if len(values):
        flat[flat_mask] = np.concatenate(values)
    return flat


def _dense(flat: NDArray[Any], rows: Sequence[Row], dtype: type) -> NDArray[Any]:
    """Right-padded ``[rows, longest]`` of the concatenated tokens of the rows."""
    lengths = np.array([len(row.ids) for row in rows], np.int64)
    width = int(lengths.max(initial=0))
    dense: NDArray[Any] = np.zeros((len(rows), width), dtype)
    dense[np.arange(width) < lengths[:, None]] = flat
    return dense


def unique_mask(batch: Batch) -> torch.Tensor:
    """Loss mask of the distinct rows, ``[unique_rows, seq]`` (rows of equal tokens have equal masks)."""
    mask = torch.zeros_like(batch.attention_mask)
    mask[batch.unique] = batch.loss_mask
    return mask


def micro_rows(batch: Batch, micro_tokens: int) -> list[list[int]]:
    """Distinct rows, split into micro-batches of at most ``micro_tokens`` padded tokens (a longer row stands alone).

    Rows are sorted by length, so that little is padding; the longest of each part comes first.
    """
    lengths = batch.attention_mask.sum(-1).tolist()
    parts: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if parts and (len(parts[-1]) + 1) * lengths[parts[-1][0]] <= micro_tokens:
            parts[-1].append(index)
        else:
            parts.append([index])
    return parts


def take(batch: Batch, part: Sequence[int]) -> Batch:
    """The distinct rows ``part`` of a batch with all rows that stand on them, their padding cut.

    The weights stay as they are, so that losses and gradients of the parts add up to those of the whole.
    """
    width = int(batch.attention_mask[part].sum(-1).max())
    distinct = torch.tensor(part, device=batch.unique.device)
    place = torch.full((len(batch.input_ids),), -1, device=batch.unique.device)
    place[distinct] = torch.arange(len(part), device=batch.unique.device)
    members = (place[batch.unique] >= 0).nonzero().squeeze(-1)

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[members, :width]

    return replace(
        batch,
        input_ids=batch.input_ids[distinct, :width],
        attention_mask=batch.attention_mask[distinct, :width],
        unique=place[batch.unique[members]],
        loss_mask=cut(batch.loss_mask),
        advantages=cut(batch.advantages),
        weights=cut(batch.weights),
        rollout_logprobs=cut(batch.rollout_logprobs),
        old_logprobs=cut(batch.old_logprobs),
        fresh=batch.fresh[members],
        ref_logprobs=None if batch.ref_logprobs is None else cut(batch.ref_logprobs),
    )
