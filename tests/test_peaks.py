"""Peaks belong to their phase, and what runs out of memory says where and what to turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentrl.cli import main
from agentrl.errors import OutOfMemory
from agentrl.learner import Learner
from agentrl.log.metrics import PHASES, defined
from agentrl.measure import Clock
from agentrl.peaks import KNOBS, MIB, RESET, blamed, host_memory, resident
from tests.toy import save_toy_model
from tests.toy_run import CONF, toy_overrides

LINUX = pytest.mark.skipif(not RESET.exists(), reason="this kernel cannot be told to forget a peak")


def hold(mib: int) -> None:
    """Touch so much memory and let it go."""
    np.ones(mib * MIB // 8)


@LINUX
def test_each_phase_has_its_own_peak() -> None:
    clock = Clock()
    base = resident() / MIB
    with clock.phase("learner"):
        hold(96)
    with clock.phase("sync"):
        hold(16)
    peaks = clock.memory.lap()
    assert 90 < peaks["memory/peak_learner"] - base < 140
    assert peaks["memory/peak_sync"] - base < 60
    assert clock.memory.most == max(peaks.values())
    assert clock.memory.lap() == {}


@LINUX
def test_a_phase_inside_another_counts_for_both() -> None:
    clock = Clock()
    base = resident() / MIB
    with clock.phase("learner"):
        with clock.phase("rollout"):
            hold(64)
        hold(8)
    peaks = clock.memory.lap()
    assert min(peaks["memory/peak_learner"], peaks["memory/peak_rollout"]) - base > 58


def test_all_phases_have_metrics_and_knobs() -> None:
    assert all(defined(f"memory/{kind}_{phase}") for kind in ("peak", "gpu_peak") for phase in PHASES)
    assert set(KNOBS) == set(PHASES)
    assert resident() < host_memory()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_the_phase_and_what_to_turn_are_named(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match=r"^learner: out of memory \(.+\); lower learner\.micro_tokens"):  # noqa: SIM117
        with Clock().phase("learner"):
            raise error


def test_a_real_allocation_that_fails_is_known() -> None:
    with pytest.raises(OutOfMemory, match=r"rollout: .* engine\.kv_cache_mib or engine\.gpu_memory"), blamed("rollout"):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), blamed("learner"):
        raise RuntimeError("shapes differ")


def test_a_run_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def learn(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "learn", learn)
    words = [*toy_overrides(save_toy_model(tmp_path / "model"), tmp_path / "run"), "method=grpo", "eval.before=false"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config-dir", str(CONF), *words])
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert told.startswith("agentrl: learner: out of memory (CUDA out of memory); lower learner.micro_tokens")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_has_peaks_of_its_own() -> None:
    torch.zeros(1, device="cuda")
    clock = Clock()
    with clock.phase("learner"):
        del_me = torch.zeros(64 * MIB, dtype=torch.uint8, device="cuda")
        del del_me
    with clock.phase("sync"):
        pass
    peaks = clock.memory.lap()
    assert peaks["memory/gpu_peak_learner"] - peaks["memory/gpu_peak_sync"] == pytest.approx(64, abs=2)
