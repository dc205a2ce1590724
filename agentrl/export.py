"""``agentrl export RUN``: a trained policy as a folder that ``transformers``, vLLM and others load, with a model card.

Adapters are merged into their base unless ``merge=false``. The card says what was trained, on what, how it was measured
(panel hashes, intervals) and with which code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from agentrl import config
from agentrl.checkpoint import folder_of, latest, load, steps_saved
from agentrl.config import Config
from agentrl.errors import ConfigError
from agentrl.log.files import read_json
from agentrl.watchdog import patience

DTYPES = ("as trained", "float32", "bfloat16", "float16")
ADAPTER = "adapter_config.json"


def export(cfg: Config) -> dict[str, Any]:
    """Write the folder; gives ``folder``, ``step`` and ``merged``. Raises ConfigError, CheckpointError."""
    if not cfg.run:
        raise ConfigError("run: missing; say agentrl export RUN, the folder of a training run")
    if cfg.dtype not in DTYPES:
        raise ConfigError(f"dtype={cfg.dtype}: {config.nearest(str(cfg.dtype), DTYPES)}")
    run = Path(cfg.run)
    trained = config.load(run / "config.yaml")
    found = _checkpoint(run, cfg.step)
    folder = Path(cfg.folder or run / "export")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"folder={folder}: exists and is not empty; delete it, or give another folder=FOLDER")
    adapter = (found.model / ADAPTER).is_file()
    folder.mkdir(parents=True, exist_ok=True)
    if adapter and not cfg.merge:
        shutil.copytree(found.model, folder, dirs_exist_ok=True)
        (folder / "README.md").unlink(missing_ok=True)  # peft's own card
    else:
        _whole(trained, found.model, folder, str(cfg.dtype))
    (folder / "README.md").write_text(card(run, trained, found.step, adapter and not cfg.merge), encoding="utf-8")
    print(f"wrote {folder}: {'adapters of' if adapter and not cfg.merge else 'the policy after'} step {found.step}")
    return {"folder": str(folder), "step": found.step, "merged": adapter and bool(cfg.merge)}


def _checkpoint(run: Path, step: int | None) -> Any:
    """The verified checkpoint of a step, by default the newest."""
    if step is None:
        return latest(run, lambda text: print(f"agentrl: {text}"))
    saved = steps_saved(run)
    if step not in saved:
        raise ConfigError(
            f"step={step}: {run} holds no such checkpoint; it has {', '.join(map(str, sorted(saved))) or 'none'}"
        )
    return load(folder_of(run, step))


def _whole(trained: Config, model: Path, folder: Path, dtype: str) -> None:
    """The module with its adapters merged, and the tokenizer, as Hugging Face writes them."""
    pretrained = config.build(config.changed(trained.model, {"path": str(model)}))
    with patience("disk", "exporting the model", 3600.0):
        module = pretrained.module("cpu", pretrained.place("cpu").dtype)
        if dtype != DTYPES[0]:
            module = module.to(getattr(torch, dtype))
        module.save_pretrained(folder)
        pretrained.chat().tokenizer.save_pretrained(folder)


def card(run: Path, trained: Config, step: int, adapters: bool) -> str:
    """The model card in Markdown, its front matter in the hub's terms."""
    choices, path = trained.choices, run / "summary.json"
    summary: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    head = ["---", f"library_name: {'peft' if adapters else 'transformers'}", "pipeline_tag: text-generation"]
    base = str(trained.model.path)
    if "/" in base and not base.startswith(("/", ".", "~", "bundled:")):
        head.append(f"base_model: {base}")
    head += ["tags: [reinforcement-learning, agents, agentrl]", "---"]
    lines = [
        *head,
        "",
        f"# {choices.method} on {choices.env}",
        "",
        f"`{base}`, trained by agentrl with method `{choices.method}` on environment `{choices.env}`, seed "
        f"{trained.seed}, {step} optimiser steps of {trained.steps}"
        + ("" if summary.get("status") == "done" else f" (the run is {summary.get('status', 'unfinished')})")
        + ".",
        "",
        *_results(summary),
        *_facts(summary),
        "## Config",
        "",
        "```yaml",
        (run / "config.yaml").read_text(encoding="utf-8").strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _results(summary: Mapping[str, Any]) -> list[str]:
    """A table of the run's evaluations; intervals are 95 %, Wilson."""
    if not summary.get("eval"):
        return ["Not measured by its run.", ""]
    lines = ["| measured | decoding | success | 95 % interval | return | episodes |", "|---|---|---|---|---|---|"]
    for moment, blocks in summary["eval"].items():
        for decoding in ("greedy", "sampled"):
            b = blocks[decoding]
            low, high = b["interval"]
            lines.append(
                f"| {moment} training | {decoding} | {b['success']:.3f} | {low:.3f} to {high:.3f} | {b['return']:.3f} "
                f"| {b['n']} |"
            )
    panel = summary["facts"]["panel"]
    return [
        *lines,
        "",
        f"Panel: {panel['tasks']} tasks of the {panel['split']} split, hash `{panel['hash']}`; results compare only "
        "where this hash is equal. One seed: intervals are over tasks alone.",
        "",
    ]


def _facts(summary: Mapping[str, Any]) -> list[str]:
    """What it depends on: environment, warm start, code."""
    facts = summary.get("facts", {})
    told = {name: facts[name] for name in ("env", "warmstart", "provenance") if facts.get(name)}
    return ["## Made from", "", "```json", json.dumps(told, indent=1, sort_keys=True), "```", ""] if told else []
