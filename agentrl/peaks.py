"""Memory by phase: peaks of this process and of its GPU, and words for what ran out of it."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agentrl.errors import OutOfMemory

MIB = 2**20
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPU_WORDS = "can't allocate memory"  # how PyTorch says it on a CPU, in a RuntimeError

#: phase -> what to turn when it runs out of memory.
KNOBS = {
    "setup": "a smaller model, model.dtype=bfloat16, adapters (learner=lora model.lora_rank=16), or a smaller "
    "engine.gpu_memory or engine.kv_cache_mib",
    "rollout": "lower engine.max_batch, engine.kv_cache_mib or engine.gpu_memory, or model.context_tokens",
    "refill": "lower engine.max_batch, engine.kv_cache_mib or engine.gpu_memory, or model.context_tokens",
    "learner": "lower learner.micro_tokens or learner.chunk_tokens, or set model.gradient_checkpointing=true or "
    "engine.sleep=true",
    "sync": "lower engine.gpu_memory or engine.kv_cache_mib, set engine.sleep=true, or learner.micro_tokens lower",
    "evaluate": "lower engine.max_batch, engine.kv_cache_mib or engine.gpu_memory, or model.context_tokens",
    "save": "give the machine more memory for the copy that is written, or adapters (learner=lora model.lora_rank=16)",
    "log": "lower log.files.trajectories",
}


def out_of_memory(error: BaseException) -> bool:
    """Is it the machine or its GPU that had no memory left?"""
    torch: Any = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and CPU_WORDS in str(error)


@contextmanager
def blamed(phase: str) -> Iterator[None]:
    """Say which phase ran out of memory, and what to turn. Raises OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        words = " ".join(str(error).split())[:160] or type(error).__name__
        hint = KNOBS.get(phase, "take a smaller batch or model")
        raise OutOfMemory(f"{phase}: out of memory ({words}); {hint}") from error


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return _status("VmRSS") or _most()


def host_memory() -> int:
    """Bytes of memory of this machine, or what its container may take."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return whole


def device_memory(device: Any) -> tuple[int, int]:
    """(bytes in use by anybody, bytes in all) of a GPU."""
    import torch

    free, whole = torch.cuda.mem_get_info(device)
    return whole - free, whole


class Peaks:
    """The most memory of each phase since ``lap``: ``memory/peak_<phase>`` of this process, on a GPU also
    ``memory/gpu_peak_<phase>`` of PyTorch's allocator there, MiB.

    On Linux the kernel keeps the peak and is told when a phase begins. Elsewhere the largest peak so far stands for it
    where the phase raised it, else what is held at its end. A phase inside another one counts for both.

    ``most``: the most of this process so far, MiB; the kernel forgets it when a phase begins.
    """

    def __init__(self) -> None:
        self.found: dict[str, float] = {}
        self.most = 0.0
        self._open: list[dict[str, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Watch a block."""
        self._note()
        self._open.append({})
        before = _most()
        _restart()
        try:
            yield
        finally:
            self._note(before)
            for kind, value in self._open.pop().items():
                key = f"memory/{kind}_{name}"
                self.found[key] = max(value / MIB, self.found.get(key, 0.0))

    def lap(self) -> dict[str, float]:
        """The peaks of the phases that ended since the last lap."""
        found, self.found = self.found, {}
        return found

    def _note(self, before: int = 0) -> None:
        """Tell all phases under way what was reached since the last restart."""
        now = _reached(before)
        self.most = max(self.most, now["peak"] / MIB)
        for phase in self._open:
            for kind, value in now.items():
                phase[kind] = max(value, phase.get(kind, 0.0))


def _reached(before: int) -> dict[str, float]:
    peak = _status("VmHWM")
    if not peak or not RESET.exists():
        peak = max(resident(), _most() if _most() > before else 0)
    cuda = _cuda()
    return {"peak": float(peak)} | ({"gpu_peak": float(cuda.max_memory_allocated())} if cuda else {})


def _restart() -> None:
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")
    if cuda := _cuda():
        cuda.reset_peak_memory_stats()


def _cuda() -> Any:
    """torch.cuda where it is in use; asking must not start it."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _status(field: str) -> int:
    """A field of this process's status in bytes; 0 where the system has none."""
    with suppress(OSError, IndexError, ValueError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def _most() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
