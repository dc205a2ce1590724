"""A learner in several real processes: the update of one, whoever has which share, and an end when one is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentrl.cluster.here import Here
from agentrl.digest import weights_digest
from agentrl.distributed.leader import Leader
from agentrl.distributed.member import serve
from agentrl.distributed.parallel import FSDP, Data, Several
from agentrl.distributed.team import Alone, buckets, deal
from agentrl.errors import ConfigError, TeamError
from agentrl.learner import Learner
from agentrl.methods.grpo import GRPO
from agentrl.model import Pretrained
from tests import families
from tests.families import save_model
from tests.learning import make, method, random_groups

METHODS = {
    "grpo": {"kl_coef": 0.1, "entropy_coef": 0.01}, "dapo": {}, "vspo": {}, "cispo": {}, "sft": {}, "ppo": {},
    "reinforce_pp": {}, "single_turn": {}, "rltr_grpo": {}, "dpo": {}, "rro": {}, "eto": {}, "ipr": {},
    "fixed_size": {}, "best_of_n": {},
}  # fmt: skip
#: the sign of margins that are zero but for rounding before the first update; what depends on the micro-batches
UNEQUAL = ("learner/pair_accuracy", "learner/padding", "learner/shared")
ABOUT = {"temperature": 1.0, "steps": 10, "seed": 0}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return families.pretrained(save_model("qwen3", tmp_path_factory.mktemp("model")))


@contextmanager
def together(parallel: Several) -> Iterator[Leader]:
    team = parallel.start(serve, "cpu", Here())
    assert isinstance(team, Leader)
    try:
        yield team
    finally:
        team.close()


def learner(pretrained: Pretrained, parallel: Several | None = None, team: Any = None, **changes: Any) -> Learner:
    """Here alone, or in every process of a team."""
    given = {"lr": 1e-3, "minibatches": 1, "mismatch_limit": 0.0, "old_logprobs": "recompute", "max_grad_norm": 0.5}
    config = make("learner", "full", **given | changes)
    if parallel is None:
        return config.build(pretrained.build("cpu"), **ABOUT)  # type: ignore[no-any-return]
    policy = parallel.policy(pretrained, "cpu", 0, team)
    team.others("member.learner", config, ABOUT)
    return config.build(policy, **ABOUT, team=team)  # type: ignore[no-any-return]


def taught(one: Learner, name: str, batches: int = 1) -> dict[str, float]:
    """Metrics of the last batch."""
    given = method(name, **METHODS[name])
    for seed in range(batches):
        groups = random_groups(seed, tasks=5, size=2 if "pairs" in given.needs else 4, window=True)
        metrics = one.learn(groups, given)
    return metrics


def near(ours: Learner, wanted: Learner, tolerance: float = 1e-6) -> None:
    """Weights and moments (of which the first is the gradient, up to a factor) are equal up to rounding."""
    mine, theirs = ours.state_dict()["optimizer"]["state"], wanted.state_dict()["optimizer"]["state"]
    assert mine.keys() == theirs.keys()
    for key in ("exp_avg", "exp_avg_sq"):
        gap = sum(float((mine[i][key] - theirs[i][key]).norm() ** 2) for i in mine) ** 0.5
        assert gap <= tolerance * sum(float(theirs[i][key].norm() ** 2) for i in mine) ** 0.5
    weights = dict(wanted.policy.named_weights())
    for name, weight in ours.policy.named_weights():
        assert (weight - weights[name]).norm() <= 2e-5 * weights[name].norm()


@pytest.fixture(scope="module")
def alone(pretrained: Pretrained) -> dict[str, tuple[Learner, dict[str, float]]]:
    """What each method learns in one process, all rows in one micro-batch."""
    found = {}
    for name in METHODS:
        one = learner(pretrained)
        found[name] = (one, taught(one, name))
    return found


FOUR = pytest.param(Data(4, 120.0, 60.0), marks=pytest.mark.slow)


@pytest.mark.parametrize("parallel", [Data(2, 120.0, 60.0), FSDP(2, 120.0, 60.0, False), FOUR])
def test_every_method_learns_the_same_in_any_number_of_processes(
    parallel: Several, pretrained: Pretrained, alone: dict[str, tuple[Learner, dict[str, float]]]
) -> None:
    """Whatever the micro-batches: of 40 tokens here, of all tokens there."""
    with together(parallel) as team:
        for name, (wanted, metrics) in alone.items():
            ours = learner(pretrained, parallel, team, micro_tokens=40)
            told = taught(ours, name)
            for each in (told, metrics):
                for key in UNEQUAL:
                    each.pop(key, None)
            assert told == pytest.approx(metrics, rel=1e-4, abs=1e-6), name
            near(ours, wanted)
            for plays, theirs in zip(ours.seen, wanted.seen, strict=True):
                for seen, there in zip(plays, theirs, strict=True):
                    np.testing.assert_allclose(seen, there, rtol=1e-4, atol=1e-5)  # NaN where nothing was computed
        moved, there = learner(pretrained, parallel, team, micro_tokens=40), learner(pretrained)
        wanted_kl = taught(there, "grpo", 3)["learner/kl_ref"]  # the reference is another policy by now
        assert taught(moved, "grpo", 3)["learner/kl_ref"] == pytest.approx(wanted_kl, rel=1e-3)
        again = [taught(learner(pretrained, parallel, team), "grpo", 2) for _ in range(2)]
        assert again[0] == again[1]  # the same command twice: the same bits


@pytest.mark.parametrize("parallel", [FSDP(4, 120.0, 60.0, True), Data(2, 120.0, 60.0)])
def test_checkpoints_are_the_same_for_any_number_of_processes(
    parallel: Several, pretrained: Pretrained, tmp_path: Path
) -> None:
    """Written by several and continued by one, and the other way round: full weights with a critic, and adapters."""
    with together(parallel) as team:
        for name, source in (
            ("ppo", pretrained),
            ("grpo", replace(pretrained, lora_rank=2, gradient_checkpointing=True)),
        ):
            several, one = learner(source, parallel, team), learner(source)
            taught(several, name)
            several.policy.save(tmp_path / name)
            one.anchor()  # as a run does: KL is measured from where it started
            one.policy.restore(tmp_path / name)
            one.load_state_dict(deepcopy(several.state_dict()))
            digests = [weights_digest(each.policy.named_weights(), torch.float32) for each in (several, one)]
            assert digests[0] == digests[1]
            taught(several, name)
            taught(one, name)
            near(several, one)
            one.policy.save(tmp_path / f"{name}-one")
            assert names(tmp_path / name) == names(tmp_path / f"{name}-one")
            back = learner(source, parallel, team)
            back.anchor()
            back.policy.restore(tmp_path / f"{name}-one")
            back.load_state_dict(deepcopy(one.state_dict()))
            taught(back, name)
            taught(one, name)
            near(back, one)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- losing one


class Broken(GRPO):
    """Fails in the process that does not lead."""

    def objective(self, batch: Any, out: Any) -> Any:
        if torch.distributed.get_rank():
            raise ZeroDivisionError("by hand")
        return super().objective(batch, out)


@pytest.mark.parametrize("parallel", [Data(2, 120.0, 3.0), FSDP(2, 120.0, 3.0, False)])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (signal.SIGKILL, r"process 1 of the learner was ended by signal 9 \(SIGKILL\).*resume="),
        (signal.SIGSTOP, r"process 1 of the learner has been silent for \d+ s.*deadline_s \(now 3\)"),
        (None, r"process 1 of the learner failed in learner.gradient with ZeroDivisionError: by hand"),
    ],
)
def test_a_process_that_is_lost_ends_the_run_in_words(
    harm: signal.Signals | None, words: str, parallel: Several, pretrained: Pretrained
) -> None:
    given = method("grpo")
    if harm is None:
        given = Broken(**{name: getattr(given, name) for name in given.__dataclass_fields__})
    with together(parallel) as team:
        one = learner(pretrained, parallel, team)
        (child,) = [p for p in multiprocessing.active_children() if p.name.startswith("learner")]
        if harm is not None:
            os.kill(child.pid or 0, harm)
        with pytest.raises(TeamError, match=words):
            one.learn(random_groups(0), given)
    assert not child.is_alive()


# ---- small things


def test_shares_are_even_and_one_hand_keeps_the_order() -> None:
    assert deal([3, 9, 1], 1) == [[0, 1, 2]]
    assert deal([8, 7, 6, 5, 4, 3], 2) == [[0, 3, 4], [1, 2, 5]]  # 8 + 5 + 4 and 7 + 6 + 3
    assert deal([5], 3) == [[0], [], []]
    assert deal([], 2) == [[], []]


def test_buckets_hold_what_fits() -> None:
    assert buckets([4, 4, 3, 20, 1], 8) == [[0, 1], [2], [3], [4]]
    assert buckets([], 8) == []


def test_a_cpu_must_be_told_how_many() -> None:
    with pytest.raises(ConfigError, match=r"parallel.processes: got 0.*say how many"):
        Data(0, 1.0, 1.0).start(serve, "cpu", Here())


def test_torchrun_without_a_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match="torchrun started 2 processes, expected 1; take parallel=data"):
        make("parallel", "none").start(serve, "cpu", Here())
    with pytest.raises(ConfigError, match=r"parallel.processes: got 3, but torchrun started 2"):
        Data(3, 1.0, 1.0).start(serve, "cpu", Here())


def test_alone_calls_are_calls() -> None:
    team = Alone()
    team.seat("list", [3, 1])
    assert team.each("list.index", [(1,)]) == [1]
    team.others("list.clear")
    assert team.tell("list.copy") == [3, 1]
