"""From trajectories to tensors: which rows the learner computes, and how they are split.

A row is a prompt with the tokens sampled after it. Turns whose prompt extends the tokens so far (prompt and action of
the turn before, as in a ``history`` context) share one row; where the prompt starts anew (``window``) each turn has its
own. The loss mask is True exactly on sampled tokens. Rows of equal tokens are computed once (``Batch.unique``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentrl.batch import Batch, Layout
from agentrl.errors import ShapeError
from agentrl.types import Group, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Row:
    """One sample. ``runs`` are the lengths of its stretches of tokens: prompt, action, observation, action, ...

    ``advantages`` and ``logprobs`` hold one number for each sampled token; the logprobs are NaN where no engine
    sampled (demonstrations). ``version`` is the oldest policy_version among its turns. ``play`` and ``group`` are the
    numbers of the play and the group that it is of, counted through all groups.
    """

    ids: tuple[int, ...]
    runs: tuple[int, ...]
    advantages: NDArray[np.float32]
    logprobs: NDArray[np.float32]
    version: int
    play: int
    group: int


def rows(groups: Sequence[Group], advantages: Callable[[Group], list[NDArray[np.float32]]]) -> list[Row]:
    """Every row of the groups, in order; ``advantages`` is the method's, and is multiplied by the weight of the group.

    Raises ShapeError when a group mixes tasks, or the method does not answer with one advantage for each sampled token.
    """
    found: list[Row] = []
    plays = 0
    for number, group in enumerate(groups):
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
            credit = values if group.weight == 1.0 else values * np.float32(group.weight)
            found.extend(_rows_of(play, credit, plays, number))
            plays += 1
    return found


def _rows_of(play: Trajectory, advantages: NDArray[np.float32], number: int, group: int) -> list[Row]:
    """The rows of one play; ``advantages`` is ``[play.tokens]``."""
    found = []
    start = 0
    for turns in _stretches(play):
        tokens = sum(len(turn.action_ids) for turn in turns)
        if tokens:
            found.append(_row(turns, advantages[start : start + tokens], number, group))
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


def _row(turns: Sequence[Turn], advantages: NDArray[np.float32], play: int, group: int) -> Row:
    runs: list[int] = []
    length = 0
    for turn in turns:
        runs += (len(turn.prompt_ids) - length, len(turn.action_ids))
        length = len(turn.prompt_ids) + len(turn.action_ids)
    sampled = all(len(turn.logprobs) == len(turn.action_ids) for turn in turns)
    values = chain.from_iterable(turn.logprobs for turn in turns)
    logprobs = np.fromiter(values, np.float32) if sampled else np.full_like(advantages, np.nan)
    ids = turns[-1].prompt_ids + turns[-1].action_ids
    return Row(ids, tuple(runs), advantages, logprobs, min(turn.version for turn in turns), play, group)


def collate(
    rows: Sequence[Row],
    weights: Callable[[Layout], torch.Tensor],
    skip_zero: bool,
    device: torch.device,
    version: int | None = None,
) -> Batch:
    """Tensors of rows, on ``device``; ``weights`` is the method's. ``version``: policy_version of the policy that is to
    learn from them, whose rows are ``fresh`` (None: the newest that played).

    The weights are fixed over all rows; then, if ``skip_zero``, rows whose advantages are all zero are left out, and
    rows of equal tokens get one place in ``input_ids``. ``old_logprobs`` are the
    engine's until the learner puts its own there.
    """
    mask = _dense(_spread_mask(rows), rows, bool)
    play, group = (np.array([getattr(row, name) for row in rows], np.int64) for name in ("play", "group"))
    shares = weights(Layout(*map(torch.from_numpy, (mask, play, group)))).float()
    newest = max((row.version for row in rows), default=0) if version is None else version
    keep = computed(rows, skip_zero)
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
        play=tensor(play[keep]),
        group=tensor(group[keep]),
        loss_mask=tensor(loss_mask),
        advantages=tensor(advantages),
        weights=shares[keep, :width].to(device),
        rollout_logprobs=rollout,
        old_logprobs=rollout,
        fresh=tensor(np.array([row.version == newest for row in kept], bool)),
        row=tensor(np.arange(len(kept))),
    )


def computed(rows: Sequence[Row], skip_zero: bool) -> list[int]:
    """Which rows are computed: all, or if ``skip_zero`` those with an advantage that is not zero."""
    return [i for i, row in enumerate(rows) if not skip_zero or row.advantages.any()]


def credited(
    groups: Sequence[Group], rows: Sequence[Row], skip_zero: bool, batch: Batch
) -> list[list[NDArray[np.float32]]]:
    """What the tokens were credited with in the end: ``[tokens]`` for each of the valid plays of each group.

    ``rows`` are those of the groups, ``batch`` their credited batch.
    """
    values = [row.advantages for row in rows]
    keep = computed(rows, skip_zero)
    final = batch.advantages[batch.loss_mask].cpu().numpy()
    ends = np.cumsum([len(values[i]) for i in keep])[:-1]
    for i, part in zip(keep, np.split(final, ends) if keep else (), strict=True):
        values[i] = part
    plays: dict[int, list[NDArray[np.float32]]] = {}
    for row, value in zip(rows, values, strict=True):
        plays.setdefault(row.play, []).append(value)
    number = count()
    empty = [np.zeros(0, np.float32)]
    return [[np.concatenate(plays.get(next(number), empty)) for _ in group.valid] for group in groups]


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


def micro_groups(batch: Batch, micro_tokens: int) -> list[list[int]]:
    """Rows, split into micro-batches of whole groups: at most ``micro_tokens`` padded tokens of distinct rows, or one
    group that is longer.

    A row whose tokens stand in groups of several parts is computed in each of them.
    """
    lengths = batch.attention_mask.sum(-1)[batch.unique].tolist()
    unique = batch.unique.tolist()
    members: dict[int, list[int]] = {}
    for row, group in enumerate(batch.group.tolist()):
        members.setdefault(group, []).append(row)
    parts: list[list[int]] = []
    distinct: set[int] = set()
    width = 0
    for rows in sorted(members.values(), key=lambda rows: -max(lengths[row] for row in rows)):
        more = {unique[row] for row in rows}
        if parts and len(distinct | more) * width <= micro_tokens:
            parts[-1].extend(rows)
            distinct |= more
        else:
            parts.append(list(rows))
            distinct, width = more, max(lengths[row] for row in rows)
    return parts


def micro_batches(batch: Batch, micro_tokens: int, whole_groups: bool) -> list[Batch]:
    """The parts of a batch whose losses and gradients add up to those of the whole, each of ``micro_tokens``."""
    if whole_groups:
        return [pick(batch, rows) for rows in micro_groups(batch, micro_tokens)]
    return [take(batch, part) for part in micro_rows(batch, micro_tokens)]


def take(batch: Batch, part: Sequence[int]) -> Batch:
    """The distinct rows ``part`` of a batch with all rows that stand on them."""
    wanted = torch.zeros(len(batch.input_ids), dtype=torch.bool, device=batch.unique.device)
    wanted[torch.tensor(part, device=batch.unique.device)] = True
    return pick(batch, wanted[batch.unique].nonzero().squeeze(-1).tolist(), part)


def pick(batch: Batch, rows: Sequence[int], distinct: Sequence[int] | None = None) -> Batch:
    """These rows of a batch, their padding cut, on the ``distinct`` rows they stand on (in that order, if given).

    The weights stay as they are, so that losses and gradients of the parts add up to those of the whole.
    """
    members = torch.tensor(rows, dtype=torch.int64, device=batch.unique.device)
    found = batch.unique[members]
    order = torch.unique(found) if distinct is None else torch.tensor(distinct, device=found.device)
    place = torch.zeros(len(batch.input_ids), dtype=torch.int64, device=found.device)
    place[order] = torch.arange(len(order), device=found.device)
    width = int(batch.attention_mask[order].sum(-1).max()) if len(order) else 0

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[members, :width]

    def cut_if(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else cut(tensor)

    return replace(
        batch,
        input_ids=batch.input_ids[order, :width],
        attention_mask=batch.attention_mask[order, :width],
        unique=place[found],
        play=batch.play[members],
        group=batch.group[members],
        loss_mask=cut(batch.loss_mask),
        advantages=cut(batch.advantages),
        weights=cut(batch.weights),
        rollout_logprobs=cut(batch.rollout_logprobs),
        old_logprobs=cut(batch.old_logprobs),
        fresh=batch.fresh[members],
        ref_logprobs=cut_if(batch.ref_logprobs),
        values=cut_if(batch.values),
        returns=cut_if(batch.returns),
        row=None if batch.row is None else batch.row[members],
    )
