"""Imports go down, siblings are strangers, each third-party package has its doors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "agentrl"

# A unit is a module or folder of agentrl; `envs.check` is listed by itself because it stands above the rest of envs.
FLOORS: list[set[str]] = [
    {"keeper"},
    {"watchdog"},
    {"errors", "redact"},
    {"peaks"},
    {
        "types",
        "ranges",
        "stats",
        "resampling",
        "seeds",
        "interrupt",
        "digest",
        "hashes",
        "provenance",
        "disk",
        "__init__",
    },
    {
        "config",
        "bundled",
        "hub",
        "memory",
        "device",
        "tree",
        "batch",
        "ops",
        "log",
        "measure",
        "records",
        "encyclopedia",
        "retrieval",
        "judges",
        "toolcalls",
        "completeness",
        "answers",
        "alone",
        "nests",
    },
    {"summarizer", "search", "sweep_table", "tree_attention", "tree_varlen"},
    {"chat", "envs", "rewards", "engine", "overrides", "samples", "seen", "tally", "methods", "forward"},
    {"model", "endpoint", "critic", "panel", "rollout", "cluster"},
    {"distributed"},
    {"learner", "sync", "checkpoint", "evaluate", "envs.check", "local_model", "ahead", "launch"},
    {"warmstart", "distributed.member", "kept", "fits", "guards"},
    {"run"},
    {"summary", "replay", "progress"},
    {"comparison"},
    {"experiment", "agreement", "sweep"},
    {
        "wandb_sweep",
        "loop",
        "eval_panel",
        "explain",
        "env_tools",
        "play_env",
        "serve",
        "plan",
        "skeleton",
        "export",
        "report",
        "viewer",
    },
    {"doctor"},
    {"commands"},
    {"command_line"},
    {"cli"},
    {"__main__"},
]
FLOOR = {unit: level for level, units in enumerate(FLOORS) for unit in units}

DOORS = {
    "hydra": {"config", "overrides", "command_line", "cli"},
    "omegaconf": {"config", "overrides"},
    "transformers": {"chat", "model", "forward", "engine"},
    "tokenizers": {"chat"},
    "huggingface_hub": {"hub"},
    "peft": {"model"},
    "accelerate": {"model"},
    "safetensors": {"model", "checkpoint"},
    "wandb": {"log", "wandb_sweep"},
    "optuna": {"search"},
    "submitit": {"launch"},
    "tensorboard": {"log"},
    "mlflow": {"log"},
    "rich": {"log", "play_env", "plan", "doctor", "viewer", "sweep_table"},
    "matplotlib": {"log"},
    "jinja2": {"report", "chat"},
    "vllm": {"engine"},
    "scipy": {"stats"},
    "ray": {"cluster", "launch"},
    "nltk": {"envs"},
    "bm25s": {"retrieval"},
    "httpx": {"judges"},
    "Stemmer": {"retrieval"},
    "rapidfuzz": {"envs"},
    "sqlglot": {"envs"},
    "pymysql": {"envs"},
    "gymnasium": {"envs"},
    "verifiers": {"envs"},
    "regex": {"envs"},
    "torch": {
        "batch", "device", "nests", "ops", "digest", "seen", "tally", "samples", "methods", "model", "engine",
        "learner", "sync", "explain", "critic", "cluster", "endpoint", "export", "doctor", "peaks",
        "tree", "tree_attention", "tree_varlen", "forward", "distributed", "distributed.member",
    },
}  # fmt: skip


def unit_of(dotted: str) -> str:
    """The unit a module of agentrl belongs to: ``envs.webshop.store`` is of ``envs``, ``envs.check`` of itself."""
    parts = dotted.split(".")
    two = ".".join(parts[:2])
    return two if two in FLOOR else parts[0]


def imports(path: Path) -> set[str]:
    """Every imported name of a file, those inside functions and under TYPE_CHECKING included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write agentrl.…"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = unit_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "agentrl" and rest:
            there = unit_of(rest)
            assert there in FLOOR, f"{here} imports {name}, which no floor lists"
            if there != here:
                assert FLOOR[there] < FLOOR[here], f"{here} imports {name}, which is not below it"
        if top in DOORS:
            assert here in DOORS[top], f"{here} imports {top}; its door is {' or '.join(sorted(DOORS[top]))}"


def test_every_module_has_a_floor() -> None:
    units = {unit_of(".".join(path.relative_to(PACKAGE).with_suffix("").parts)) for path in FILES}
    assert units <= FLOOR.keys(), f"add to FLOORS: {sorted(units - FLOOR.keys())}"


def test_environments_and_records_do_not_know_torch() -> None:
    for name in ("envs", "rewards", "types", "errors", "config", "overrides", "cli", "log"):
        assert name not in DOORS["torch"]


#: files that are longer than the rule allows; whoever touches one makes it shorter, and none is added.
LONG = {
    "completeness/matching.py",
    "engine/lean.py",
    "samples.py",
}


def test_files_are_short() -> None:
    """Environments apart, which hold whole languages and data sets."""
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines()) for path in FILES}
    found = {name for name, count in lines.items() if count >= 300 and not name.startswith("envs/")}
    assert found <= LONG, f"300 lines or more: {sorted(found - LONG)}"


def test_the_main_path_of_the_loop_fits_on_a_screen() -> None:
    """From ``train`` to the end of a batch, in the order in which they are called, nothing else between."""
    body = ast.parse((PACKAGE / "loop.py").read_text("utf-8")).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions[:4]] == ["train", "whole", "learn", "one_batch"]
    assert (functions[3].end_lineno or 0) - functions[0].lineno < 80
