"""One thread for each test process: several threads on busy cores are many times slower than one. Runs draw no picture
(a seventh of the time of all runs of the tests) unless a test asks for it, and what is there before the first test is
no garbage."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture(scope="session", autouse=True)
def _light() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    with pytest.MonkeyPatch.context() as patch:
        if summary := sys.modules.get("agentrl.summary"):  # not imported for tests that need little
            patch.setattr(summary, "curve", not_drawn)
        yield


def not_drawn(run_dir: Path, title: str) -> Path:
    """Stands for the picture of a run; tests/log/test_logs.py draws it."""
    return run_dir / "curve.png"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test draw their picture."""
    from agentrl import summary
    from agentrl.log.curve import curve

    monkeypatch.setattr(summary, "curve", curve)
