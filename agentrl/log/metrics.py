"""The metric table: every ``area/name`` that a run logs, defined once with its meaning and unit.

A method or environment from outside adds its own with :func:`define`. Families whose words vary (``time/<phase>``,
``<panel>/<decoding>_<value>``) are defined by loops below the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto


class UndefinedMetric(UserWarning):
    """A metric was logged that the table does not define."""


class Best(StrEnum):
    """Which value of a run sums it up in a table of runs."""

    last = auto()
    max = auto()
    mean = auto()


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of a step: what it means, its unit, which value sums up a run."""

    name: str
    about: str
    unit: str = "1"
    best: Best = Best.last


METRICS: dict[str, Metric] = {}


def define(name: str, about: str, unit: str = "1", best: Best = Best.last) -> Metric:
    """Add a metric. Raises ValueError if its name is taken with another meaning or is not ``area/name``."""
    metric = Metric(name, about, unit, best)
    if name.count("/") != 1:
        raise ValueError(f"metric '{name}': expected area/name")
    if METRICS.get(name, metric) != metric:
        raise ValueError(f"metric '{name}': already defined as '{METRICS[name].about}'; choose another name")
    METRICS[name] = metric
    return metric


_TABLE = """
rollout/reward               mean training reward of the fresh episodes                             ; reward   ; last
rollout/success              share of fresh episodes whose return reached success_return            ; share    ; max
rollout/return               mean return the environment paid                                       ; reward   ; max
rollout/episodes             fresh episodes, failed ones included                                   ; count    ; mean
rollout/turns                mean actions per episode                                               ; count    ; last
rollout/tokens               sampled tokens, stop tokens included                                   ; count    ; mean
rollout/parsed               share of actions that followed the environment's grammar               ; share    ; last
rollout/zero_advantage       share of fresh groups whose members all earned the same                ; share    ; mean
rollout/used_zero_advantage  the same share among the groups the learner used                       ; share    ; mean
rollout/truncated            share of episodes cut by a turn or token limit                         ; share    ; last
rollout/total_episodes       episodes since the start of the run                                    ; count    ; last
rollout/failed               episodes that failed inside the environment (no credit)                ; count    ; mean
learner/loss                 loss of one optimiser step                                             ; 1        ; last
learner/grad_norm            gradient norm before clipping                                          ; 1        ; last
learner/lr                   learning rate                                                          ; 1        ; last
learner/entropy              mean entropy per sampled token                                         ; nat      ; last
learner/ratio                mean probability ratio new / old per sampled token                     ; 1        ; last
learner/kl_old               KL(old, new) per sampled token, k3 estimate                            ; nat      ; last
learner/clip_frac            share of sampled tokens with an advantage whose gradient is clipped    ; share    ; last
learner/old_gap              largest |new - old| logprob over sampled tokens                        ; nat      ; max
learner/rows                 rows that were computed                                                ; count    ; mean
learner/tokens               sampled tokens that were computed                                      ; count    ; mean
learner/skipped_steps        optimiser steps left out because the gradient was exactly zero         ; count    ; last
learner/logprob_gap          largest |learner - engine| logprob, same weights                       ; nat      ; max
learner/mismatch_bias        mean learner / engine probability ratio, same weights; 1 = no bias     ; 1        ; last
learner/mismatch_spread      mean exp|learner - engine| logprob, same weights; 1 = no spread        ; 1        ; max
learner/mismatch_kl          KL(engine, learner) per sampled token, same weights, k3 estimate       ; nat      ; max
speed/tokens                 sampled tokens per second of rollout and refill                        ; tokens/s ; mean
memory/rss                   largest resident memory of this process so far                         ; MiB      ; max
sync/canary_gap              largest |learner - engine| logprob of the canaries after a push        ; nat      ; max
"""

for _line in _TABLE.strip().splitlines():
    _text, _unit, _best = (part.strip() for part in _line.rsplit(";", 2))
    _name, _about = _text.split(None, 1)
    define(_name, _about, _unit, Best(_best))

PANELS = ("val", "before", "after", "eval")  # every eval.every steps; before and after training; agentrl eval
for _panel in PANELS:
    for _decoding in ("greedy", "sampled"):
        define(f"{_panel}/{_decoding}_success", f"success of the {_decoding} plays of the panel", "share", Best.max)
        define(f"{_panel}/{_decoding}_return", f"mean return of the {_decoding} plays of the panel", "reward", Best.max)
        define(f"{_panel}/{_decoding}_n", f"{_decoding} plays of the panel that did not fail", "count")

PHASES = ("setup", "rollout", "refill", "learner", "sync", "evaluate", "log", "save")
for _phase in PHASES:
    define(f"time/{_phase}", f"seconds spent in {_phase} since the previous step", "s", Best.mean)
