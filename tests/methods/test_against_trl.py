"""Loss and gradient equal to an independent implementation: TRL's GRPO and DPO trainers on the same tokens."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.types import Group
from tests.learning import TinyPolicy, learner, method, play, turn
from tests.toy import save_toy_model

trl = pytest.importorskip("trl", reason="TRL is not installed (pip install agentrl[dev])")
datasets = pytest.importorskip("datasets", reason="datasets is not installed (pip install agentrl[dev])")

BIASED, UNBIASED = ({"use_bias_correction_kl": corrected} for corrected in (False, True))
PROMPTS = [(4, 5, 8), (6, 7), (4, 4, 5, 6, 8)]
ACTIONS = [(5, 2), (6, 7, 2), (4, 4, 4, 2), (7, 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def groups() -> list[Group]:
    """Three tasks, four plays each; old logprobs so far from the policy's that the clip acts on many tokens."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for t, prompt in enumerate(PROMPTS):
        plays = []
        for m, action in enumerate(ACTIONS):
            old = (-2.2 + 0.8 * torch.randn(len(action), generator=generator)).tolist()
            plays.append(play([turn(prompt, action, old)], float(torch.rand((), generator=generator)), f"t{t}", m))
        found.append(Group(plays[0].task, tuple(plays)))
    return found


def trl_loss(
    folder: Path, tmp_path: Path, advantages: torch.Tensor, ref: torch.Tensor, **config: Any
) -> tuple[float, Any]:
    """(loss, gradient of every weight) by TRL."""
    rows = [(p.turns[0].prompt_ids, p.turns[0].action_ids, p.turns[0].logprobs) for g in groups() for p in g.valid]
    arguments = trl.GRPOConfig(
        str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=12, num_generations=4,
        gradient_checkpointing=False, bf16=False, max_completion_length=9, **config,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        str(folder),
        lambda **columns: [0.0] * len(columns["prompts"]),
        arguments,
        datasets.Dataset.from_dict({"prompt": ["red"] * 12}),
    )
    trainer.current_gradient_accumulation_steps = 1
    inputs = {
        "prompt_ids": pad([p for p, _, _ in rows], left=True),
        "prompt_mask": pad([[1] * len(p) for p, _, _ in rows], left=True),
        "completion_ids": pad([a for _, a, _ in rows]),
        "completion_mask": pad([[1] * len(a) for _, a, _ in rows]),
        "old_per_token_logps": pad([old for _, _, old in rows]),
        "ref_per_token_logps": ref,
        "advantages": advantages,
        "num_items_in_batch": torch.tensor(sum(len(a) for _, a, _ in rows)),
    }
    trainer.model.eval()  # no accumulation
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


def pad(rows: list[Any], left: bool = False) -> torch.Tensor:
    width = max(map(len, rows))
    padding = [[0] * (width - len(row)) for row in rows]
    return torch.tensor(
        [fill + list(row) if left else list(row) + fill for row, fill in zip(rows, padding, strict=True)]
    )


class Loaded(TinyPolicy):
    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def reference(self) -> TinyPolicy:
        """A policy some way off, so that the KL term matters."""
        other = copy.deepcopy(self)
        torch.manual_seed(1)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(0.02 * torch.randn_like(p))
        return other


def our_loss(folder: Path, given: Any) -> tuple[float, Any, torch.Tensor, torch.Tensor]:
    """(loss, gradients, advantages [rows], reference logprobs [rows, completion]) by agentrl."""
    policy = Loaded(folder)
    one = learner(policy)
    ours = groups()
    (batch,) = one.collate(ours, given)
    seen: list[Any] = []
    one.hand.optimizer.step = lambda: seen.append({n: p.grad.clone() for n, p in policy.model.named_parameters()})  # type: ignore[method-assign, assignment]
    loss = one.update(batch, given)["learner/loss"]
    advantages = torch.tensor([a[0] for g in ours for a in given.advantages(g)])
    reference = policy.reference()
    ref = []
    for g in ours:
        for p in g.valid:
            t = p.turns[0]
            ids = torch.tensor([t.prompt_ids + t.action_ids])
            with torch.no_grad():
                out = reference.outputs(ids, torch.ones_like(ids), torch.ones_like(ids), 1.0, 0)
            ref.append(out.logprobs[0, len(t.prompt_ids) :].tolist())
    return loss, seen[0], advantages, pad(ref)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [  # biased KL: k3 as in the paper; unbiased: times the importance ratio
        ("grpo", {"aggregation": "sequence"}, {"loss_type": "grpo"}),
        ("grpo", {"aggregation": "token", "kl_coef": 0.2}, {"loss_type": "bnpo", "beta": 0.2} | BIASED),
        ("grpo", {"kl_coef": 0.2, "kl": "k3_weighted"}, {"loss_type": "bnpo", "beta": 0.2} | UNBIASED),
        ("grpo", {"aggregation": "token"}, {"loss_type": "bnpo"}),
        ("grpo", {"aggregation": "constant", "constant_length": 9}, {"loss_type": "dr_grpo"}),
        ("grpo", {"aggregation": "token", "entropy_coef": 0.3}, {"loss_type": "bnpo", "entropy_coef": 0.3}),
        ("dapo", {}, {"loss_type": "dapo", "epsilon_high": 0.28}),
        ("vspo", {"aggregation": "sequence"}, {"loss_type": "grpo"}),
    ],
    ids=["grpo", "grpo+kl", "grpo+unbiased kl", "token mean", "dr_grpo", "entropy", "dapo", "vspo"],
)  # fmt: skip
def test_loss_and_gradient_equal_trl(
    name: str, ours: dict[str, Any], theirs: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    loss, gradients, advantages, ref = our_loss(folder, method(name, **ours))
    wanted, wanted_gradients = trl_loss(folder, tmp_path, advantages, ref, **({"beta": 0.0} | theirs))
    assert loss == pytest.approx(wanted, rel=1e-5, abs=1e-7)
    assert gradients.keys() == wanted_gradients.keys()
    for key, value in gradients.items():
        torch.testing.assert_close(value, wanted_gradients[key], rtol=1e-4, atol=1e-6)


def dpo_pairs() -> list[Group]:
    """Of each task two plays of unequal length, the chosen one first."""
    found = []
    for t, prompt in enumerate(PROMPTS):
        plays = [play([turn(prompt, ACTIONS[(t + m) % 4])], 1.0 - m, f"t{t}", m) for m in range(2)]
        found.append(Group(plays[0].task, tuple(plays)))
    return found


def trl_dpo_loss(folder: Path, tmp_path: Path, reference: TinyPolicy, **config: Any) -> tuple[float, Any]:
    """(loss, gradient of every weight) by TRL, from the reference's own logprobs."""
    arguments = trl.DPOConfig(
        str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=3, gradient_checkpointing=False,
        bf16=False, precompute_ref_log_probs=False, **config,
    )  # fmt: skip
    columns = {"prompt": ["red"] * 3, "chosen": ["green"] * 3, "rejected": ["blue"] * 3}
    from transformers import AutoTokenizer

    trainer = trl.DPOTrainer(
        str(folder),
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.precompute_ref_logps = True  # given below instead of made by a second model
    turns = [g.trajectories[side].turns[0] for side in range(2) for g in dpo_pairs()]
    completion = pad([[0] * len(t.prompt_ids) + [1] * len(t.action_ids) for t in turns])
    ids = pad([t.prompt_ids + t.action_ids for t in turns])
    with torch.no_grad():
        ref = reference.outputs(ids, (ids > 0).long(), completion, 1.0, 0).logprobs.sum(-1)
    inputs = {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "completion_mask": completion,
        "ref_chosen_logps": ref[:3],
        "ref_rejected_logps": ref[3:],
    }
    trainer.model.eval()
    loss = trainer._compute_loss(trainer.model, inputs, False)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_loss_and_gradient_equal_trl(beta: float, folder: Path, tmp_path: Path) -> None:
    policy = Loaded(folder)
    one, given = learner(policy), method("dpo", beta=beta)
    (batch,) = one.collate(dpo_pairs(), given)
    seen: list[Any] = []
    one.hand.optimizer.step = lambda: seen.append({n: p.grad.clone() for n, p in policy.model.named_parameters()})  # type: ignore[method-assign, assignment]
    loss = one.update(batch, given)["learner/loss"]
    wanted, gradients = trl_dpo_loss(folder, tmp_path, policy.reference(), beta=beta)
    assert abs(wanted - 0.6931) > 0.001  # the reference is some way off
    assert loss == pytest.approx(wanted, rel=1e-5)
    for key, value in seen[0].items():
        torch.testing.assert_close(value, gradients[key], rtol=1e-4, atol=1e-6)
