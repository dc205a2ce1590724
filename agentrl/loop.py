"""Play, credit, learn, sync; repeat. The page to read first: it names no method, environment or engine."""

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
from agentrl.errors import AlarmError, DivergedError
from agentrl.evaluate import flat
from agentrl.guards import Alarm
from agentrl.interrupt import Dropped, terminable
from agentrl.log.files import cut
from agentrl.measure import idle_shares, rollout_metrics, sampled_entropy, staleness, task_information
from agentrl.panel import panel
from agentrl.rollout.desk import left_behind
from agentrl.rollout.supply import LiveSupply
from agentrl.run import Run, player, training_run, writing_s
from agentrl.summary import close_player, farewell, finish, opening, summary, table
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


def evaluate(run: Run, moment: str) -> None:
    """Play the held-out panel (``before``, ``after``) or, on the way, the val panel.

    What is known is not played again. Raises Dropped.
    """
    if moment in run.results or (moment == "before" and not run.evaluate.before):
        return
    with run.clock.phase("evaluate"):
        tasks = run.panel if moment != "val" else panel(run.stage.env, "val", run.evaluate.val_tasks)
        if moment != "val":
            run.log.note(f"measuring {moment} training: {len(tasks.tasks)} {tasks.split} tasks, greedy and sampled")
        with run.stop.droppable():
            found = run.evaluate.run(run.stage, tasks, run.seed)
    if moment == "val":
        run.validated = run.step
    else:
        run.results[moment] = found.blocks
    numbers = flat(moment, found.blocks)
    run.metrics |= numbers
    run.log.log(run.step, numbers)
    run.log.evaluation(run.step, moment, found.plays)


def report(run: Run, played: Sequence[Group], used: Sequence[Group], metrics: dict[str, float]) -> None:
    """Everything known about one batch, logged under the step that its last update made."""
    lap = run.clock.lap()
    numbers = rollout_metrics(played, used) | metrics | {f"time/{name}": lap[name] for name in lap if lap[name] > 0}
    numbers |= {
        "rollout/total_episodes": float(run.episodes),
        "rollout/left_behind": float(left_behind()),
        "speed/tokens": numbers["rollout/tokens"] / max(run.ahead.seconds + lap["refill"], 1e-9),
        "memory/rss": run.clock.memory.most,
        **run.clock.memory.lap(),
        **idle_shares(lap, run.ahead.seconds),
        **sampled_entropy(played),
        **task_information(played, run.seed + run.step),
    }
    alarms = run.guard.look(run.step, numbers, used)
    numbers |= {f"alarm/{alarm.alarm}": alarm.figure for alarm in alarms}
    run.metrics = numbers
    with run.clock.phase("log"):
        beat("disk", "writing the logs of step", str(run.step))
        run.log.log(run.step, numbers)
        run.log.trajectories(run.step, used, run.learner.advantages, run.learner.seen)
        for alarm in alarms:
            run.log.note(f"step {run.step}: {alarm}")
    obey(run, alarms)


def obey(run: Run, alarms: Sequence[Alarm]) -> None:
    """Save and end the run where ``guards.stop`` names an alarm. Raises AlarmError."""
    for alarm in alarms:
        if alarm.alarm in run.guard.guards.stop:
            run.save()
            raise AlarmError(
                f"step {run.step}: {alarm}. Stopped because guards.stop names it; saved, continue with: agentrl train "
                f"resume={run.folder} guards.stop=[]"
            )


def canaries(groups: Sequence[Group]) -> list[tuple[int, ...]]:
    """Some token sequences of this batch: the first turn of each group's first play."""
    plays = [group.valid[0] for group in groups if group.valid and group.valid[0].turns]
    return [play.turns[0].prompt_ids + play.turns[0].action_ids for play in plays]


def evaluate_only(cfg: Config) -> dict[str, Any]:
    """``agentrl eval``: play a fixed panel without learning."""
    begun = f"ended by SIGTERM; nothing is kept: begin again with the same command, run_dir={cfg.run_dir}"
    with config.build(cfg.watchdog).over(Path(cfg.run_dir)), alone(Path(cfg.run_dir)), terminable(begun):
        return measured(cfg)


def measured(cfg: Config) -> dict[str, Any]:
    """The panel's numbers."""
    one = player(cfg)
    try:
        cut(one.folder, {})  # of an evaluation that was killed
        log = one.open_log(steps=1)
        with one.clock.phase("evaluate"):
            found = one.evaluate.run(one.stage, one.panel, one.seed)
        log.log(0, flat("eval", found.blocks))
        log.evaluation(0, "eval", found.plays)
        log.note(table({"eval": found.blocks}))
        result = close_player(one, found.blocks)
        log.close(result)
    finally:
        one.close()
    config.save(cfg, one.folder / "config.yaml")  # last: a folder that has it holds a whole evaluation
    return result
