"""The top-level words of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Device(StrEnum):
    """Where tensors live; ``auto`` takes a GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Scale(StrEnum):
    """Of an experiment: the bundled worlds and the tiny model, or what the paper had."""

    laptop = "laptop"
    paper = "paper"


@dataclass(frozen=True)
class Words:
    """The top-level words of the command line and their types; each config uses some of them."""

    steps: int = 1
    tasks_per_step: int = 1
    max_staleness: int = 0
    seed: int = 0
    seconds: float = 1.0
    device: Device = Device.auto
    run_dir: str = ""
    resume: str | None = None
    golden: str | None = None
    split: str = "train"
    task: str | None = None
    run: str | None = None
    also: list[str] = field(default_factory=list)
    play: str | None = None
    colour: str = "mask"
    open: bool = True
    runs: list[str] = field(default_factory=list)
    gpus: int = 0
    corpus: str = ""
    port: int = 0
    scale: Scale = Scale.laptop
    seeds: list[int] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    workers: int = 0
    out: str = ""
    dry_run: bool = False
    extra: list[str] = field(default_factory=list)
    command: str = "train"
    sweep_file: str | None = None
    name: str | None = None
    folder: str | None = None
    step: int | None = None
    merge: bool = True
    dtype: str = ""

    def __post_init__(self) -> None:
        least = {"steps": 0, "tasks_per_step": 1, "seed": 0, "seconds": 0.1}
        if self.max_staleness not in (0, 1):
            raise ValueError(f"max_staleness: got {self.max_staleness}, expected 0 or 1 batch")
        wrong = [(name, low) for name, low in least.items() if getattr(self, name) < low]
        if wrong:
            raise ValueError(
                "\n".join(f"{name}: got {getattr(self, name)}, expected at least {low}" for name, low in wrong)
            )
