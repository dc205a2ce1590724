"""What a run learns about itself on the way: its evaluations, the numbers of each batch, alarms that end it."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.errors import AlarmError
from agentrl.evaluate import flat
from agentrl.guards import Alarm
from agentrl.measure import idle_shares, rollout_metrics, sampled_entropy, task_information
from agentrl.panel import panel
from agentrl.rollout.desk import left_behind
from agentrl.run import Run
from agentrl.types import Group
from agentrl.watchdog import beat


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
