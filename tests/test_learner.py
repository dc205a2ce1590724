from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentrl.errors import CheckpointError, ConfigError, DivergedError, ShapeError
from agentrl.samples import collate, micro_rows, rows, take, unique_mask
from agentrl.types import Group, Stop
from tests.families import pretrained
from tests.learning import TinyPolicy, group, learner, make, method, play, random_groups, turn, with_true_logprobs
from tests.toy import save_toy_model

CPU = torch.device("cpu")


def gradient(policy: TinyPolicy) -> torch.Tensor:
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in policy.parameters()]
    )


def loss_and_gradient(groups: list[Group], name: str = "grpo", **changes: Any) -> tuple[float, torch.Tensor]:
    """Of one optimiser step, seen just before the optimiser moves (which it is kept from doing)."""
    kept = {k: changes.pop(k) for k in list(changes) if k in ("kl_coef", "kl", "aggregation", "entropy_coef")}
    policy = changes.pop("policy", None) or TinyPolicy()
    one = learner(policy, **changes)
    seen: list[torch.Tensor] = []
    one.hand.optimizer.step = lambda: seen.append(gradient(policy).clone())  # type: ignore[method-assign, assignment]
    metrics = one.learn(groups, method(name, **kept))
    return metrics["learner/loss"], torch.stack(seen).sum(0) if seen else torch.zeros_like(policy.flat())


# ---- samples


def test_history_turns_merge_into_one_row_and_window_turns_do_not() -> None:
    first = turn((1, 2), (3, 4), (-0.1, -0.2))
    history = play([first, turn((1, 2, 3, 4, 9, 9), (5,), (-0.3,))], task="h")
    window = play([first, turn((9, 9), (5,), (-0.3,))], task="w")
    found = rows([Group(p.task, (p,)) for p in (history, window)], method("sft").advantages)
    assert [row.ids for row in found] == [(1, 2, 3, 4, 9, 9, 5), (1, 2, 3, 4), (9, 9, 5)]
    batch = collate(found, method("sft").weights, True, CPU)
    assert batch.loss_mask.int().tolist() == [[0, 0, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]
    np.testing.assert_allclose(batch.rollout_logprobs[0].numpy(), [0, 0, -0.1, -0.2, 0, 0, -0.3], rtol=1e-6)
    assert batch.attention_mask.sum(-1).tolist() == [7, 4, 3]
    assert batch.weights.sum().item() == pytest.approx(1.0)


def test_mask_is_true_exactly_on_sampled_tokens() -> None:
    for seed in range(5):
        groups = random_groups(seed, window=bool(seed % 2))
        batch = collate(rows(groups, method("sft").advantages), method("sft").weights, False, CPU)
        assert batch.tokens == sum(p.tokens for g in groups for p in g.valid)
        sampled = [token for g in groups for p in g.valid for t in p.turns for token in t.action_ids]
        assert batch.input_ids[batch.unique][batch.loss_mask].tolist() == sampled


def test_failed_plays_and_empty_plays_give_no_rows() -> None:
    failed = play([turn((1,), (2,))], stop=Stop.env_error)
    empty = play([], stop=Stop.max_tokens, member=1)
    assert rows([Group(failed.task, (failed, empty))], method("grpo").advantages) == []


def test_zero_advantage_rows_are_left_out_but_counted_in_the_weights() -> None:
    groups = [group([0.5, 0.5], "flat", tokens=3), group([1.0, 0.0], "live", tokens=1)]
    batch = collate(rows(groups, method("grpo").advantages), method("grpo").weights, True, CPU)
    assert batch.rows == 2
    assert batch.weights.sum().item() == pytest.approx(2 / 8)


def test_the_weight_of_a_group_scales_its_advantages() -> None:
    half = replace(group([1.0, 0.0]), weight=0.5)
    found = rows([half], method("grpo", std_eps=0.0).advantages)
    assert [row.advantages[0] for row in found] == [0.5, -0.5]


def test_advantages_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"task t: got arrays of \[1\] numbers, expected \[2, 2\]"):
        rows([group([1.0, 0.0])], lambda _: [np.ones(1, np.float32)])


def test_advantages_stay_with_their_play_when_members_are_missing_or_shuffled() -> None:
    """Two tasks with the same member numbers; a failed member; any order of groups and members."""
    one, two = random_groups(3, tasks=2, size=5)
    one = replace(one, trajectories=tuple(replace(p, reward=0.1 * i) for i, p in enumerate(one.trajectories)))
    broken = replace(one, trajectories=(replace(one.trajectories[0], stop=Stop.env_error), *one.trajectories[1:]))
    mixed = replace(broken, trajectories=tuple(reversed(broken.trajectories)))

    def credit(groups: list[Group]) -> dict[tuple[int, ...], tuple[float, ...]]:
        return {row.ids: tuple(row.advantages.tolist()) for row in rows(groups, method("grpo").advantages)}

    assert credit([broken, two]) == credit([two, mixed]) == credit([mixed]) | credit([two])


def test_micro_batches_cover_every_row_once_within_the_budget() -> None:
    batch = collate(rows(random_groups(1, window=True), method("sft").advantages), method("sft").weights, True, CPU)
    parts = micro_rows(batch, 40, shared=False)
    assert sorted(i for part in parts for i in part) == list(range(len(batch.input_ids)))
    micros = [take(batch, part) for part in parts]
    assert all(m.input_ids.numel() <= 40 or len(m.input_ids) == 1 for m in micros)
    assert sum(m.rows for m in micros) == batch.rows
    assert sum(m.weights.sum().item() for m in micros) == pytest.approx(1.0)
    for m in micros:
        assert torch.equal(unique_mask(m)[m.unique], m.loss_mask)


# ---- the gradient


@pytest.mark.parametrize("name", ["grpo", "dapo", "vspo", "sft", "cispo", "ppo", "reinforce_pp"])
@pytest.mark.parametrize("window", [False, True])
def test_whole_batch_equals_the_sum_of_its_micro_batches(name: str, window: bool) -> None:
    groups = with_true_logprobs(random_groups(0, window=window), TinyPolicy(1))
    exact = 1e-6 if name in ("ppo", "reinforce_pp") else 1e-12  # what the passes before the update tell is float32
    for dtype, tolerance in ((torch.float32, 3e-6), (torch.float64, exact)):
        whole = loss_and_gradient(groups, name, policy=TinyPolicy(dtype=dtype), micro_tokens=1_000_000)
        for micro_tokens in (1, 40, 100):
            part = loss_and_gradient(groups, name, policy=TinyPolicy(dtype=dtype), micro_tokens=micro_tokens)
            assert part[0] == pytest.approx(whole[0], rel=1e-6, abs=1e-7)
            assert (part[1] - whole[1]).norm() < tolerance * whole[1].norm()


@pytest.mark.parametrize("changes", [{}, {"kl_coef": 0.1}, {"entropy_coef": 0.1}, {"aggregation": "sequence"}])
def test_computing_equal_rows_once_changes_nothing(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    few = random_groups(0, tasks=2, size=2, window=True)
    groups = [
        replace(g, trajectories=tuple(replace(p, member=i, reward=0.1 * i) for i, p in enumerate(g.trajectories * 3)))
        for g in few
    ]
    once = loss_and_gradient(groups, **changes)

    def apart(found: list[Any], *rest: Any) -> Any:
        batch = collate(found, *rest)
        each = torch.arange(batch.rows)
        ids, mask = batch.input_ids[batch.unique], batch.attention_mask[batch.unique]
        return replace(batch, input_ids=ids, attention_mask=mask, unique=each)

    monkeypatch.setattr("agentrl.learner.learner.collate", apart)
    twice = loss_and_gradient(groups, **changes)
    assert once[0] == pytest.approx(twice[0], rel=1e-5, abs=1e-7)
    assert once[1].abs().max() > 0
    assert (once[1] - twice[1]).norm() < 1e-6 * once[1].norm()


def test_equal_rewards_leave_weights_and_momentum_untouched() -> None:
    policy = TinyPolicy()
    one = learner(policy, weight_decay=0.1)
    live = with_true_logprobs(random_groups(0), policy)
    one.learn(live, method("grpo"))
    assert one.moved
    before, state = policy.flat(), repr(one.state_dict()["optimizer"]["state"])
    flat = [replace(g, trajectories=tuple(replace(p, reward=0.3) for p in g.trajectories)) for g in live]
    metrics = one.learn(flat, method("grpo"))
    assert torch.equal(policy.flat(), before)
    assert repr(one.state_dict()["optimizer"]["state"]) == state
    assert metrics["learner/skipped_steps"] == 1.0
    assert not one.moved


@pytest.mark.parametrize("name", ["sft", "grpo", "vspo", "cispo", "ppo", "reinforce_pp", "dpo"])
def test_environment_tokens_get_no_gradient(name: str) -> None:
    """The loss does not depend on the logprobs the model gives to prompt and observation tokens."""
    seen: list[tuple[Any, Any]] = []

    class Watched(TinyPolicy):
        def outputs(self, *args: Any) -> Any:
            out = super().outputs(*args)
            if out.logprobs.requires_grad:  # not the passes before the update
                out.logprobs.retain_grad()
                seen.append((out.logprobs, args[2]))
            return out

    policy = Watched()
    size = 2 if name == "dpo" else 4
    learner(policy).learn(random_groups(2, size=size), method(name))
    for logprobs, mask in seen:
        assert logprobs.grad is not None
        assert (logprobs.grad[~mask] == 0).all()
        assert (logprobs.grad[mask] != 0).any()


def test_gradient_equals_finite_differences() -> None:
    groups = with_true_logprobs(random_groups(0), TinyPolicy(1))
    policy = TinyPolicy()
    policy.model.double()
    one = learner(policy)
    (batch,) = one.collate(groups, method("grpo", entropy_coef=0.05))
    batch = replace(batch, **{n: getattr(batch, n).double() for n in ("advantages", "weights", "old_logprobs")})
    grpo = method("grpo", entropy_coef=0.05)

    def loss() -> torch.Tensor:
        out = policy.outputs(batch.input_ids, batch.attention_mask, unique_mask(batch), 1.0, 0)
        out = type(out)(out.logprobs[batch.unique], out.entropy[batch.unique])
        return -(grpo.objective(batch, out) * batch.weights).sum()

    parameter = next(iter(policy.parameters()))
    (wanted,) = torch.autograd.grad(loss(), parameter)
    index = int(wanted.abs().argmax())
    with torch.no_grad():
        flat, step = parameter.view(-1), 1e-3
        flat[index] += step
        above = loss().item()
        flat[index] -= 2 * step
        below = loss().item()
    assert (above - below) / (2 * step) == pytest.approx(wanted.view(-1)[index].item(), rel=5e-3)


# ---- steps, metrics, gates


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_first_step_identity(temperature: float) -> None:
    policy = TinyPolicy()
    groups = with_true_logprobs(random_groups(0), policy, temperature)
    one = learner(policy, temperature=temperature, old_logprobs="recompute")
    metrics = one.learn(groups, method("grpo", kl_coef=0.1))
    assert metrics["learner/ratio"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["learner/kl_old"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["learner/old_gap"] < 1e-5
    assert metrics["learner/clip_frac"] == 0.0
    assert metrics["learner/logprob_gap"] < 1e-5
    assert metrics["learner/mismatch_spread"] == pytest.approx(1.0, abs=1e-5)


def test_a_wrong_temperature_is_stopped_by_the_mismatch_limit() -> None:
    policy = TinyPolicy()
    groups = with_true_logprobs(random_groups(0), policy, temperature=0.3)
    with pytest.raises(DivergedError, match="mismatch_limit"):
        learner(policy, temperature=1.0, mismatch_limit=1.05).learn(groups, method("grpo"))


def test_mismatch_counts_the_newest_version_alone() -> None:
    policy = TinyPolicy()
    fresh, stale = with_true_logprobs(random_groups(0, tasks=1), policy)[0], random_groups(5, tasks=2)[1]
    fresh = replace(fresh, trajectories=tuple(_at_version(p, 3, i) for i, p in enumerate(fresh.trajectories)))
    stale = replace(stale, trajectories=tuple(_at_version(p, 2, i) for i, p in enumerate(stale.trajectories)))
    assert learner(policy).learn([fresh, stale], method("grpo"))["learner/logprob_gap"] < 1e-5


def _at_version(p: Any, version: int, reward: float) -> Any:
    return replace(p, reward=reward, turns=tuple(replace(t, version=version) for t in p.turns))


def test_mismatch_is_reported_on_the_first_step_only() -> None:
    policy = TinyPolicy()
    one = learner(policy, minibatches=2)
    groups = with_true_logprobs(random_groups(0), policy)
    batches = one.collate(groups[1:], method("grpo"))
    reports = [one.update(batch, method("grpo")) for batch in batches]
    assert len(reports) == 2
    assert "learner/logprob_gap" in reports[0]
    assert "learner/logprob_gap" not in reports[1]


def test_clip_frac_counts_silenced_tokens_also_under_a_kl_term() -> None:
    policy = TinyPolicy()
    groups = with_true_logprobs(random_groups(0), policy)
    shifted = [
        replace(g, trajectories=tuple(replace(p, turns=tuple(map(_less_likely, p.turns))) for p in g.trajectories))
        for g in groups
    ]  # every ratio is e^1: clipped where the advantage is positive
    (batch,) = learner(policy).collate(shifted, method("grpo"))
    positive = (batch.advantages > 0).sum() / (batch.advantages != 0).sum()
    for kl_coef in (0.0, 0.1):
        metrics = learner(policy, lr=1e-9).learn(shifted, method("grpo", kl_coef=kl_coef))
        assert metrics["learner/clip_frac"] == pytest.approx(positive.item())


def _less_likely(t: Any) -> Any:
    return replace(t, logprobs=tuple(x - 1.0 for x in t.logprobs))


def test_truncated_importance_weights_scale_the_advantages() -> None:
    policy = TinyPolicy()
    true = with_true_logprobs(random_groups(0), policy)
    off = [
        replace(g, trajectories=tuple(replace(p, turns=tuple(map(_less_likely, p.turns))) for p in g.trajectories))
        for g in true
    ]  # old / rollout = e on every token, capped at 2
    plain = loss_and_gradient(true, old_logprobs="recompute")[1]
    weighted = loss_and_gradient(off, old_logprobs="recompute", tis_cap=2.0)[1]
    torch.testing.assert_close(weighted, 2.0 * plain, rtol=1e-4, atol=1e-6)


def test_importance_weights_without_own_logprobs_are_refused() -> None:
    with pytest.raises(ConfigError, match="old_logprobs=recompute"):
        make("learner", "full", tis_cap=2.0)


def test_demonstrations_have_no_logprobs_which_only_sft_forgives() -> None:
    demo = play([turn((1, 2), (3, 4), ())], 1.0)
    other = play([turn((1, 2), (5,), ())], 0.0, member=1)
    groups = [Group(demo.task, (demo, other))]
    metrics = learner().learn(groups, method("sft"))
    assert "learner/logprob_gap" not in metrics
    assert np.isfinite(metrics["learner/loss"])
    with pytest.raises(DivergedError, match="carry no logprobs"):
        learner().learn(groups, method("grpo"))


def test_sft_learns_its_demonstrations() -> None:
    one = learner(steps=60)
    demo = play([turn((1, 2), (3, 4), ()), turn((7,), (8, 9), ())])
    losses = [one.learn([Group(demo.task, (demo,))], method("sft"))["learner/loss"] for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


def test_schedules_and_warmup() -> None:
    config = make("learner", "full", schedule="linear", warmup_steps=2)
    assert [config.factor(step, 6) for step in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert make("learner", "full", schedule="cosine").factor(5, 10) == pytest.approx(0.5)
    assert make("learner", "full").factor(9, 10) == 1.0


def test_minibatches_share_the_groups_and_epochs_repeat_them() -> None:
    one = learner(minibatches=2, epochs=2)
    batches = one.collate(random_groups(0, tasks=4), method("sft"))
    assert len(batches) == 4
    tokens = sum(p.tokens for g in random_groups(0, tasks=4) for p in g.valid)
    assert sum(b.tokens for b in batches) == 2 * tokens
    assert all(b.weights.sum().item() == pytest.approx(1.0) for b in batches)


@pytest.mark.parametrize("name", ["sft", "grpo", "dapo", "vspo", "cispo"])
def test_batches_with_too_little_to_learn_from_make_steps_without_gradient(name: str) -> None:
    failed = play([turn((1,), (2,))], stop=Stop.env_error)
    lonely = Group(failed.task, (failed, play([turn((1,), (3,))], 1.0, member=1)))
    for groups in ([], [Group(failed.task, (failed,))], [lonely]):
        policy = TinyPolicy()
        before = policy.flat()
        one = learner(policy, minibatches=2, old_logprobs="recompute")
        metrics = one.learn(groups, method(name))
        learned = name == "sft" and groups == [lonely]
        assert metrics["learner/skipped_steps"] == (1.0 if learned else 2.0)
        assert torch.equal(policy.flat(), before) != learned
        assert one.moved == learned


def test_resumed_learner_continues_exactly() -> None:
    policy = TinyPolicy()
    whole = learner(policy, minibatches=2, schedule="cosine")
    batches = [with_true_logprobs(random_groups(seed), policy) for seed in range(3)]
    for groups in batches[:2]:
        whole.learn(groups, method("grpo"))
    state, weights = whole.state_dict(), {k: v.clone() for k, v in policy.model.state_dict().items()}
    state = {"optimizer": torch.load(_saved(state["optimizer"])), "step": state["step"]}
    wanted = whole.learn(batches[2], method("grpo"))
    other = TinyPolicy(9)
    other.model.load_state_dict(weights)
    again = learner(other, minibatches=2, schedule="cosine")
    again.load_state_dict(state)
    assert again.learn(batches[2], method("grpo")) == wanted
    assert torch.equal(other.flat(), policy.flat())


def _saved(state: Any) -> Any:
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_state_of_another_model_is_refused() -> None:
    state = learner().state_dict()
    state["optimizer"]["param_groups"][0]["params"] = [0, 1]
    with pytest.raises(CheckpointError, match="has 2 tensors"):
        learner().load_state_dict(state)


def test_a_non_finite_loss_stops_before_the_weights_change() -> None:
    policy = TinyPolicy()
    bad = random_groups(0)
    bad = [replace(g, trajectories=tuple(replace(p, reward=float("nan")) for p in g.trajectories)) for g in bad]
    before = policy.flat()
    with pytest.raises(DivergedError, match="finite"):
        learner(policy).learn(bad, method("grpo"))
    assert torch.equal(policy.flat(), before)


# ---- with the real policy


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}, {"dtype": "mixed"}, {"gradient_checkpointing": True}])
def test_the_real_policy_learns_under_every_way_of_holding_it(changes: dict[str, Any], tmp_path: Path) -> None:
    policy = toy_policy(tmp_path, **changes)
    plays = [play([turn((4, 5), (6 + i % 2, 2), ())], float(i % 2), member=i) for i in range(4)]
    one = learner(policy, old_logprobs="recompute")  # type: ignore[arg-type]
    given = method("grpo", kl_coef=0.01)
    first = one.learn([Group(plays[0].task, tuple(plays))], given)
    assert first["learner/old_gap"] == 0.0
    for _ in range(9):
        one.learn([Group(plays[0].task, tuple(plays))], given)
    rewarded, other = policy.logprobs([(4, 5, 7), (4, 5, 6)], 1.0)
    assert rewarded[-1] > other[-1] + 0.1


# ---- credit over the whole batch


@pytest.mark.parametrize("name", ["grpo", "vspo", "ppo", "reinforce_pp", "sft"])
@pytest.mark.parametrize("window", [False, True])
def test_the_learner_tells_what_each_token_was_credited_with(name: str, window: bool) -> None:
    groups = random_groups(4, tasks=5, window=window)
    groups[2] = replace(groups[2], weight=0.5)
    mute = play([], task=groups[3].task.id, member=9)
    groups[3] = replace(groups[3], trajectories=(mute, *groups[3].trajectories))
    one, given = learner(minibatches=2), method(name)
    batches = one.collate(groups, given)
    assert [[len(a) for a in g] for g in one.advantages] == [[p.tokens for p in g.valid] for g in groups]
    told = np.sort(np.concatenate([a for g in one.advantages for a in g]))
    learned = np.sort(torch.cat([b.advantages[b.loss_mask] for b in batches]).numpy())
    np.testing.assert_array_equal(told[told != 0], learned[learned != 0])
    if name in ("grpo", "vspo", "sft"):
        for g, ours in zip(groups, one.advantages, strict=True):
            for a, b in zip(ours, given.advantages(g), strict=True):
                np.testing.assert_allclose(a, b * g.weight, rtol=1e-6)


def test_credit_sees_the_whole_batch_once_in_order() -> None:
    """Before it is split into minibatches, with old and reference logprobs; what it answers is learned from."""
    seen: list[Any] = []
    grpo = method("grpo", kl_coef=0.1)

    class Doubling(type(grpo)):  # type: ignore[misc]
        def credit(self, batch: Any) -> Any:
            seen.append(batch)
            return replace(batch, advantages=2.0 * batch.advantages)

    doubling = Doubling(**{name: getattr(grpo, name) for name in grpo.__dataclass_fields__})
    groups = random_groups(0, tasks=4, window=True)
    whole = learner(minibatches=2, epochs=3, old_logprobs="recompute").collate(groups, doubling)
    plain = learner(minibatches=2, epochs=3, old_logprobs="recompute").collate(groups, grpo)
    (batch,) = seen
    assert batch.ref_logprobs is not None
    assert batch.play.tolist() == sorted(batch.play.tolist())
    assert batch.group.tolist() == sorted(batch.group.tolist())
    assert batch.tokens == sum(p.tokens for g in groups for p in g.valid)
    assert len(whole) == len(plain) == 6
    for doubled, single in zip(whole, plain, strict=True):
        torch.testing.assert_close(doubled.advantages, 2.0 * single.advantages)


def test_the_clipped_share_is_told_by_its_side() -> None:
    policy = TinyPolicy()
    true = with_true_logprobs(random_groups(0), policy)
    for shift, side, other in ((-1.0, "high", "low"), (1.0, "low", "high")):
        moved = [
            replace(
                g,
                trajectories=tuple(replace(p, turns=tuple(_moved(t, shift) for t in p.turns)) for p in g.trajectories),
            )
            for g in true
        ]  # every ratio is e^-shift
        metrics = learner(policy, lr=1e-9).learn(moved, method("grpo"))
        assert metrics[f"learner/clipped_{side}"] == metrics["learner/clip_frac"] > 0.1
        assert metrics[f"learner/clipped_{other}"] == 0.0


def _moved(t: Any, shift: float) -> Any:
    return replace(t, logprobs=tuple(x + shift for x in t.logprobs))


def test_kl_to_the_reference_is_reported_where_there_is_one() -> None:
    one = learner()
    groups = with_true_logprobs(random_groups(0), TinyPolicy())
    first = one.learn(groups, method("grpo", kl_coef=0.01))
    second = one.learn(groups, method("grpo", kl_coef=0.01))
    assert first["learner/kl_ref"] == 0.0
    assert second["learner/kl_ref"] > 0.0
    assert "learner/kl_ref" not in learner().learn(groups, method("grpo"))


# ---- what large models need


def toy_policy(folder: Path, **changes: Any) -> Any:
    return pretrained(save_toy_model(folder), **changes).build("cpu")


def test_settings_that_are_hardly_meant_are_warned_of(tmp_path: Path) -> None:
    adapters = toy_policy(tmp_path, lora_rank=2)
    (line,) = learner(adapters, lr=make("learner", "full").lr).cautions()
    assert "learner=lora" in line
    assert learner(adapters, lr=make("learner", "lora").lr).cautions() == []
    (line,) = learner(toy_policy(tmp_path, dtype="bfloat16")).cautions()
    assert "model.dtype=mixed" in line
    assert learner(toy_policy(tmp_path, dtype="mixed")).cautions() == []


def test_rslora_scales_by_the_root_of_the_rank(tmp_path: Path) -> None:
    for rslora, scale in ((False, 1.0), (True, 2.0)):
        module = toy_policy(tmp_path, lora_rank=4, lora_rslora=rslora).module
        layers = [layer for layer in module.modules() if hasattr(layer, "scaling") and hasattr(layer, "lora_A")]
        assert [layer.scaling["default"] for layer in layers] == [scale] * 4


@pytest.mark.parametrize("rank", [0, 2])
def test_checkpointed_activations_and_resting_moments_change_nothing(rank: int, tmp_path: Path) -> None:
    plays = [play([turn((4, 5), (6 + i % 2, 2), ())], float(i % 2), member=i) for i in range(4)]
    found = []
    for saving in (False, True):
        policy = toy_policy(tmp_path, lora_rank=rank, gradient_checkpointing=saving)
        one = learner(policy, old_logprobs="recompute", offload=saving)
        told = [one.learn([Group(plays[0].task, tuple(plays))], method("grpo", kl_coef=0.01)) for _ in range(2)]
        found.append((told, [p.detach().clone() for p in policy.parameters()]))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
