"""Engine and learner are one policy: first-step identity (A2), support (A6, A7), agreement (A1, A3)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from agentrl.doctor.case import Case, nothing, trial
from agentrl.doctor.finding import check
from agentrl.engine.base import Request, Sampling
from agentrl.learner import OldLogprobs
from agentrl.types import Turn

SEQUENCES = 32  # turns whose logprobs are compared, at most
PROMPTS = 4  # from which single tokens are drawn
LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # shares of the distribution's tail that are looked at
TEMPERATURES = (0.7, 1.3)  # at which engine and learner are also compared


@check(
    "identity: no noise",
    "the same tokens get the same logprobs twice, in training mode and out of it",
    "",
    "something in the model is random: switch off dropout (attention_dropout, hidden dropout, LoRA dropout)",
)
def no_noise(case: Case) -> tuple[bool | None, str, str]:
    policy, told = case.run.policy, "largest gap 0 on a CPU, 1e-3 nat on a GPU"
    ids = [turn.prompt_ids + turn.action_ids for turn in turns_of(case, sampled=False)[:4]]
    if not ids:
        return None, "no turn was played", told
    found = []
    for mode in (policy.train, policy.train, policy.eval):
        mode()
        found.append(torch.tensor([x for row in policy.logprobs(ids, 1.0) for x in row]))
    policy.eval()
    gap = max(float((found[0] - other).abs().max()) for other in found[1:])
    return gap <= (0.0 if policy.device.type == "cpu" else 1e-3), f"{gap:.1e} nat", told


@check(
    "identity: first step",
    "before any update the ratio of new and old policy is 1 and every KL is 0",
    "|ratio - 1| and KL at most 1e-6",
    "the learner changes the policy before it learns, or the reference is another model",
)
def first_step(case: Case) -> tuple[bool | None, str]:
    if why := nothing(case):
        return None, why
    metrics = trial(case, case.used, old_logprobs=OldLogprobs.recompute).metrics
    if "learner/ratio" not in metrics:
        return None, "no row was learned from"
    off = abs(metrics["learner/ratio"] - 1.0)
    divergence = max(metrics["learner/kl_old"], metrics.get("learner/kl_ref", 0.0))
    return off <= 1e-6 and divergence <= 1e-6, f"|ratio - 1| {off:.1e}, KL {divergence:.1e} nat"


@check(
    "support: whole vocabulary",
    "the engine draws from the whole distribution, no top-p, top-k or min-p, at the learner's temperature",
    "",
    "sample with top_p=1, top_k=-1, min_p=0 and the same temperature; look for generation_config.json of the model",
)
def support(case: Case) -> tuple[bool | None, str, str]:
    told = f"chance of such draws at least {case.doctor.chance:g}"
    tails = [tail for _, tail, _ in draws(case, case.run.rollout.temperature)]
    if not tails:
        return None, "no prompt was played", told
    chances = {}
    for level in LEVELS:
        below = sum(tail < level for tail in tails)
        chances[level] = min(
            1.0, 2 * len(LEVELS) * min(at_most(below, len(tails), level), at_least(below, len(tails), level))
        )
    worst = min(chances, key=lambda level: chances[level])
    below = sum(tail < worst for tail in tails)
    expected = f"{below} of {len(tails)} draws in the least likely {worst:.0%}, expected {worst * len(tails):.0f}"
    figure = f"{expected}; chance {chances[worst]:.0e}"
    return chances[worst] >= case.doctor.chance, figure, told


@check(
    "support: the sampled token's logprob",
    "the logprob that the engine tells is that of the token it drew",
    "",
    "the engine tells another token's logprob, or one before temperature or after truncation (vLLM: processed)",
)
def own_logprob(case: Case) -> tuple[bool | None, str, str]:
    told = f"largest gap {case.tolerance:g} nat"
    gaps = [gap for _, _, gap in draws(case, case.run.rollout.temperature)]
    return (max(gaps) <= case.tolerance, f"{max(gaps):.1e} nat", told) if gaps else (None, "no prompt was played", told)


@check(
    "support: temperature",
    "engine and learner mean the same by a temperature",
    "",
    "apply the temperature to the logits on both sides, before the logprobs are taken",
)
def temperature(case: Case) -> tuple[bool | None, str, str]:
    told = f"largest gap {case.tolerance:g} nat at temperatures {', '.join(map(str, TEMPERATURES))}"
    gaps = [gap for t in TEMPERATURES for _, _, gap in draws(case, t, 64)]
    return (max(gaps) <= case.tolerance, f"{max(gaps):.1e} nat", told) if gaps else (None, "no prompt was played", told)


def draws(case: Case, temperature: float, count: int = 0) -> list[tuple[int, float, float]]:
    """Single tokens drawn by the engine: (id, how much of the learner's distribution is less likely, gap of the
    logprob that the engine told to the learner's of this token). The second is uniform where all is well; ties are
    broken by chance."""
    turns = turns_of(case, sampled=False)
    prompts = list(dict.fromkeys(turn.prompt_ids for turn in turns))[:PROMPTS]
    rng = random.Random(0)
    found = []
    for place, prompt in enumerate(prompts):
        logp = _next_token(case, prompt, temperature)
        each = max(1, (count or case.doctor.draws) // len(prompts))
        requests = [Request(prompt, place * 1_000_003 + i, 1) for i in range(each)]
        for answer in case.run.engine.generate(requests, Sampling(temperature, case.run.stage.chat.stop_ids)):
            own = float(logp[answer.ids[0]])
            less, same = (float(logp[part].exp().sum()) for part in (logp < own, logp == own))
            found.append((answer.ids[0], less + rng.random() * same, abs(answer.logprobs[0] - own)))
    return found


@torch.no_grad()
def _next_token(case: Case, prompt: tuple[int, ...], temperature: float) -> torch.Tensor:
    """The learner's log-distribution of the token behind a prompt, ``[vocabulary]`` float64, by its whole model."""
    policy = case.run.policy
    ids = torch.tensor([prompt], device=policy.device)
    with torch.autocast(policy.device.type, torch.bfloat16, enabled=policy.place.autocast):
        logits = policy.module(input_ids=ids, use_cache=False).logits[0, -1]
    return torch.log_softmax(logits.double() / temperature, -1).cpu()


@check(
    "agreement: spread",
    "the mean factor between the learner's and the engine's probability of a played token",
    "",
    "same weights, other kernels: take engine.dtype=float32, or learner.old_logprobs=recompute learner.tis_cap=2.0",
)
def spread(case: Case) -> tuple[bool | None, str, str]:
    told = f"at most {case.doctor.mismatch:g}"
    gaps = gaps_of(case)
    if not len(gaps):
        return None, "no engine sampled these actions", told
    mean = float(gaps.abs().exp().mean())
    return (
        mean <= case.doctor.mismatch,
        f"{mean:.6f} over {len(gaps):,} tokens, the worst {float(gaps.abs().max()):.1e} nat",
        told,
    )


@check(
    "agreement: bias",
    "the mean ratio of the learner's to the engine's probability",
    "",
    "one side shifts all logprobs one way: look at temperature, truncation and precision of the logits",
)
def bias(case: Case) -> tuple[bool | None, str, str]:
    told = f"1 +- {case.doctor.mismatch_bias:g}"
    gaps = gaps_of(case)
    if not len(gaps):
        return None, "no engine sampled these actions", told
    mean = float(gaps.exp().mean())
    return abs(mean - 1.0) <= case.doctor.mismatch_bias, f"{mean:.6f}", told


@check(
    "agreement: KL",
    "KL between engine and learner per sampled token, both ways",
    "",
    "as for the spread; a KL that is large one way alone is a truncated support",
)
def both_ways(case: Case) -> tuple[bool | None, str, str]:
    told = f"at most {case.doctor.mismatch_kl:g} nat"
    gaps = gaps_of(case)  # log learner - log engine, under draws of the engine
    if not len(gaps):
        return None, "no engine sampled these actions", told
    ratio = gaps.exp()
    one, other = float((ratio - 1 - gaps).mean()), float((ratio * gaps - ratio + 1).mean())
    figure = f"engine to learner {one:.1e}, learner to engine {other:.1e} nat"
    return max(one, other) <= case.doctor.mismatch_kl, figure, told


def turns_of(case: Case, sampled: bool = True) -> list[Turn]:
    """Turns of the small batch, of different plays first; with ``sampled`` those that an engine sampled."""
    plays = [[turn for turn in play.turns if turn.logprobs or not sampled] for play in case.plays]
    longest = max(map(len, plays), default=0)
    return [turns[i] for i in range(longest) for turns in plays if i < len(turns)]


def gaps_of(case: Case, turns: Sequence[Turn] | None = None) -> torch.Tensor:
    """``log learner - log engine`` of sampled tokens, float64 ``[tokens]``."""
    some = list(turns_of(case) if turns is None else turns)[:SEQUENCES]
    found: list[float] = []
    for turn in some:
        ids = turn.prompt_ids + turn.action_ids
        own = case.run.policy.logprobs([ids], case.run.rollout.temperature)[0][-len(turn.action_ids) :]
        found += [a - b for a, b in zip(own, turn.logprobs, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def at_most(count: int, n: int, share: float) -> float:
    """Chance of at most ``count`` of ``n`` draws, each with chance ``share``."""
    return min(1.0, sum(_binomial(k, n, share) for k in range(count + 1)))


def at_least(count: int, n: int, share: float) -> float:
    """Chance of at least ``count`` of ``n`` draws."""
    return min(1.0, sum(_binomial(k, n, share) for k in range(count, n + 1)))


def _binomial(k: int, n: int, share: float) -> float:
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(share) + (n - k) * math.log1p(-share))


CHECKS = {"sampling": (no_noise, first_step, support, own_logprob, temperature, spread, bias, both_ways)}
