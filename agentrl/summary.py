"""What a run says at its start and leaves at its end."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from agentrl import config
from agentrl.checkpoint import folder_of, steps_saved
from agentrl.errors import AgentRLError
from agentrl.log.curve import curve
from agentrl.model import IMPORT_S
from agentrl.run import Player, Run
from agentrl.watchdog import beat, patience


def opening(run: Run) -> str:
    """What was chosen, in a few lines: the ``auto`` choices among them."""
    facts, cfg = run.facts, run.cfg
    episodes = int(cfg.tasks_per_step) * run.rollout.group_size
    return "\n".join(
        [
            f"{cfg.choices.method} on {cfg.choices.env}, model {cfg.choices.model} ({facts['model']['parameters']:,} "
            "weights, "
            f"{facts['model']['trained']:,} trained; {facts['model']['place']}), engine {cfg.choices.engine} in "
            f"{config.build(cfg.cluster).describe()}{config.build(cfg.parallel).describe()}, seed {cfg.seed}",
            f"one batch: {cfg.tasks_per_step} tasks x {run.rollout.group_size} = {episodes} episodes, {run.updates} "
            "optimiser step"
            f"{'s' * (run.updates > 1)}{_more(run)}; {run.steps} steps in all"
            + (f", continued at step {run.step}" if run.step else ""),
            f"panel: {facts['panel']['tasks']} {facts['panel']['split']} tasks, hash {facts['panel']['hash']}; "
            f"train {facts['splits']['train']['tasks']} tasks, none of a family that is measured",
            *([str(run.start)] if run.start else []),
            *run.learner.cautions(),
        ]
    )


def _more(run: Run) -> str:
    """What exploration adds to a batch, at most."""
    most = run.rollout.most_episodes
    total = int(run.cfg.tasks_per_step) * most
    return f" (with what is explored at most {total:,} episodes)" if most > run.rollout.group_size else ""


def summary(run: Run, status: str) -> dict[str, Any]:
    """The content of summary.json."""
    return {
        "status": status,
        "method": run.cfg.choices.method,
        "env": run.cfg.choices.env,
        "model": run.cfg.choices.model,
        "seed": run.seed,
        "steps": run.step,
        "episodes": run.episodes,
        "panel_hash": run.panel.hash,
        "time_s": run.clock.summary(),
        "eval": run.results,
        **({"best": best_of(run)} if run.checkpoints.best else {}),
        "facts": run.facts,
    }


def best_of(run: Run) -> dict[str, Any] | None:
    """The best checkpoint by ``checkpoint.best``; None when no checkpoint has a value."""
    found = run.checkpoints.best_of(run.folder)
    if found is None:
        return None
    step, value = found
    return {"metric": run.checkpoints.best, "step": step, "value": value, "path": str(folder_of(run.folder, step))}


def table(results: dict[str, Any]) -> str:
    """Evaluations as lines for people: success with its 95 % interval, and return."""
    lines = []
    for moment, result in results.items():
        for decoding in ("greedy", "sampled"):
            b = result[decoding]
            low, high = b["interval"]
            lines.append(
                f"{moment:>7} {decoding:<8} success {b['success']:.3f} [{low:.3f}, {high:.3f}]  return "
                f"{b['return']:.3f}  n {b['n']}"
            )
    return "\n".join(lines)


def finish(run: Run, status: str) -> dict[str, Any]:
    """Write summary.json, close the logs, then show the table and draw the curve."""
    result = summary(run, status)
    beat("disk", "writing the summary")
    try:
        run.log.close(result)
    finally:
        run.close()
    if run.results:
        run.log.note(table(run.results))
    if best := result.get("best"):
        run.log.note(f"best checkpoint by {best['metric']}: step {best['step']}, {best['value']:.4g}; {best['path']}")
    drawing = patience("disk", "drawing the learning curve", IMPORT_S)
    hasty = suppress(AgentRLError, KeyboardInterrupt, OSError)  # nothing to draw, someone in a hurry, a full disk
    with drawing, hasty:
        title = f"{run.cfg.choices.method} on {run.cfg.choices.env}, model {run.cfg.choices.model}, seed {run.seed}"
        run.log.note(f"learning curve: {curve(run.folder, title)}")
    return result


def farewell(run: Run) -> str:
    """What whoever ended the run has to know: how far the run came, what is saved, how to go on."""
    saved = steps_saved(run.folder)
    if not saved:
        anew = f"nothing was saved yet; begin again with: agentrl train resume={run.folder}"
        return f"interrupted at step {run.step} of {run.steps}; {anew}"
    kept = "all saved" if saved[0] == run.step else f"saved up to step {saved[0]}"
    return f"interrupted at step {run.step} of {run.steps}, {kept}; continue with: agentrl train resume={run.folder}"


def close_player(one: Player, result: dict[str, Any]) -> dict[str, Any]:
    """The result of an evaluation without training."""
    return {
        "status": "done",
        "env": one.cfg.choices.env,
        "model": one.cfg.choices.model,
        "seed": one.seed,
        "panel_hash": one.panel.hash,
        "time_s": one.clock.summary(),
        "eval": result,
        "facts": one.facts,
    }
