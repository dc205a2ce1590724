"""Weights on their way: into the engine (A15), and through a checkpoint (A20)."""

from __future__ import annotations

import time

import torch

from agentrl.digest import Digest, weights_digest
from agentrl.doctor.case import Case, fresh_learner, nothing, put
from agentrl.doctor.finding import check
from agentrl.doctor.sampling import gaps_of, turns_of
from agentrl.engine.base import Request, Sampling
from agentrl.types import Message, Turn

AGAIN = 16  # actions sampled anew after a push
AFTER = 3.0  # times that the step must have moved logprobs by more than engine and learner may then differ


@check(
    "sync: a step with a gradient",
    "after a step whose gradient is not zero the engine has the learner's weights: checksum, change, canaries",
    "",
    "new weights do not reach the engine: what it plays is not what learns. Report it with doctor.json",
)
def arrives(case: Case) -> tuple[bool | None, str, str]:
    told = f"checksums equal, gap at most {case.tolerance:g} nat"
    if why := nothing(case):
        return None, why, told
    run = case.run
    parameters = run.policy.parameters()
    before = [p.detach().clone() for p in parameters]
    canaries = [turn.prompt_ids + turn.action_ids for turn in turns_of(case, sampled=False)[:4]]
    first = [x for row in run.engine.logprobs(canaries) for x in row]
    try:
        learner = fresh_learner(case, lr=case.doctor.step_lr)
        learner.learn(case.used, run.method, run.step)
        if not learner.moved:
            return None, "the gradient of the small batch is zero: raise doctor.tasks", told
        seen = run.sync.look(run.engine, canaries)
        begin = time.perf_counter()
        run.sync.push(run.policy, run.engine, run.step + 1, True, seen)
        case.seconds["sync"] = time.perf_counter() - begin
        run.sync.push(run.policy, run.engine, run.step + 2, False, run.sync.look(run.engine, canaries))
        now = [x for row in run.engine.logprobs(canaries) for x in row]
        moved = max(abs(a - b) for a, b in zip(first, now, strict=True))
        apart = float(gaps_of(case, _fresh(case)).abs().max())
    finally:
        put(parameters, before)
        run.engine.load(run.policy.named_weights(), run.step)
    figure = f"the step moved logprobs by up to {moved:.1e}; freshly sampled tokens then differ by {apart:.1e} nat"
    return apart <= case.tolerance and moved > AFTER * apart, figure, told


def _fresh(case: Case) -> list[Turn]:
    """Actions that the engine samples now, from prompts of the small batch."""
    run = case.run
    prompts = [turn.prompt_ids for turn in turns_of(case, sampled=False)[:AGAIN]]
    limit = int(run.cfg.model.action_tokens)
    sampling = Sampling(run.rollout.temperature, run.stage.chat.stop_ids)
    answers = run.engine.generate([Request(prompt, i, limit) for i, prompt in enumerate(prompts)], sampling)
    return [Turn(p, a.ids, a.logprobs, Message("assistant", ""), ()) for p, a in zip(prompts, answers, strict=True)]


@check(
    "resume: round trip",
    "what a checkpoint gives back is what was saved, and the next step from it is the same",
    "equal digests",
    "a resumed run would be another one: look at the files of the checkpoint and at the disk",
)
def round_trip(case: Case) -> tuple[bool | None, str]:
    run = case.run
    parameters = run.policy.parameters()
    begin = [p.detach().clone() for p in parameters]
    own = run.learner
    try:
        run.learner = fresh_learner(case)
        if not nothing(case):
            run.learner.learn(case.used, run.method, run.step)
        run.saved = None  # there may be a checkpoint of this step, of other weights
        run.save()
        saved = _digests(case)
        if not nothing(case):
            run.learner.learn(case.used, run.method, run.step)
        once = _digests(case)
        run.learner = fresh_learner(case)
        put(parameters, begin)  # as a new process begins: a reference of KL is taken from there
        run.restore()
        back = _digests(case)
        if not nothing(case):
            run.learner.learn(case.used, run.method, run.step)
        twice = _digests(case)
    finally:
        run.learner = own
        put(parameters, begin)
    again = "equal" if once == twice else "different"
    exact = run.policy.device.type == "cpu"  # kernels of a GPU may sum in another order each time
    figure = f"weights and optimiser {'equal' if saved == back else 'different'}, the next step from them {again}"
    return saved == back and (once == twice or not exact), figure


def _digests(case: Case) -> tuple[Digest, Digest]:
    """Of the policy's weights and of the optimiser's tensors."""
    state = case.run.learner.state_dict()["optimizer"]["state"]
    tensors = [
        (f"{i}.{name}", t.float()) for i, s in state.items() for name, t in s.items() if isinstance(t, torch.Tensor)
    ]
    return weights_digest(case.run.policy.named_weights(), torch.float32), weights_digest(tensors, torch.float32)


CHECKS = {"sync": (arrives,), "resume": (round_trip,)}
