"""Play, credit, learn, sync; repeat. The page to read first: it names no method, environment or engine.

The main path is :func:`whole`, :func:`learn`, :func:`one_batch`; what they call stands below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentrl import config
from agentrl.alone import alone
from agentrl.checkpoint import advice, clear
from agentrl.config import Config
from agentrl.disk import told
from agentrl.errors import DivergedError
from agentrl.interrupt import Dropped
from agentrl.measure import staleness
from agentrl.progress import evaluate, report
from agentrl.rollout.supply import LiveSupply
from agentrl.run import Run, training_run, writing_s
from agentrl.summary import farewell, finish, opening, summary
from agentrl.sync import Seen
from agentrl.types import Group
from agentrl.watchdog import beat, patience


def train(cfg: Config) -> dict[str, Any]:
    """``agentrl train``: a whole run, from the first evaluation to the summary. Raises Interrupted after a signal."""
    folder = Path(cfg.run_dir)
    with config.build(cfg.watchdog).over(folder), alone(folder), told(lambda: advice(folder)):
        return whole(cfg)


def whole(cfg: Config) -> dict[str, Any]:
    """What the watchdog looks on."""
    start = None if cfg.resume and clear(Path(cfg.run_dir)) else config.build(cfg.warmstart).ready(cfg, warm_up)
    run = training_run(cfg, start)
    run.log.note(opening(run))
    status = "failed"
    try:
        with run.stop.heard():
            push(run)
            with suppress(Dropped):
                evaluate(run, "before")
                learn(run)
            run.save()  # before the last evaluation, which can be played again
            if not run.stop:
                evaluate(run, "after")
        status = "done" if "after" in run.results else "interrupted"
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        result = finish(run, status)
    if status == "interrupted":
        raise run.stop.ended(farewell(run))
    return result


def learn(run: Run) -> None:
    """Batch after batch until the run's last step, or until a signal came. Raises Dropped."""
    while True:
        if run.evaluate.owes_val(run.step, run.validated, run.updates):
            evaluate(run, "val")
        if run.step == run.steps or run.stop:
            return
        if run.checkpoints.due(run.step, run.updates):
            run.save()
        one_batch(run)


def one_batch(run: Run) -> None:
    """The loop's body: one batch of tasks, the optimiser steps it gives, the push of the new weights.

    Raises Dropped, and then the run is as it was before.
    """
    with run.droppable():
        with run.clock.phase("rollout"):
            played = run.next_batch()
        with run.clock.phase("refill"):
            supply = LiveSupply(run.tasks, run.past, run.seed, run.step, run.play)
            used = run.method.refill(played, supply)
    run.past.extend(played)
    with run.clock.phase("sync"):
        seen = run.sync.look(run.engine, canaries(used))
    with run.meanwhile(), run.clock.phase("learner"):
        beat("learner", "crediting the plays")
        metrics = learned(run, used)
    if run.checkpoints.batches:
        run.keep(used, metrics)
    metrics |= staleness(used, run.step, run.updates)
    run.step += run.updates
    metrics |= push(run, run.learner.moved, seen)
    report(run, [*played, *supply.extra], used, metrics)


def learned(run: Run, used: Sequence[Group]) -> dict[str, float]:
    """The optimiser steps of one batch. Raises DivergedError; the batch that was refused is kept."""
    try:
        return run.learner.learn(used, run.method, run.step)
    except DivergedError as error:
        raise DivergedError(f"{error}; the batch is kept in {run.keep(used, error=str(error))}") from None


def push(run: Run, moved: bool | None = None, seen: Seen | None = None) -> dict[str, float]:
    """The learner's weights into the engine, with proof; ``moved`` None: nothing is known of a change."""
    with run.clock.phase("sync"):
        return run.sync.push(run.policy, run.engine, run.step, moved, seen or run.sync.look(run.engine, ()))


def canaries(groups: Sequence[Group]) -> list[tuple[int, ...]]:
    """Some token sequences of this batch: the first turn of each group's first play."""
    plays = [group.valid[0] for group in groups if group.valid and group.valid[0].turns]
    return [play.turns[0].prompt_ids + play.turns[0].action_ids for play in plays]


def sft(cfg: Config) -> dict[str, Any]:
    """``agentrl sft``: the same loop, over demonstrations (conf/sft.yaml chooses them)."""
    return train(cfg)


def warm_up(cfg: Config) -> None:
    """The same loop without evaluations, for a warm start; the policy is left in ``<run_dir>/model``.

    Raises Interrupted after a signal.
    """
    run = training_run(cfg)
    try:
        with run.stop.heard("dropping the warm start"), suppress(Dropped):
            push(run)
            learn(run)
        if run.stop:
            raise run.stop.ended(
                f"interrupted during the warm start, at step {run.step} of {run.steps}; nothing is kept: begin again "
                "with the same command"
            )
        with patience("disk", "writing the warm start", writing_s(run.policy)):
            run.policy.save(run.folder / "model")
        run.log.close(summary(run, "done"))
    finally:
        run.close()
