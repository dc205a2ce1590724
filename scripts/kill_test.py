"""Kill real runs with SIGKILL, continue them, and compare what they leave with undisturbed ones, bit for bit.

    python scripts/kill_test.py --kills 50 [--seed 0] [--only train,rro] [--out FOLDER]

Each scenario runs once undisturbed. Then it is killed again and again: just before a random operation on its files
(opening for writing, renaming, removing, truncating, making a folder) or at a random time; after each kill it is
continued as a person would (``resume=`` where a run has begun, else the same command). What is finished must be equal:
weights and optimiser by SHA-256, metrics without clocks, trajectories, evaluations, engine calls, summary; nothing may
be left over. The last line is JSON. Exit code 1 when anything differs.

Processes are forked from one that has imported everything, so that a kill costs little; an experiment's own children
are processes from scratch. Nothing is fsync-tested: SIGKILL ends a process, not the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")

from agentrl import cli
from agentrl.log.files import read_json, read_lines

CLOCKS = ("time/", "speed/", "memory/", "alarm/idle", "alarm/slower")
TINY = [
    "env=tool_planning", "env.size=200", "tasks_per_step=2", "env.max_turns=3", "learner.minibatches=1",
    "steps=3", "eval.tasks=2", "eval.samples=1", "eval.val_tasks=2", "checkpoint.every=1", "log=files", "device=cpu",
    "watchdog.quiet_s=0",
]  # fmt: skip
BEST = "checkpoint.best=val/sampled_return checkpoint.keep=1 checkpoint.batches=true"
TWO = "rollout.group_size=2"
WARM = "warmstart=sft warmstart.steps=2 warmstart.tasks_per_step=2 warmstart.folder={place}/warm"
STALE = "max_staleness=1 learner.old_logprobs=recompute learner.tis_cap=2.0"
SCENARIOS = {
    "train": f"method=grpo {TWO} eval.every=2",
    "keep_best": f"method=vspo {TWO} eval.every=1 {BEST}",
    "critic": f"method=ppo {TWO} checkpoint.every=2",
    "no_checkpoint": f"method=dapo {TWO} checkpoint.every=0",
    "warmstart": f"method=grpo {TWO} method.kl_coef=0.05 {WARM}",
    "rro": "method=rro rollout.rollouts=2 steps=2",
    "flowing": f"method=grpo {TWO} schedule=flowing schedule.env_threads=0",
    "ahead": f"method=dapo {TWO} {STALE}",
}
RECIPE = f"""
_target_: agentrl.experiment.Comparison
title: Killed
source: ours
words: [{", ".join(TINY)}, steps=2, eval.before=false]
scales: {{laptop: {{seeds: [0], words: []}}}}
rows: {{GRPO: {{words: [method=grpo, {TWO}]}}, SFT: {{words: [method=sft]}}}}
columns: {{SR: {{value: success}}}}
"""
OWN = ("seconds", "logs", "start", "validated")  # of a checkpoint: clocks, paths, lengths of lines with clocks
MUTATIONS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod")


@dataclass(frozen=True)
class Moment:
    """When to kill: before file operation ``operation`` (0: none), or after ``seconds`` (0: never)."""

    operation: int = 0
    seconds: float = 0.0


@dataclass
class Tally:
    """What happened in a scenario."""

    kills: int = 0
    by_time: int = 0
    finished: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scenario:
    """A command whose files lie in ``place``; ``again`` gives the words that go on (none: it is done), ``left`` what is
    compared."""

    name: str
    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    left: Callable[[Path], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills in all, shared out among the scenarios")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", default="", help="names of scenarios, with commas; empty: all")
    parser.add_argument("--out", default="", help="a folder that stays; empty: a temporary one")
    args = parser.parse_args()
    folder = Path(args.out or tempfile.mkdtemp(prefix="agentrl-kill-")).resolve()
    known = scenarios()
    chosen = [known[name] for name in (args.only.split(",") if args.only else known)]
    shares = [args.kills // len(chosen) + (i < args.kills % len(chosen)) for i in range(len(chosen))]
    told = {}
    for scenario, kills in zip(chosen, shares, strict=True):
        tally = tried(scenario, kills, folder / scenario.name, random.Random(f"{args.seed} {scenario.name}"))
        told[scenario.name] = vars(tally)
        print(f"{scenario.name}: {json.dumps(vars(tally))}", flush=True)
    if not args.out:
        shutil.rmtree(folder)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result = {
        "kills": sum(one["kills"] for one in told.values()),
        "finished": sum(one["finished"] for one in told.values()),
        "wrong": sum(len(one["wrong"]) for one in told.values()),
        "cpu_s": round(sum(one.ru_utime + one.ru_stime for one in used)),
    }
    print(json.dumps(result))
    raise SystemExit(int(bool(result["wrong"])))


def scenarios() -> dict[str, Scenario]:
    """All of them by name."""
    found = {name: _training(name, words) for name, words in SCENARIOS.items()}
    found["eval"] = Scenario("eval", _eval_words, _eval_again, lambda place: left_of(place / "run"))
    found["experiment"] = Scenario("experiment", _recipe_words, _recipe_words, _left_of_recipe)
    return found


def tried(scenario: Scenario, kills: int, folder: Path, rng: random.Random) -> Tally:
    """Run undisturbed, then be killed ``kills`` times, at most four times on the way to one end."""
    tally = Tally()
    whole = folder / "whole"
    begin = time.monotonic()
    code, operations = run(scenario.words(whole), whole, Moment(operation=sys.maxsize))
    seconds = time.monotonic() - begin
    if code:
        return Tally(wrong=[f"undisturbed: exit code {code}; {_words_of(whole)}"])
    expected = scenario.left(whole)
    number = 0
    while tally.kills < kills and len(tally.wrong) < 3:
        number += 1
        place, times = folder / f"killed_{number}", rng.randint(1, 4)
        words, code = scenario.words(place), -1
        while code:
            moment = _drawn(rng, operations, seconds) if times > 0 and tally.kills < kills else Moment()
            code, _ = run(words, place, moment)
            if code > 0:
                tally.wrong.append(f"{place.name}: exit code {code} after {words}; {_words_of(place)}")
                break
            tally.kills += code < 0
            tally.by_time += code < 0 and moment.seconds > 0
            times -= 1
            words = scenario.again(place)
            code = code if words else 0
        if code == 0:
            tally.finished += 1
            tally.wrong += [f"{place.name}: {text}" for text in differences(expected, scenario.left(place))]
    return tally


def run(words: Sequence[str], place: Path, moment: Moment) -> tuple[int, int]:
    """Fork a process that runs ``agentrl``, and kill it then; its exit code (negative: the signal), and how many
    operations on files it did where ``moment`` counts them."""
    place.mkdir(parents=True, exist_ok=True)
    count = place / "operations"
    sys.stdout.flush()
    if not (pid := os.fork()):
        _child(words, place, moment.operation, count)
    if moment.seconds:
        time.sleep(moment.seconds)
        orphans = _children(pid)
        os.kill(pid, signal.SIGKILL)
        for orphan in orphans:  # half of the time the children are killed, too; else they end by themselves
            if orphan % 2:
                os.kill(orphan, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, int(count.read_text()) if count.is_file() else 0


def _child(words: Sequence[str], place: Path, last: int, count: Path) -> NoReturn:
    """The life of the forked process."""
    output = os.open(place / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    seen, me = 0, os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if not (writes or event in MUTATIONS) or os.getpid() != me:
            return
        if isinstance(args[0], int) or str(args[0]).startswith(str(place)):  # truncate may have a descriptor
            seen += 1
            if seen == last:
                os.kill(me, signal.SIGKILL)

    if last:
        sys.addaudithook(hook)
    code = 1
    try:
        cli.main(list(words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    if last == sys.maxsize:
        count.write_text(str(seen))
    sys.stdout.flush()
    os._exit(code)


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what differs, with both where they are short."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    return [f"{name}: {str(found.get(name))[:300]}, expected {str(expected.get(name))[:300]}" for name in names]


def left_of(run_dir: Path) -> dict[str, Any]:
    """What a run leaves, without clocks and paths."""
    summary = read_json(run_dir / "summary.json")
    found: dict[str, Any] = {
        "summary": {name: summary.get(name) for name in ("status", "steps", "episodes", "panel_hash", "eval")},
        "metrics": [
            {name: value for name, value in line.items() if not name.startswith(CLOCKS)}
            for line in read_lines(run_dir / "metrics.jsonl")
        ],
        "calls": [
            {name: value for name, value in line.items() if name not in ("begin", "seconds")}
            for line in read_lines(run_dir / "calls.jsonl")
        ],
        "hidden": sorted(str(p.relative_to(run_dir)) for p in run_dir.rglob(".*") if p.name != ".lock"),
        "trajectories": _sha256(run_dir / "trajectories.jsonl"),
        "evaluations": _sha256(run_dir / "evaluations.jsonl"),
        "checkpoints": sorted(path.name for path in (run_dir / "checkpoints").glob("*")),
        "batches": {path.name: _sha256(path) for path in sorted((run_dir / "batches").glob("*"))},
    }
    for path in sorted((run_dir / "checkpoints").rglob("*")):
        if path.is_file() and path.name not in ("manifest.json", "run.json"):
            found[str(path.relative_to(run_dir))] = _sha256(path)
    for path in sorted((run_dir / "checkpoints").glob("*/run.json")):
        state = json.loads(path.read_text())
        found[str(path.relative_to(run_dir))] = {name: state[name] for name in state if name not in OWN}
    return found


def _training(name: str, words: str) -> Scenario:
    def first(place: Path) -> list[str]:
        return ["train", *TINY, *words.format(place=place).split(), f"run_dir={place}/run"]

    def again(place: Path) -> list[str]:
        return ["train", f"resume={place}/run"] if (place / "run/config.yaml").is_file() else first(place)

    def left(place: Path) -> dict[str, Any]:
        warm: dict[str, list[str]] = {"drafts": [], "warm": []}
        for path in sorted((place / "warm").glob("*")):
            warm["drafts" if path.name.startswith(".") else "warm"] += [
                path.name,
                *map(_sha256, path.glob("model/*.saf*")),
            ]
        return left_of(place / "run") | warm

    return Scenario(name, first, again, left)


def _eval_words(place: Path) -> list[str]:
    words = "eval env=tool_planning env.size=200 eval.tasks=4 log=files device=cpu watchdog.quiet_s=0"
    return [*words.split(), f"run_dir={place}/run"]


def _eval_again(place: Path) -> list[str]:
    """Nothing once its last file is there: the kill came between that and the end of the process."""
    return [] if (place / "run/config.yaml").is_file() else _eval_words(place)


def _recipe_words(place: Path) -> list[str]:
    conf = place / "conf" / "experiment"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "killed.yaml").write_text(RECIPE)
    return ["train", "experiment=killed", f"out={place}/out", "workers=1", "--config-dir", str(place / "conf")]


def _left_of_recipe(place: Path) -> dict[str, Any]:
    runs = sorted(path.parent for path in (place / "out/runs").rglob("summary.json"))
    table = read_json(place / "out/killed_laptop/table.json")
    found = {f"{path.parent.name}: {name}": value for path in runs for name, value in left_of(path).items()}
    values = {row: {n: v for n, v in columns.items() if n != "CPU-s"} for row, columns in table["values"].items()}
    return found | {"values": values, "failed": table["failed"]}


def _drawn(rng: random.Random, operations: int, seconds: float) -> Moment:
    if not operations or rng.random() < 0.3:
        return Moment(seconds=rng.uniform(0.02, 1.0) * seconds)
    return Moment(operation=rng.randint(1, operations))


def _children(pid: int) -> list[int]:
    """Processes that were started from scratch by this one."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _words_of(place: Path) -> str:
    """The end of what its processes said."""
    return (place / "output.txt").read_text(errors="replace")[-600:]


if __name__ == "__main__":
    from agentrl import loop  # noqa: F401  all that a run imports, once for all processes

    main()
