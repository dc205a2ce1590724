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
FAMILIES = ("reward",)  # reward/<part>: mean of a part of the training reward; the reward in use names its parts


def define(name: str, about: str, unit: str = "1", best: Best = Best.last) -> Metric:
    """Add a metric. Raises ValueError if its name is taken with another meaning or is not ``area/name``."""
    metric = Metric(name, about, unit, best)
    if name.count("/") != 1:
        raise ValueError(f"metric '{name}': expected area/name")
    if METRICS.get(name, metric) != metric:
        raise ValueError(f"metric '{name}': already defined as '{METRICS[name].about}'; choose another name")
    METRICS[name] = metric
    return metric


def defined(name: str) -> bool:
    """Is the metric in the table, or of a family whose members are named elsewhere?"""
    return name in METRICS or name.partition("/")[0] in FAMILIES


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
rollout/staleness            mean age in batches of the weights that sampled what is learned from    ; batches  ; mean
rollout/staleness_max        the same, of the oldest token                                           ; batches  ; max
rollout/left_behind          threads still with an environment that did not answer by its deadline   ; count    ; max
learner/loss                 loss of one optimiser step                                             ; 1        ; last
learner/grad_norm            gradient norm before clipping                                          ; 1        ; last
learner/lr                   learning rate                                                          ; 1        ; last
learner/entropy              mean entropy per sampled token                                         ; nat      ; last
learner/ratio                mean probability ratio new / old per sampled token                     ; 1        ; last
learner/kl_old               KL(old, new) per sampled token, k3 estimate                            ; nat      ; last
learner/clip_frac            share of sampled tokens with an advantage whose gradient is clipped    ; share    ; last
learner/clipped_high         the part of it that the upper clip silences (advantage above 0)         ; share    ; last
learner/clipped_low          the part of it that the lower clip silences (advantage below 0)         ; share    ; last
learner/kl_ref               KL(policy, reference) per sampled token, k3 estimate                    ; nat      ; last
learner/pairs                pairs of chosen and rejected play that were learned from                ; count    ; mean
learner/pair_margin          mean log-ratio to the reference, chosen minus rejected play             ; nat      ; last
learner/pair_accuracy        share of pairs with a positive margin                                   ; share    ; last
learner/value                mean value the critic gave to the states of sampled tokens              ; reward   ; last
learner/value_error          root mean square of return - value, before learning from it             ; reward   ; last
learner/explained_variance   1 - var(return - value) / var(return), before learning from it          ; 1        ; max
learner/critic_grad_norm     gradient norm of the critic's own weights before clipping               ; 1        ; last
learner/old_gap              largest |new - old| logprob over sampled tokens                        ; nat      ; max
learner/rows                 rows that were computed                                                ; count    ; mean
learner/tokens               sampled tokens that were computed                                      ; count    ; mean
learner/skipped_steps        optimiser steps left out because the gradient was exactly zero         ; count    ; last
learner/logprob_gap          largest |learner - engine| logprob, same weights                       ; nat      ; max
learner/mismatch_bias        mean learner / engine probability ratio, same weights; 1 = no bias     ; 1        ; last
learner/mismatch_spread      mean exp|learner - engine| logprob, same weights; 1 = no spread        ; 1        ; max
learner/mismatch_kl          KL(engine, learner) per sampled token, same weights, k3 estimate       ; nat      ; max
explore/steps                explored steps of trajectories                                         ; count    ; mean
explore/pairs                pairs that were made                                                   ; count    ; mean
explore/gap                  mean difference in reward of chosen and rejected                       ; reward   ; mean
explore/calls                engine calls of the exploration                                        ; count    ; mean
explore/candidates           mean candidates that the policy drew in a step                         ; count    ; mean
explore/candidates_max       most candidates of a step                                              ; count    ; max
explore/repeated             share of candidates that took over the estimate of an equal one        ; share    ; mean
explore/stuck                share of steps in which no candidate rose                              ; share    ; mean
explore/path_return          mean process reward at the end of the explored trajectories            ; reward   ; max
rollout/entropy              mean -log p of the tokens that the engine sampled: estimates the entropy  ; nat      ; last
rollout/task_information     what sampled tokens tell of their task; 0 = template collapse           ; nat      ; last
speed/engine_idle            share of a batch's time in which the engine does not play                ; share    ; mean
speed/learner_idle           share of a batch's time in which the learner does not learn              ; share    ; mean
speed/tokens                 sampled tokens per second of playing, refill included                  ; tokens/s ; mean
memory/rss                   largest resident memory of this process so far                         ; MiB      ; max
sync/canary_gap              largest |learner - engine| logprob of the canaries after a push        ; nat      ; max
"""

for _line in _TABLE.strip().splitlines():
    _text, _unit, _best = (part.strip() for part in _line.rsplit(";", 2))
    _name, _about = _text.split(None, 1)
    define(_name, _about, _unit, Best(_best))

for _n in range(1, 9):
    _more = " or more" if _n == 8 else ""
    define(f"explore/candidates_{_n}", f"share of explored steps that drew {_n}{_more} candidates", "share", Best.mean)
for _third in ("initial", "middle", "final"):
    define(f"explore/rising_{_third}", f"share of rising first candidates, {_third} third of trajectories", "share")

ALARMS = (
    "entropy_low", "entropy_high", "sameness", "mismatch", "mismatch_kl", "truncated", "failed", "flat", "idle",
    "slower",
)  # fmt: skip
for _alarm in ALARMS:
    define(f"alarm/{_alarm}", f"the figure at which alarm {_alarm} rang: docs/troubleshooting.md", "1", Best.max)

PANELS = ("val", "before", "after", "eval")  # every eval.every steps; before and after training; agentrl eval
for _panel in PANELS:
    for _decoding in ("greedy", "sampled"):
        define(f"{_panel}/{_decoding}_success", f"success of the {_decoding} plays of the panel", "share", Best.max)
        define(f"{_panel}/{_decoding}_return", f"mean return of the {_decoding} plays of the panel", "reward", Best.max)
        define(f"{_panel}/{_decoding}_n", f"{_decoding} plays of the panel that did not fail", "count")
        define(f"{_panel}/{_decoding}_steps", "mean actions of all plays, the cap for a failure (ASAT)", "count")
        define(f"{_panel}/{_decoding}_steps_success", "mean actions of the successful plays (ASST)", "count")

PHASES = ("setup", "rollout", "refill", "learner", "sync", "evaluate", "log", "save")
for _phase in PHASES:
    define(f"time/{_phase}", f"seconds spent in {_phase} since the previous step", "s", Best.mean)
    define(f"memory/peak_{_phase}", f"most resident memory of this process in {_phase}", "MiB", Best.max)
    define(f"memory/gpu_peak_{_phase}", f"most memory of PyTorch on its GPU in {_phase}", "MiB", Best.max)
