"""What a run tells: lines, the live view, files, Weights & Biases offline, the curve."""

from __future__ import annotations

import inspect
import io
import json
import re
import struct
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console as Terminal

from agentrl import redact
from agentrl.config import CONF, compose, targets
from agentrl.errors import DataError
from agentrl.log.base import Log, Many, RunFacts, open_logs
from agentrl.log.console import Console, ConsoleLog, duration, sparkline
from agentrl.log.curve import curve
from agentrl.log.files import FileLog, Files, read_lines, write_json
from agentrl.log.metrics import METRICS, UndefinedMetric, define
from agentrl.log.mlflow_log import MLflow
from agentrl.log.tensorboard_log import TensorBoard
from agentrl.log.wandb_log import Mode, Wandb
from agentrl.stats import wilson
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

METRICS_OF_A_STEP = {
    "rollout/reward": 0.5,
    "rollout/success": 0.25,
    "rollout/episodes": 128.0,
    "rollout/failed": 0.0,
    "rollout/zero_advantage": 0.125,
    "learner/entropy": 1.25,
    "learner/logprob_gap": 1e-6,
    "speed/tokens": 12345.6,
}


def group() -> Group:
    """One task, two plays of which the second failed inside the environment."""
    task = Task("t1", "train", "family")
    turn = Turn(
        prompt_ids=(1, 2),
        action_ids=(3, 4),
        logprobs=(-0.5, -0.25),
        action=Message("assistant", "buy"),
        observation=(Message("user", "bought"),),
        reward=1.0,
    )
    good = Trajectory(task, 0, (turn, turn), Stop.done, env_return=2.0, success=True, reward=1.0)
    bad = Trajectory(task, 1, (), Stop.env_error, error="no shop")
    return Group(task, (good, bad))


def run_facts(folder: Path, **config: Any) -> RunFacts:
    return RunFacts(folder, steps=10, config=config, first_step=4 if config.get("resume") else 0)


def console(live: bool, run: RunFacts) -> tuple[ConsoleLog, io.StringIO]:
    out = io.StringIO()
    return ConsoleLog(run, live=live, every=1, terminal=Terminal(file=out, force_terminal=live, width=120)), out


def test_plain_lines(tmp_path: Path) -> None:
    log, out = console(False, run_facts(tmp_path))
    log.note("panel [abc]")
    log.log(1, METRICS_OF_A_STEP)
    log.close({})
    first, line = out.getvalue().splitlines()
    assert first == "panel [abc]"
    assert line.startswith("step 1/10  reward 0.5  success 0.25 [0.18, 0.33]  entropy 1.25  zero-advantage 12%")
    assert "logprob gap 1e-06  tokens/s 12,346  left 0:" in line
    assert "\x1b" not in out.getvalue()


def test_live_view(tmp_path: Path) -> None:
    log, out = console(True, run_facts(tmp_path))
    for step in (1, 2):
        log.log(step, {**METRICS_OF_A_STEP, "rollout/success": step / 4})
    log.log(2, {"val/sampled_success": 0.75})
    log.close(None)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    for text in ("step 2/10", "success 0.50 [0.41, 0.59]", "entropy 1.25", "▃▅", "left", "val 0.75"):
        assert text in shown


def test_time_left_leaves_out_the_first_evaluation_and_counts_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 60.0, 60.0, 63.0, 90.0])  # opened, measured for a minute, one step in 3 s, the last after 30 s
    monkeypatch.setattr("agentrl.log.console.time.monotonic", lambda: next(clock))
    log, out = console(False, run_facts(tmp_path))
    log.log(0, {"before/sampled_success": 0.1})
    for step in (1, 10):
        log.log(step, METRICS_OF_A_STEP)
    assert [line.rsplit("left ", 1)[1] for line in out.getvalue().splitlines()] == ["1:27", "1:00"]


def test_console_goes_plain_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Console(live=True, every=2).open(run_facts(tmp_path))
    for step in (1, 2, 3):
        log.log(step, METRICS_OF_A_STEP)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["2/10"]


def test_small_pieces() -> None:
    assert sparkline([0, 0.5, 1]) == "▁▅█"
    assert len(sparkline([0.5] * 1000)) == 60
    assert sparkline([]) == ""
    assert [duration(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Wilson score interval, worked by hand
    assert wilson(0, 10)[0] == 0.0
    assert all(wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0 for n in range(1, 200))  # whatever rounding does


def test_files_hold_the_tokens(tmp_path: Path) -> None:
    log = Files(trajectories=1.0, limit_mib=1).open(run_facts(tmp_path))
    log.log(1, {"learner/loss": 0.5, "learner/grad_norm": float("inf")})
    log.trajectories(1, [group()], [[np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)]])
    log.close({"status": "done"})
    assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "learner/loss": 0.5, "learner/grad_norm": "inf"}]
    good, bad = read_lines(tmp_path / "trajectories.jsonl")
    assert good["turns"][1]["prompt_ids"] == [1, 2]
    assert good["turns"][1]["action_ids"] == [3, 4]
    assert good["turns"][1]["logprobs"] == [-0.5, -0.25]
    assert good["turns"][1]["advantages"] == pytest.approx([0.3, 0.4])
    assert (good["reward"], good["success"], good["stop"]) == (1.0, True, "done")
    assert (bad["stop"], bad["error"], bad["turns"]) == ("env_error", "no shop", [])
    assert json.loads((tmp_path / "summary.json").read_text()) == {"status": "done"}


def test_files_keep_to_share_and_size(tmp_path: Path) -> None:
    log = Files(trajectories=0.5, limit_mib=1).open(run_facts(tmp_path))
    log.trajectories(1, [group()] * 4)
    log.close()
    assert len(read_lines(tmp_path / "trajectories.jsonl")) == 4  # two groups of two plays
    small = Files(trajectories=1.0, limit_mib=1e-3).open(run_facts(tmp_path))
    small.trajectories(1, [group()] * 10)
    small.close()
    assert (tmp_path / "trajectories.jsonl").stat().st_size <= 1e-3 * 2**20
    assert "full at log.files.limit_mib" in (tmp_path / "notes.txt").read_text()


def test_a_resumed_run_continues_its_files(tmp_path: Path) -> None:
    log = Files(1.0, 1).open(run_facts(tmp_path))
    for step in range(7):
        log.log(step, {"learner/loss": float(step)})
    log.close()
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 7, "learner/lo')  # killed while writing
    resumed = Files(1.0, 1).open(run_facts(tmp_path, resume="here"))
    resumed.log(5, {"learner/loss": 50.0})
    resumed.close()
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3, 4, 5]
    fresh = Files(1.0, 1).open(run_facts(tmp_path))
    assert isinstance(fresh, FileLog)
    fresh.close()
    assert read_lines(tmp_path / "metrics.jsonl") == []


def test_json_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.json"
    write_json(path, {"a": 1})
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(ValueError, match="Circular"):
        write_json(path, loop)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in path.parent.iterdir()] == ["summary.json"]


def test_an_undefined_metric_is_an_error_here(tmp_path: Path) -> None:
    log = open_logs([Files(1.0, 1)], run_facts(tmp_path))
    with pytest.raises(UndefinedMetric, match="learner/los: not in"):
        log.log(0, {"learner/los": 1.0})
    log.close()


def test_the_metric_table() -> None:
    assert all(metric.about and metric.unit for metric in METRICS.values())
    with pytest.raises(ValueError, match="already defined"):
        define("rollout/reward", "something else")
    with pytest.raises(ValueError, match="expected area/name"):
        define("reward", "no area")


def test_many_logs_act_as_one(tmp_path: Path) -> None:
    logs = [Files(1.0, 1).open(run_facts(tmp_path / name)) for name in ("a", "b") if not (tmp_path / name).mkdir()]
    both = Many(logs)
    both.log(1, METRICS_OF_A_STEP)
    both.close({"status": "done"})
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == (tmp_path / "b" / "metrics.jsonl").read_text() != ""


def test_curve(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training step to draw"):
        curve(tmp_path, "toy")
    log = Files(1.0, 1).open(run_facts(tmp_path))
    log.log(0, {"before/sampled_success": 0.1, "before/sampled_n": 10.0})
    for step in range(1, 5):
        log.log(step, {**METRICS_OF_A_STEP, "rollout/success": step / 5})
    log.log(4, {"after/sampled_success": 0.8, "after/sampled_n": 10.0})
    log.close()
    assert curve(tmp_path, "vspo on toy, seed 0").read_bytes().startswith(b"\x89PNG")


def test_wandb_offline_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run appears, its numbers, what sums them up, its tables, its result, and no key anywhere."""
    key = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_RUN_GROUP", "grpo lr0.001")
    monkeypatch.setenv("WANDB_TAGS", "lr_seed-12345678")
    monkeypatch.setattr("sys.argv", ["agentrl", f"judge.api_key={key}", "steps=2", key])
    settings = Wandb("agentrl-test", None, None, None, ["tag"], Mode.offline, 1, 2)
    cfg = {
        "method": {"clip_high": 0.28},
        "seed": 3,
        "steps": 2,
        "judge": {"api_key": key, "url": f"http://me:{key}@here"},
    }
    cfg |= {"choices": {"method": "grpo", "env": "toy"}}
    facts = {"panel": {"hash": "ab12"}, "provenance": {"git": {"commit": key[::-1]}, "packages": {"a": "1"}}}
    log = settings.open(RunFacts(tmp_path, 2, cfg, 0, facts))
    for step, reward in ((1, 0.5), (2, 0.75), (3, 0.25)):
        log.log(step, {**METRICS_OF_A_STEP, "rollout/reward": reward, "rollout/success": reward})
        log.trajectories(step, [group()])
    log.log(3, {"after/sampled_success": 0.5})
    log.evaluation(3, "after", [{"task": "t", "member": 0, "decoding": "greedy", "success": 1.0, "turns": 2}])
    log.close({"status": "done", "eval": {"after": {"sampled": {"success": 0.5}}}})
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = finished_records(path)

    (run,) = [record.run for record in found if record.HasField("run")]
    assert (run.display_name, run.run_group, run.job_type) == ("grpo lr0.001 seed3", "grpo lr0.001", "train")
    assert list(run.tags) == ["tag", "lr_seed-12345678", "grpo", "toy"]
    assert run.run_id == (tmp_path / "wandb_id.txt").read_text().strip()
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["method"] == {"clip_high": 0.28}
    assert config["facts"] == {"panel": {"hash": "ab12"}, "provenance": {"git": {"commit": key[::-1]}}}
    assert config["judge"] == {"api_key": "***", "url": "http://***@here"}
    (args,) = [record.environment.args for record in found if record.environment.args]
    assert list(args) == ["judge.api_key=***", "steps=2", "***"]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and key.encode() in file.read_bytes()]

    history = [record.history.item for record in found if record.WhichOneof("record_type") == "history"]
    rows = [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row} for row in history]
    steps = [(row["step"], row["rollout/reward"]) for row in rows if "rollout/reward" in row]
    assert steps == [(1, 0.5), (2, 0.75), (3, 0.25)]
    summary: dict[str, Any] = {}
    for record in found:
        if record.WhichOneof("record_type") == "summary":
            summary |= {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update
            }
    assert summary["rollout/success"] == {"max": 0.75}
    assert (summary["rollout/reward"], summary["after/sampled_success"]) == (0.25, 0.5)
    defined = {r.metric.name: r.metric.step_metric for r in found if r.WhichOneof("record_type") == "metric"}
    assert defined["rollout/reward"] == defined["learner/loss"] == "step"

    tables = {file.name.split("_")[0]: json.loads(file.read_text()) for file in path.parent.rglob("*.table.json")}
    training = [json.loads(file.read_text()) for file in sorted(path.parent.rglob("training_*.table.json"))]
    assert sorted(table["data"][0][0] for table in training) == [1, 3]
    assert "> " in training[0]["data"][0][-1]
    assert tables["after"]["data"] == [["after", "greedy", "t", 0, 1.0, None, 2, None]]


def test_a_resumed_run_goes_on_in_the_same_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    settings = Wandb("agentrl-test", None, "named", "grouped", [], Mode.offline, 0, 1)
    settings.open(RunFacts(tmp_path, 2)).close({})
    first = (tmp_path / "wandb_id.txt").read_text()
    settings.open(RunFacts(tmp_path, 2, {"resume": "here"})).close({})
    assert (tmp_path / "wandb_id.txt").read_text() == first
    assert len({path.name for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("WANDB_API_KEY=abc", "WANDB_API_KEY=***"),
        ("judge.api_key_env=OPENAI_API_KEY", "judge.api_key_env=OPENAI_API_KEY"),
        ("model.action_tokens=32", "model.action_tokens=32"),
        ("say sk-abcdefghijklmnop1234 now", "say *** now"),
        ("hf_abcdefghijklmnopqrstuv", "***"),
        ("curl -H 'Authorization: Bearer xyz'", "curl -H 'Authorization: Bearer ***"),
        ("0" * 64, "0" * 64),
        ("method=grpo", "method=grpo"),
    ],
)
def test_keys_are_hidden_and_nothing_else(said: str, expected: str) -> None:
    assert redact.text(said) == expected


def finished_records(path: Path) -> list[Any]:
    """The records once wandb's own process has written the last one, which is a little after ``finish``."""
    for _ in range(200):
        found = wandb_records(path)
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} was not finished within ten seconds")


def wandb_records(path: Path) -> list[Any]:
    """The records of an offline run's file: a LevelDB log (blocks of 32 KiB; crc, length, type) of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    data, records, part, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block that is too short for a header
            at += 32768 - at % 32768
        length, kind = struct.unpack_from("<HB", data, at + 4)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return records


@pytest.mark.parametrize("path", sorted((CONF / "log").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_log_takes_what_the_loop_gives(path: Path) -> None:
    """Logs are called by the protocol's names, so they have its parameters."""
    for node in (value for _, value in targets(compose("train", [f"log={path.stem}"]).log)):
        module = import_module(str(node._target_).rpartition(".")[0])
        logs = [one for one in vars(module).values() if isinstance(one, type) and hasattr(one, "note")]
        for one in logs:
            for name in ("log", "trajectories", "evaluation", "note", "close"):
                expected = list(inspect.signature(getattr(Log, name)).parameters)
                assert list(inspect.signature(getattr(one, name)).parameters) == expected, f"{one.__name__}.{name}"


def test_mlflow_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="MLflow is not installed: pip install 'agentrl[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    sink, facts = MLflow(experiment="shops", uri=f"file://{tmp_path / 'mlruns'}"), run_facts(tmp_path)
    log = sink.open(facts)
    log.log(1, METRICS_OF_A_STEP)
    log.close()
    resumed = sink.open(replace(facts, first_step=1))
    resumed.log(2, {**METRICS_OF_A_STEP, "rollout/reward": 0.75})
    resumed.close({"status": "done", "note": "sk-0123456789abcdef0123"})
    client = tracking.MlflowClient(sink.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("shops").experiment_id])
    points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "rollout/reward")]
    assert points == [(1, 0.5), (2, 0.75)]
    assert run.info.status == "FINISHED"
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-0123456789" not in written


def test_tensorboard_reads_back(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoard(every=1).open(run_facts(tmp_path))
    log.log(1, METRICS_OF_A_STEP)
    log.log(2, {**METRICS_OF_A_STEP, "rollout/reward": 0.75})
    log.close({"status": "done"})
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = [(event.step, event.tensor_proto.float_val[0]) for event in found.Tensors("rollout/reward")]
    assert points == [(1, 0.5), (2, 0.75)]
    assert set(found.Tags()["tensors"]) == set(METRICS_OF_A_STEP)
    meaning = found.SummaryMetadata("rollout/episodes").summary_description
    assert meaning == "fresh episodes, failed ones included [count]"
