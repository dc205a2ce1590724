"""A stand-in for ``agentrl`` in the processes of a sweep: cheap, and it keeps, stops, fails and resumes as runs do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentrl.launch.base import beginning, finished

MAIN = """
import json, os, signal, sys, time
from pathlib import Path

words = dict(word.lstrip("+").split("=", 1) for word in sys.argv[2:] if "=" in word)
place = words.get("resume") or words.get("run_dir") or words["hydra.run.dir"]
folder = Path(place.replace("${oc.env:WANDB_RUN_ID}", os.environ.get("WANDB_RUN_ID", "")))
if "resume" in words:
    words = json.loads((folder / "words.json").read_text()) | {"resumed": "yes"}
folder.mkdir(parents=True, exist_ok=True)
(folder / "words.json").write_text(json.dumps(words))
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WANDB_RUN_GROUP", "WANDB_TAGS")
seen = {name: os.environ.get(name) for name in names}
(folder / "config.yaml").write_text(json.dumps(words))
with (folder / "begun.jsonl").open("a") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), **seen}) + "\\n")

def stop(number, _):
    (folder / "checkpoints" / "step_000001").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "step_000001" / "manifest.json").write_text("{}")
    print("agentrl: interrupted at step 1 of 2, all saved", flush=True)
    sys.exit(128 + number)

gate = os.environ.get("STUB_GATE")
if gate and "resumed" not in words:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    (folder / "ready").touch()
    while not Path(gate).exists():
        time.sleep(0.02)
if words.get("env", "") == os.environ.get("STUB_FAILS"):
    sys.exit("agentrl: env: this world is broken; mend it")
lr, seed = float(words.get("learner.lr", 0.0)), int(words.get("seed", 0))
value = float(os.environ.get("STUB_VALUE", "0.5")) if lr == 0 else 1.0 - abs(lr - 0.3)
plays = [
    {"moment": "after", "decoding": how, "task": f"t{i}", "member": 0, "success": float((seed + i) % 2)}
    for i in range(4) for how in ("greedy", "sampled")
]
(folder / "evaluations.jsonl").write_text("".join(json.dumps(play) + "\\n" for play in plays))
(folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "after/sampled_success": value}) + "\\n")
(folder / "summary.json").write_text(json.dumps({"status": "done", "episodes": 8, "time_s": {"cpu": 2.0}}))
"""


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on ``python -m agentrl`` in a process of its own is the stand-in."""
    package = tmp_path / "stub" / "agentrl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(MAIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
    for name in ("WANDB_RUN_GROUP", "WANDB_TAGS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def begun(folder: Path) -> list[dict[str, Any]]:
    """What each process of a run found."""
    return [json.loads(line) for line in (folder / "begun.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class StubJob:
    """A job of the stand-in, which other processes can import."""

    name: str
    folder: Path
    word: str
    given: tuple[tuple[str, str], ...]

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def env(self) -> dict[str, str]:
        return dict(self.given)

    @property
    def done(self) -> bool:
        return finished(self.folder)

    def next(self) -> list[str] | None:
        return None if self.done else beginning(self.folder, ["train", self.word, f"run_dir={self.folder}"])
