"""What tests do without, because it takes long: a second thread (several on busy cores are many times slower than one),
the picture of a run unless a test asks for it, reading a YAML again, and looking for garbage in what was there before
the first test."""

import gc
import os
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.file_config_source import ConfigResult, FileConfigSource

_load, _read = FileConfigSource.load_config, dict[Any, ConfigResult]()

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture(scope="session", autouse=True)
def _light() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileConfigSource, "load_config", _load_once)
        if summary := sys.modules.get("agentrl.summary"):  # not imported for tests that need little
            patch.setattr(summary, "curve", not_drawn)
        yield


def _load_once(self: FileConfigSource, config_path: str) -> ConfigResult:
    """Hydra's own, once for each state of a file."""
    path = Path(self.path, self._normalize_file_name(config_path))
    seen = path.stat() if path.is_file() else None
    key = (self.provider, str(path), seen and seen.st_mtime_ns, seen and seen.st_size)
    if key not in _read:
        _read[key] = _load(self, config_path)
    return deepcopy(_read[key])


def not_drawn(run_dir: Path, title: str) -> Path:  # noqa: ARG001
    """Stands for the picture of a run; tests/log/test_logs.py draws it."""
    return run_dir / "curve.png"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test draw their picture."""
    from agentrl import summary
    from agentrl.log.curve import curve

    monkeypatch.setattr(summary, "curve", curve)
