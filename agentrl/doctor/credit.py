"""Groups and their advantages (A19): who is compared with whom."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agentrl.doctor.case import Case, fresh_learner, nothing
from agentrl.doctor.finding import check
from agentrl.types import Group, Stop, Trajectory

NEAR = 1e-5  # in units of advantage


@check(
    "groups: one task",
    "each group holds G plays of one task, each member once; each task drawn has its group",
    "0 groups wrong",
    "plays of different tasks are compared: the rollout sorts them wrongly",
)
def one_task(case: Case) -> tuple[bool | None, str]:
    rollout, wrong = case.run.rollout, []
    size = 0 if "steps" in rollout.gives else rollout.group_size  # explored groups have as many as were drawn
    whole = [group for group in case.played if group.explored is None]
    for group in case.played:
        strangers = sum(play.task.id != group.task.id for play in group.trajectories)
        members = [play.member for play in group.trajectories]
        if strangers or (size and (len(members) != size or len(set(members)) != size)):
            wrong.append(group.task.id)
    lost = case.doctor.tasks - len(whole)
    told = f"{len(wrong)} of {len(case.played)} groups wrong" + (f" (task {wrong[0]})" if wrong else "")
    return not wrong and not lost, told + (f"; {lost} tasks without a group" if lost else "")


@check(
    "groups: numbers of rows",
    "in the learner's batch, rows of one group number are of one task, and each advantage stands at its own play",
    "0 rows wrong",
    "advantages are scattered to the wrong plays: keep the order of groups, plays and turns in the batch",
)
def row_numbers(case: Case) -> tuple[bool | None, str]:
    if why := nothing(case):
        return None, why
    owners = _owners(case)
    credits = _credits(case) if type(case.run.method).credit is _plain_credit() else None
    wrong = total = 0
    for batch in fresh_learner(case).collate(case.used, case.run.method, case.run.step):
        lengths = batch.attention_mask.sum(-1).tolist()
        tasks: dict[int, set[str]] = {}
        for row in range(batch.rows):
            place, number = int(batch.unique[row]), int(batch.group[row])
            ids = tuple(batch.input_ids[place, : lengths[place]].tolist())
            here = owners.get(ids, set())
            shared = tasks.get(number, here) & here
            tasks[number] = shared
            lost = not shared
            if credits is not None and not lost:
                values = batch.advantages[row][batch.loss_mask[row]].cpu().numpy()
                lost = not any(len(v) == len(values) and np.allclose(v, values, atol=NEAR) for v in credits[ids])
            wrong += lost
            total += 1
    return (wrong == 0, f"{wrong} of {total} rows wrong") if total else (None, "no play has an advantage")


def _plain_credit() -> Any:
    from agentrl.methods.base import Defaults

    return Defaults.credit


def _owners(case: Case) -> dict[tuple[int, ...], set[str]]:
    """For the tokens of each turn's end: the tasks that they are of."""
    found: dict[tuple[int, ...], set[str]] = defaultdict(set)
    for group in case.used:
        for play in group.valid:
            for turn in play.turns:
                found[turn.prompt_ids + turn.action_ids].add(group.task.id)
    return found


def _credits(case: Case) -> dict[tuple[int, ...], list[Any]]:
    """For the tokens of each possible row: the advantages of its sampled tokens, by the method alone."""
    found: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for group in case.used:
        for play, values in zip(group.valid, case.run.method.advantages(group), strict=True):
            start = end = 0
            before: tuple[int, ...] | None = None
            for turn in play.turns:
                if before is None or turn.prompt_ids[: len(before)] != before:
                    start = end
                end += len(turn.action_ids)
                before = turn.prompt_ids + turn.action_ids
                found[before].append(values[start:end] * np.float32(group.weight))
    return found


@check(
    "groups: order and missing members",
    "advantages follow their play when members are shuffled, and are those of the others when one is missing",
    "0 groups differ",
    "method.advantages depends on places in the group: answer for group.valid, in its order",
)
def shuffled(case: Case) -> tuple[bool | None, str]:
    method = case.run.method
    if "pairs" in method.needs:
        return None, "pairs: the first play is the chosen one"
    groups = [group for group in case.used if len(group.valid) > 1]
    if not groups:
        return None, "no group of two plays or more"
    wrong = 0
    for number, group in enumerate(groups):
        plays = list(group.trajectories)
        random.Random(number).shuffle(plays)
        gone = replace(plays[0], stop=Stop.env_error)
        fewer = replace(group, trajectories=tuple(plays[1:]))
        same = _by_play(method, group) == _by_play(method, replace(group, trajectories=tuple(plays)))
        missing = _by_play(method, fewer) == _by_play(method, replace(group, trajectories=(*plays[1:], gone)))
        wrong += not (same and missing)
    return wrong == 0, f"{wrong} of {len(groups)} groups differ"


def _by_play(method: Any, group: Group) -> dict[int, list[float]]:
    answer: Sequence[Any] = method.advantages(group)
    plays: Sequence[Trajectory] = group.valid
    return {play.member: [round(float(v), 4) for v in values] for play, values in zip(plays, answer, strict=True)}


@check(
    "groups: sum and scale",
    "advantages of methods that compare siblings cancel out in each group; their scale is told",
    f"mean over the plays at most {NEAR:g}",
    "the baseline is not that of the group: look at method.advantages",
)
def balance(case: Case) -> tuple[bool | None, str]:
    method = case.run.method
    groups = [group for group in case.used if len([p for p in group.valid if p.tokens]) > 1]
    if not groups or ("siblings" not in method.needs and "pairs" not in method.needs):
        return None, "the method compares no siblings"
    means, spreads = [], []
    for group in groups:
        first = [float(values[0]) for values in method.advantages(group) if len(values)]
        means.append(abs(float(np.mean(first))))
        spreads.append(float(np.std(first)))
    figure = f"mean {max(means):.1e}, standard deviation {min(spreads):.3f} to {max(spreads):.3f}"
    return max(means) <= NEAR, figure


CHECKS = {"groups": (one_task, row_numbers, shuffled, balance)}
