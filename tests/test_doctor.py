"""Each check of the doctor finds the fault that is planted for it, and says ok to the parts as they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl import config
from agentrl.cli import main
from agentrl.doctor import credit, forecast, loss, sampling, tokens, weights
from agentrl.doctor.case import FAMILIES, Case, Doctor
from agentrl.doctor.examine import CHECKS, admitted, examine
from agentrl.doctor.finding import Check, Finding
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.wrapped import Wrapped
from agentrl.errors import ConfigError
from agentrl.learner import AdamW
from agentrl.ops import k1
from agentrl.types import Message
from tests.learning import method
from tests.toy import save_toy_model
from tests.toy_run import CONF, toy_overrides

PLAIN = Doctor(
    tasks=4, draws=512, step_lr=1e-3, mismatch=1.05, mismatch_bias=0.01, mismatch_kl=1e-3, normaliser=1e-4,
    normaliser_low=0.05, kl=1e-6, chance=1e-6, memory_share=0.9, skip=[],
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def case_of(model: Path, folder: Path, *words: str) -> Case:
    cfg = config.compose("train", [*toy_overrides(model, folder), "watchdog.quiet_s=0", *words], config_dir=CONF)
    return admitted(cfg, PLAIN, folder)


@pytest.fixture(scope="module")
def healthy(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("run")
    return case_of(model, folder, "method=grpo", "context=history", "method.kl_coef=0.1", "method.kl=k2")


@pytest.fixture
def case(healthy: Case) -> Iterator[Case]:
    """The healthy case with a run of its own, whose parts a test may exchange."""
    run = copy.copy(healthy.run)
    run.learner = copy.copy(run.learner)
    before = [p.detach().clone() for p in run.policy.parameters()]
    yield replace(healthy, run=run, played=list(healthy.played), used=list(healthy.used))
    for parameter, value in zip(run.policy.parameters(), before, strict=True):
        assert torch.equal(parameter, value), "the doctor left other weights behind"


def one(check: Check, case: Case) -> Finding:
    (finding,) = check(case)
    return finding


# ---- health


def test_a_healthy_run_is_found_healthy(healthy: Case) -> None:
    findings = examine(healthy)
    assert [f.name for f in findings if f.ok is False] == []
    asked = {f.name for f in findings if f.ok}
    assert len(asked) >= 20
    assert {name.partition(":")[0] for name in asked} >= {"mask", "boundary", "loss", "support", "sync", "resume"}


@pytest.mark.parametrize(
    "words",
    ["method=sft rollout=demonstrations", "method=ppo method.kl_coef=0.05", "method=rro",
     "method=dapo model.lora_rank=4 schedule=flowing",
     *(pytest.param(words, marks=pytest.mark.slow) for words in (
         "method=vspo", "method=dpo", "method=reinforce_pp method.kl_coef=0.05"))],
    ids=lambda words: words.split()[0].removeprefix("method="),
)  # fmt: skip
def test_every_kind_of_method_is_found_healthy(words: str, model: Path, tmp_path: Path) -> None:
    case = case_of(model, tmp_path, *words.split())
    findings = [f for name, checks in CHECKS.items() if name != "forecast" for check in checks for f in check(case)]
    assert [(f.name, f.figure) for f in findings if f.ok is False] == []
    by_name = {f.name: f for f in findings}
    assert by_name["mask: tokens"].ok
    assert by_name["loss: normaliser"].ok
    if "kl_coef" in words:
        assert by_name["loss: KL gradient"].ok


# ---- masks and boundaries


class Sabotaged(AdamW):
    """Settings whose learner has its batches spoiled by ``change``."""

    change: Callable[[Any], Any]

    def build(self, policy: Any, **more: Any) -> Any:
        learner = AdamW.build(self, policy, **more)
        collate = learner.collate
        learner.collate = lambda *args: [type(self).change(batch) for batch in collate(*args)]  # type: ignore[method-assign]
        return learner


def spoil(case: Case, change: Callable[[Any], Any]) -> None:
    made = type("Spoilt", (Sabotaged,), {"change": staticmethod(change)})
    case.run.learner.config = made(**{k: getattr(case.run.learner.config, k) for k in asdict(case.run.learner.config)})


def inverted(batch: Any) -> Any:
    mask = batch.attention_mask[batch.unique] & ~batch.loss_mask
    mask[:, 0] = False
    share = mask.float() / mask.sum()
    credit = torch.where(mask, 1.0, 0.0)
    old = torch.full_like(credit, -1.0)
    return replace(batch, loss_mask=mask, weights=share, advantages=credit, old_logprobs=old, ref_logprobs=old)


def without_stop(batch: Any) -> Any:
    """The last sampled token of each row is taken for the environment's."""
    mask = batch.loss_mask.clone()
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    mask[torch.arange(len(mask)), last] = False
    return replace(batch, loss_mask=mask)


def test_an_inverted_mask_is_found(case: Case) -> None:
    spoil(case, inverted)
    assert one(tokens.mask_tokens, case).ok is False
    found = one(tokens.mask_gradient, case)
    assert found.ok is False
    assert not found.figure.startswith("0 environment tokens")


def test_a_mask_without_stop_tokens_is_found(case: Case) -> None:
    spoil(case, without_stop)
    assert one(tokens.mask_tokens, case).ok is False


class Losing:
    """A chat whose template loses the separator behind each action."""

    def __init__(self, chat: Any) -> None:
        self._chat = chat

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chat, name)

    def delta(self, observation: Sequence[Message], tools: str = "") -> tuple[int, ...]:
        return self._chat.delta(observation, tools)[1:]  # type: ignore[no-any-return]


def test_a_lost_separator_token_is_found(case: Case) -> None:
    assert one(tokens.pieces, case).ok
    case.run.stage = replace(case.run.stage, chat=Losing(case.run.stage.chat))  # type: ignore[arg-type]
    assert one(tokens.pieces, case).ok is False


def test_actions_that_were_encoded_again_are_found(case: Case) -> None:
    """One action of the record is not the one that the engine answered; its next prompt no longer extends it."""
    group = case.played[0]
    play = group.trajectories[0]
    first = replace(play.turns[0], action_ids=(7, 7, 7))
    spoilt = replace(play, turns=(first, *play.turns[1:]))
    case.played[0] = replace(group, trajectories=(spoilt, *group.trajectories[1:]))
    assert one(tokens.growth, case).ok is False
    found = one(tokens.sampled_ids, case)
    assert found.ok is False
    assert found.figure.startswith("1 of ")


# ---- the loss


class Spoilt:
    """A method with some of its answers exchanged."""

    def __init__(self, method: Any, **answers: Any) -> None:
        self._method = method
        for name, answer in answers.items():
            setattr(self, name, answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


def test_a_normaliser_of_the_micro_batch_is_found(case: Case) -> None:
    """The mean over the part at hand instead of the whole batch: the loss grows with the number of parts."""
    own = case.run.method

    def objective(batch: Any, out: Any) -> Any:
        return own.objective(batch, out) / (batch.weights * batch.loss_mask).sum()

    assert one(loss.normaliser, case).ok
    case.run.method = Spoilt(own, objective=objective)  # type: ignore[assignment]
    found = one(loss.normaliser, case)
    assert found.ok is False
    assert "micro-batches" in found.figure


def test_kl_estimators_are_told_apart(case: Case) -> None:
    """k2 and the weighted k3 pull towards the reference; k3 does it the other way round; k1 does nothing at all."""
    for name, near in (("k2", "policy, reference"), ("k3_weighted", "policy, reference"), ("k3", "reference, policy")):
        case.run.method = method("grpo", kl_coef=0.1, kl=name)
        found = one(loss.kl_gradient, case)
        assert found.ok, found.figure
        assert f"from KL({near})" in found.figure
    assert "bias 0%" not in found.figure
    plain = method("grpo", kl_coef=0.0)

    def objective(batch: Any, out: Any) -> Any:
        return plain.objective(batch, out) - 0.1 * k1(out.logprobs, batch.ref_logprobs)

    own = method("grpo", kl_coef=0.1)
    case.run.method = Spoilt(own, objective=objective)  # type: ignore[assignment]
    found = one(loss.kl_gradient, case)
    assert found.ok is False
    assert "bias 100%" in found.figure


def test_the_kl_gradient_of_the_toy_vocabulary_is_the_exact_one() -> None:
    """By finite differences of the sum that defines it."""
    logits, other = loss.toy()
    forward, _ = loss.exact_gradients()

    def divergence(theta: torch.Tensor) -> float:
        p, q = torch.log_softmax(theta, -1), torch.log_softmax(other, -1)
        return float((p.exp() * (p - q)).sum())

    for i in (0, 5):
        step = torch.zeros_like(logits)
        step[i] = 1e-5
        slope = (divergence(logits + step) - divergence(logits - step)) / 2e-5
        assert forward[i].item() == pytest.approx(slope, rel=1e-6)


# ---- engine and learner


def test_dropout_left_on_is_found(case: Case) -> None:
    noise = case.run.policy.module.get_input_embeddings().register_forward_hook(
        lambda module, _, out: torch.nn.functional.dropout(out, 0.1, module.training)
    )
    try:
        assert one(sampling.no_noise, case).ok is False
        assert one(sampling.first_step, case).ok is False
    finally:
        noise.remove()


class Altered(Wrapped):
    """An engine with what it samples or is given spoilt by ``how``."""

    def __init__(self, engine: Any, how: str) -> None:
        super().__init__(engine)
        self.how = how

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        if self.how == "deaf":  # applies no temperature
            return super().generate(requests, replace(sampling, temperature=1.0))
        if self.how == "top_p":  # half of the words are never drawn; logprobs are those of the whole distribution
            found = super().generate(
                [replace(r, seed=r.seed + k * 7919) for r in requests for k in range(12)], sampling
            )
            best = [
                max(found[i : i + 12], key=lambda c: (c.logprobs[0] > -1.9, c.ids)) for i in range(0, len(found), 12)
            ]
            return [replace(c, version=self.version) for c in best]
        return [replace(c, logprobs=(-0.5, *c.logprobs[1:])) for c in super().generate(requests, sampling)]

    def load(self, weights: Any, version: int) -> None:
        if self.how != "stale":
            super().load(weights, version)


def altered(case: Case, how: str) -> None:
    case.run.stage = replace(case.run.stage, engine=Altered(case.run.stage.engine, how))


def test_truncated_sampling_is_found(case: Case) -> None:
    assert one(sampling.support, case).ok
    altered(case, "top_p")
    assert one(sampling.support, case).ok is False
    assert one(sampling.own_logprob, case).ok  # its logprobs are right: they do not give it away


def test_another_tokens_logprob_is_found(case: Case) -> None:
    altered(case, "other logprob")
    assert one(sampling.own_logprob, case).ok is False
    assert one(sampling.support, case).ok


def test_an_engine_without_temperature_is_found(case: Case) -> None:
    assert one(sampling.temperature, case).ok
    altered(case, "deaf")
    assert one(sampling.temperature, case).ok is False


def test_engine_logprobs_of_other_weights_are_found(case: Case) -> None:
    """Every logprob of the record is half a nat too low: bias and spread are e^.5, the KLs follow by hand."""

    def lower(group: Any) -> Any:
        return replace(group, trajectories=tuple(
            replace(p, turns=tuple(replace(t, logprobs=tuple(x - 0.5 for x in t.logprobs)) for t in p.turns))
            for p in group.trajectories
        ))  # fmt: skip

    case.played[:] = [lower(group) for group in case.played]
    factor = 2.718281828**0.5
    for check, figure in ((sampling.spread, factor), (sampling.bias, factor)):
        found = one(check, case)
        assert found.ok is False
        assert float(found.figure.split()[0]) == pytest.approx(factor, rel=1e-4), figure
    found = one(sampling.both_ways, case)
    assert found.ok is False
    words = found.figure.split()
    assert float(words[3].rstrip(",")) == pytest.approx(factor - 1.5, rel=0.05)
    assert float(words[7]) == pytest.approx(0.5 * factor - factor + 1, rel=0.05)


def test_binomial_tails() -> None:
    assert sampling.at_most(0, 10, 0.5) == pytest.approx(2**-10)
    assert sampling.at_least(9, 10, 0.5) == pytest.approx(11 / 1024)
    assert sampling.at_most(10, 10, 0.3) == pytest.approx(1.0)


# ---- groups


def test_wrong_group_ids_are_found(case: Case) -> None:
    """In the record, a member that plays another task; in the batch, the numbers of the groups moved by one row."""
    one_group, other = case.played[0], case.played[1]
    case.played[0] = replace(one_group, trajectories=(other.trajectories[0], *one_group.trajectories[1:]))
    assert one(credit.one_task, case).ok is False
    assert one(credit.row_numbers, case).ok
    spoil(case, lambda batch: replace(batch, group=batch.group.roll(1)))
    assert one(credit.row_numbers, case).ok is False


def test_advantages_at_the_wrong_play_are_found(case: Case) -> None:
    spoil(case, lambda batch: replace(batch, advantages=-batch.advantages))
    assert one(credit.row_numbers, case).ok is False


def test_a_method_that_goes_by_places_is_found(case: Case) -> None:
    own = case.run.method

    def advantages(group: Any) -> Any:
        return [values * (i + 1) for i, values in enumerate(own.advantages(group))]

    case.run.method = Spoilt(own, advantages=advantages)  # type: ignore[assignment]
    assert one(credit.shuffled, case).ok is False
    assert one(credit.balance, case).ok is False


# ---- weights


def test_stale_weights_are_found(case: Case) -> None:
    altered(case, "stale")
    found = one(weights.arrives, case)
    assert found.ok is False
    assert "another policy than the one that learns" in found.figure


def test_a_sampler_that_goes_on_with_old_weights_is_found(case: Case) -> None:
    """Checksum and canaries are those of the new weights; what is sampled comes from a copy of the old ones."""
    engine = case.run.stage.engine
    old = copy.deepcopy(engine._engine._engine)  # type: ignore[attr-defined]

    class Split(Wrapped):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
            return old.generate(requests, sampling)  # type: ignore[no-any-return]

    case.run.stage = replace(case.run.stage, engine=Split(engine))
    found = one(weights.arrives, case)
    assert found.ok is False
    assert "freshly sampled tokens then differ" in found.figure


def test_a_checkpoint_that_loses_something_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(weights.round_trip, case).ok
    restore = case.run.policy.restore

    def forget(folder: Path) -> None:
        restore(folder)
        case.run.policy.parameters()[0].data[0] += 1.0

    monkeypatch.setattr(case.run.policy, "restore", forget)
    assert one(weights.round_trip, case).ok is False


# ---- forecast, command line


def test_a_forecast_beyond_the_machine_is_found(case: Case) -> None:
    found = one(forecast.memory, case)
    assert found.ok
    case.doctor = replace(case.doctor, memory_share=1e-6)
    assert one(forecast.memory, case).ok is False


def test_a_check_that_breaks_is_a_finding(case: Case) -> None:
    def advantages(_: Any) -> Any:
        raise IndexError("list index out of range")

    case.run.method = Spoilt(case.run.method, advantages=advantages)  # type: ignore[assignment]
    found = one(credit.shuffled, case)
    assert found.ok is False
    assert found.figure == "IndexError: list index out of range"


def test_unknown_families_are_refused() -> None:
    with pytest.raises(ConfigError, match="got masks, expected some of mask, boundary"):
        replace(PLAIN, skip=["masks"])


def test_the_command_tells_and_writes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [w for w in toy_overrides(model, tmp_path / "run") if not w.startswith(("run_dir", "log"))]
    words += ["method=grpo", "doctor.skip=[resume,sync,groups,boundary]", f"out={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--config-dir", str(CONF), *words])
    told = capsys.readouterr().out
    assert (stop.value.code, "checks ok" in told) == (0, True), told
    written = json.loads((tmp_path / "doctor.json").read_text())
    assert written["ok"] is True
    assert {"name", "checked", "figure", "threshold", "ok", "remedy"} == set(written["findings"][0])
    assert not (tmp_path / "run").exists()
    rest = ",".join(name for name in FAMILIES if name != "forecast")
    with pytest.raises(SystemExit) as stop:
        main(
            ["doctor", "--config-dir", str(CONF), *words[:-2], f"doctor.skip=[{rest}]", "doctor.memory_share=0.000001"]
        )
    assert stop.value.code == 1
    assert "NOT OK  forecast: memory" in capsys.readouterr().out
