"""What tests do without, because it takes long: a second thread (several on busy cores are many times slower than one),
the picture of a run unless a test asks for it, composing a config again (tests/once.py), and looking for garbage in
what was there before the first test."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import once

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture(scope="session", autouse=True)
def _light() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)  # vLLM's, whose later collections look through everything
        once.install(patch)
        if summary := sys.modules.get("agentrl.summary"):  # not imported for tests that need little
            patch.setattr(summary, "curve", not_drawn)
        yield


def not_drawn(run_dir: Path, title: str) -> Path:  # noqa: ARG001
    """Stands for the picture of a run; tests/log/test_logs.py draws it."""
    return run_dir / "curve.png"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test draw their picture."""
    from agentrl import summary
    from agentrl.log.curve import curve

    monkeypatch.setattr(summary, "curve", curve)
