"""A profile from a run's files, and the command: what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from agentrl.cli import main
from agentrl.errors import DataError
from agentrl.log.files import read_json, read_lines
from agentrl.plan.reading import fit, read
from tests.toy import save_toy_model
from tests.toy_run import toy_train

CALL_S, READ_S, ITERATION_S, TOKEN_S, STEP_S, START_S = 0.02, 0.001, 0.05, 0.002, 0.01, 0.03
EPISODES = 8  # 4 tasks x 2 plays


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run's folder as if its engine and environment had exactly the speeds above; 6 batches of 2 turns.

    Every play reads 10 tokens at first, which its group shares, then 20 of its own; it samples 3 and n.
    """
    rng = np.random.default_rng(0)
    calls, metrics, plays, now = [], [], [], 0.0
    for step in range(6):
        lengths = [int(n) for n in rng.integers(2, 9, EPISODES)]
        begin, sampled = now, 0
        now += EPISODES * START_S
        for read_tokens, turn in ((40, [3] * EPISODES), (160, lengths)):
            numbers = {"parts": 1, "read": read_tokens, "iterations": max(turn), "tokens": sum(turn)}
            seconds = CALL_S + READ_S * read_tokens + ITERATION_S * max(turn) + TOKEN_S * sum(turn)
            calls.append({"version": step, "begin": now, "seconds": seconds, "rows": EPISODES, **numbers})
            now += seconds + EPISODES * STEP_S
            sampled += sum(turn)
        counts = {"rollout/tokens": sampled, "rollout/episodes": EPISODES, "rollout/turns": 2.0}
        times = {"time/rollout": now - begin, "time/learner": 0.5 + 0.01 * sampled}
        times |= {"time/sync": 0.25, "time/log": 0.125}
        metrics.append({"step": step + 1, **counts, **times})
        now += 1.0
        for index, n in enumerate(lengths):
            turns = [
                {"prompt_ids": [index // 2] * 10, "action_ids": [0] * 3},
                {"prompt_ids": [index] * 20, "action_ids": [0] * n},
            ]
            plays.append({"step": step + 1, "group": index // 2, "copy": 0, "stop": "done", "turns": turns})
    write_lines(tmp_path / "calls.jsonl", calls)
    write_lines(tmp_path / "metrics.jsonl", metrics)
    write_lines(tmp_path / "trajectories.jsonl", plays)
    (tmp_path / "summary.json").write_text(json.dumps({"facts": {"model": {"parameters": 500_000_000}}}))
    cfg = {"tasks_per_step": 4, "steps": 6, "rollout": {"group_size": 2}, "engine": {"max_batch": 32}, "cluster": {}}
    cfg |= {"learner": {"minibatches": 1, "epochs": 1}, "model": {"dtype": "bfloat16"}}
    OmegaConf.save(OmegaConf.create(cfg), tmp_path / "config.yaml")
    return tmp_path


def test_the_speeds_that_made_the_files_are_found(made: Path) -> None:
    values = read(made).values
    assert values["engine.call_s"] + ITERATION_S == pytest.approx(CALL_S + ITERATION_S, rel=0.01)
    assert values["engine.read_per_s"] == pytest.approx(1 / READ_S, rel=0.01)
    assert values["engine.rows"] == [1.0, 2.0, 8.0]
    expected = [n / (ITERATION_S + TOKEN_S * n) for n in (1, 2, 8)]
    assert values["engine.tokens_per_s"] == pytest.approx(expected, rel=0.01)
    assert values["env.step_s.mean"] == pytest.approx(STEP_S)
    assert values["env.start_s"] == pytest.approx(START_S)
    assert (values["learner.fixed_s"], values["learner.per_token_s"]) == pytest.approx((0.5, 0.01))
    assert (values["push.fixed_s"], values["push.gb"], values["loop.other_s"]) == (0.25, 1.0, 0.125)
    assert (values["tasks_per_step"], values["episodes.group_size"], values["steps"]) == (4, 2, 6)
    assert (values["episodes.first_prompt"], values["episodes.prompt"]) == (10, 20)


def test_the_plan_of_that_run_takes_as_long_as_it_did(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On one GPU, in turns, as it was run."""
    words = [f"run={made}", "gpus=1", "env.step_s.cv=0", "loop.batches=32", f"out={made / 'plan'}"]
    code, out, _ = told(capsys, "plan", *words)
    assert code == 0
    (row,) = read_json(made / "plan" / "plan.json")["rows"]
    lines = read_lines(made / "metrics.jsonl")
    seconds = [sum(line[f"time/{name}"] for name in ("rollout", "learner", "sync", "log")) for line in lines]
    assert row["seconds"] == pytest.approx(np.mean(seconds), rel=0.03)
    assert "From calls.jsonl: engine.rows=" in out
    assert "From the command line: env.step_s.cv=0" in out


def test_the_command_line_wins_over_the_run(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def seconds(*words: str) -> float:
        assert told(capsys, "plan", f"run={made}", "gpus=1", f"out={made}", *words)[0] == 0
        return float(read_json(made / "plan.json")["rows"][0]["seconds"])

    plain = seconds()
    assert seconds("push.fixed_s=10.25") == pytest.approx(plain + 10)
    assert seconds("tasks_per_step=8") > plain * 1.3
    assert seconds("episodes.turns.mean=8", "episodes.turns.most=0") > plain * 2  # by distribution, no more as recorded


def test_without_calls_all_of_a_rollout_is_sampling(made: Path) -> None:
    (made / "calls.jsonl").unlink()
    found = read(made)
    lines = read_lines(made / "metrics.jsonl")[1:]
    speeds = [line["rollout/tokens"] / line["time/rollout"] for line in lines]
    assert found.values["engine.tokens_per_s"] == pytest.approx([np.median(speeds)])
    assert any("has no calls.jsonl" in text for text in found.missing)


def test_a_fit_leaves_out_what_is_far_off() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(1, 10, (60, 2))
    seconds = table @ [0.5, 2.0]
    seconds[::10] *= 5
    assert fit(table, seconds) == pytest.approx([0.5, 2.0])
    assert fit(table, table[:, 0] * 3 - table[:, 1] * 0.01)[1] == 0  # never below 0


def test_a_real_run_leaves_its_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of calls.jsonl are what trajectories.jsonl tells, and a plan comes of them."""
    toy_train(save_toy_model(tmp_path / "model"), tmp_path / "run", "method=grpo", "steps=5", "eval.before=false")
    calls, plays = read_lines(tmp_path / "run" / "calls.jsonl"), read_lines(tmp_path / "run" / "trajectories.jsonl")
    for step in range(5):
        own = [call for call in calls if call["version"] == step]
        turns = [turn for play in plays if play["step"] == step + 1 for turn in play["turns"]]
        assert sum(call["rows"] for call in own) == len(turns)
        assert sum(call["tokens"] for call in own) == sum(len(turn["action_ids"]) for turn in turns)
        first = {tuple(play["turns"][0]["prompt_ids"]) for play in plays if play["step"] == step + 1}
        assert own[0]["read"] == sum(map(len, first))
        longest = max(len(play["turns"][0]["action_ids"]) for play in plays if play["step"] == step + 1)
        assert (own[0]["parts"], own[0]["iterations"]) == (1, longest)
        assert all(call["seconds"] > 0 for call in own)
    capsys.readouterr()  # what the run itself has said
    code, out, err = told(capsys, "plan", f"run={tmp_path / 'run'}", "loop.batches=1")
    assert (code, err) == (0, "")
    assert out.startswith("GPUs\tsampling + learning\t")
    assert len([line for line in out.splitlines() if line[0].isdigit()]) == 11
    assert "A step is bound by " in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run=nowhere"], "nowhere: there is no such folder; give the folder of a run"),
        (["gpus=2"], "gpus=2: an engine takes 1 and the learner at least 4 (engine.gpus, learner.gpus"),
        (["gpus=-1"], "gpus=-1 steps=120: expected gpus of at least 0 and steps of at least 1"),
        (["engine.rows=[1,2]"], "config: 1 problem:\n  engine: tokens_per_s: got 4 values for 2 values of rows"),
        (["loop.max_staleness=1", "loop.placements=[colocated]"], "config: 1 problem:\n  loop: max_staleness: got 1"),
        (["loop.schedule=floating"], "config: 1 problem:\n  loop.schedule: Invalid value 'floating'"),
        (["learner.efficiency=0.3"], "config: 1 problem:\n  learner: efficiency: got 0.3, expected a share in"),
        (["episodes.turns.cv=-1"], "config: 1 problem:\n  episodes.turns: cv: got -1, expected at least 0"),
        (["envv.parallel=1"], "config: 1 problem:\n  envv: unknown; did you mean 'env'?"),
    ],
)
def test_mistakes_are_one_message(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "plan", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"agentrl: {line}")


def test_a_run_that_is_not_finished_is_refused(made: Path) -> None:
    (made / "summary.json").unlink()
    with pytest.raises(DataError, match=r"summary.json is missing; expected a finished run of agentrl train"):
        read(made)


def test_a_run_without_trajectories_is_refused(made: Path) -> None:
    (made / "trajectories.jsonl").unlink()
    with pytest.raises(DataError, match=r"holds no turn; the profile needs them"):
        read(made)


def test_a_run_that_flows_tells_the_engines_speed_alone(made: Path) -> None:
    calls = read_lines(made / "calls.jsonl")
    write_lines(made / "calls.jsonl", [{**call, "stream": True} for call in calls])
    found = read(made)
    assert found.values["engine.call_s"] == pytest.approx(CALL_S, rel=1e-6)
    assert "env.step_s.mean" not in found.values
    assert any("in a run that flows, calls do not wait for environments" in text for text in found.missing)


def test_a_run_of_other_batches_tells_the_learners_fixed_seconds(made: Path, tmp_path: Path) -> None:
    """One size of a batch says only that 100 tokens take 1.5 s; that 50 take 1 s tells what all batches cost."""
    other = tmp_path / "other"
    other.mkdir()
    for folder, tokens, seconds in ((made, 100, 1.5), (other, 50, 1.0)):
        lines = [
            line | {"rollout/tokens": tokens, "time/learner": seconds} for line in read_lines(made / "metrics.jsonl")
        ]
        write_lines(folder / "metrics.jsonl", lines)
    alone = read(made)
    assert any(text.startswith("learner.fixed_s: all batches are of about one size") for text in alone.missing)
    with pytest.raises(DataError, match=r"summary\.json is missing"):
        read(made, [other])
    (other / "summary.json").write_text("{}")
    found = read(made, [other])
    assert found.values["learner.fixed_s"] == pytest.approx(0.5)
    assert found.values["learner.per_token_s"] == pytest.approx(0.01)
    assert len(found.recording.groups) == len(alone.recording.groups)
    assert not any(text.startswith("learner.fixed_s") for text in found.missing)


def test_noise_does_not_make_a_fit_too_low() -> None:
    """Relative to noisy measurements themselves, errors of 25 % would lower it by 6 %."""
    rng = np.random.default_rng(0)
    tokens = rng.uniform(100, 300, 4000)
    seconds = (1.0 + 0.02 * tokens) * rng.normal(1.0, 0.25, 4000).clip(0.1)
    fixed, per_token = fit(np.stack([np.ones(4000), tokens], 1), seconds)
    assert (fixed + 200 * per_token) / 5.0 == pytest.approx(1.0, abs=0.015)
