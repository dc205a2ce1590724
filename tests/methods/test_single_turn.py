"""Single-turn GRPO: the theory on grids and trees, and the toy world solved by it."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from agentrl import config, loop
from agentrl.methods.single_turn import minimal_success, population_step
from tests.learning import group, method
from tests.toy import save_toy_model
from tests.toy_run import toy_config, toy_train

PS = [1e-6, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1 - 1e-6]
BETAS = [1e-3, 0.01, 0.04, 0.1, 1.0, 10.0, 1e3]
WORDS = ["method=single_turn", "model.action_tokens=1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("beta", BETAS)
def test_a_population_step_never_lowers_the_expert_s_chance(beta: float) -> None:
    after = [population_step(p, beta) for p in PS]
    assert all(q >= p for p, q in zip(PS, after, strict=True))
    assert all(q > p for p, q in zip(PS, after, strict=True) if 0.01 <= p <= 0.99 and q < 1.0)
    assert population_step(0.0, beta) == 0.0
    assert population_step(1.0, beta) == 1.0


def test_population_step_by_hand_and_as_an_optimum() -> None:
    assert population_step(0.5, 1.0) == pytest.approx(math.e / (math.e + 1 / math.e))  # A = +1, -1
    assert population_step(0.2, 2.0) == pytest.approx(
        0.2 * math.e / (0.2 * math.e + 0.8 * math.exp(-0.25))
    )  # A = 2, -.5
    p, beta = 0.3, 0.7
    plus, minus = math.sqrt((1 - p) / p), -math.sqrt(p / (1 - p))

    def gain(q: float) -> float:
        kl = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        return q * plus + (1 - q) * minus - beta * kl

    best = max((i / 10000 for i in range(1, 10000)), key=gain)
    assert population_step(p, beta) == pytest.approx(best, abs=2e-4)


def test_products_rise_with_their_factors() -> None:
    """Theorem 3.3 on grids: at least as good in every state is at least as good from every state on."""
    for probabilities in itertools.product(PS[1:8:2], repeat=4):
        for beta in (0.04, 1.0):
            before = minimal_success(probabilities)
            after = minimal_success([population_step(p, beta) for p in probabilities])
            assert all(b >= a for a, b in zip(before, after, strict=True))


def test_the_product_is_the_recursion_and_the_enumeration() -> None:
    """P_t by the product, by its recursion, and by adding up all action sequences of minimal length."""
    for seed in range(50):
        rng = random.Random(seed)
        length, choices = rng.randint(1, 4), rng.randint(2, 3)
        # a deterministic tree: one path of `length` actions succeeds; each state has its own policy
        path = [rng.randrange(choices) for _ in range(length)]
        policy: dict[tuple[int, ...], list[float]] = {}
        for depth in range(length):
            for state in itertools.product(range(choices), repeat=depth):
                raw = [rng.random() for _ in range(choices)]
                policy[state] = [x / sum(raw) for x in raw]

        def chance(state: tuple[int, ...], path: list[int] = path, policy: Any = policy) -> float:
            """P_t(s) = E_a [ r(s, a) P_{t+1}(s') ]."""
            if len(state) == len(path):
                return 1.0
            right = path[len(state)]
            return sum(p * (a == right) * chance((*state, a)) for a, p in enumerate(policy[state]))

        found = minimal_success([policy[tuple(path[:t])][path[t]] for t in range(length)])
        for t in range(length):
            rest = 0.0
            for actions in itertools.product(range(choices), repeat=length - t):
                weight, state = 1.0, tuple(path[:t])
                for action in actions:
                    weight, state = weight * policy[state][action], (*state, action)
                rest += weight * (list(state) == path)
            assert found[t] == pytest.approx(chance(tuple(path[:t]))) == pytest.approx(rest)


def test_it_is_grpo_with_a_reference_and_needs_labels() -> None:
    assert method("single_turn").needs == {"siblings", "ref_logprobs", "labels"}
    (plus, *minus) = method("single_turn", std_eps=0.0).advantages(group([1] + [0] * 7))
    assert plus[0] == pytest.approx(math.sqrt(7))
    assert [a[0] for a in minus] == pytest.approx([-1 / math.sqrt(7)] * 7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("context", ["window", "history"])
def test_it_solves_the_toy_world(context: str, seed: int, model: Path, tmp_path: Path) -> None:
    """From single actions on expert states to whole episodes."""
    result = toy_train(model, tmp_path, *WORDS, f"seed={seed}", f"context={context}", "steps=60")
    assert result["eval"]["before"]["sampled"]["success"] < 0.3
    assert result["eval"]["after"]["sampled"]["success"] > 0.9
    assert result["episodes"] == 60 * 8 * 8


def test_equal_seeds_give_equal_runs_also_when_resumed(model: Path, tmp_path: Path) -> None:
    words = [*WORDS, "rollout.noise=0.2", "steps=4", "checkpoint.every=2"]
    for name in ("a", "b"):
        toy_train(model, tmp_path / name, *words)
    assert _metrics(tmp_path / "a") == _metrics(tmp_path / "b")
    last = tmp_path / "b/checkpoints/step_000004"
    for file in sorted(last.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    last.rmdir()
    lines = (tmp_path / "b/metrics.jsonl").read_text().splitlines()
    (tmp_path / "b/metrics.jsonl").write_text("\n".join(x for x in lines if json.loads(x)["step"] <= 2) + "\n")
    loop.train(config.resumed(toy_config(model, tmp_path / "b", [f"resume={tmp_path / 'b'}", *words]), []))
    weights = [(tmp_path / name / "checkpoints/step_000004/model/model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def _metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if not k.startswith(("time/", "speed/", "memory/"))} for x in lines]


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_the_recipes_share_runs_and_starts(scale: str, tmp_path: Path) -> None:
    """Rows of equal name in the main and the transfer recipe are one run; each GRPO row starts from the SFT row."""
    folders: dict[str, dict[str, Path]] = {}
    for name in ("single_turn_main", "single_turn_transfer"):
        cfg = config.compose("run_experiment", [f"experiment={name}", f"scale={scale}", f"out={tmp_path}"])
        recipe = config.build(cfg.experiment)
        folders[name] = {job.row: job.folder for job in recipe.jobs(recipe.scales[scale], cfg) if job.seed == 1}
    main, transfer = folders.values()
    shared = set(main) & set(transfer)
    assert shared == {"cheeseburger untrained", "cheeseburger SFT + GRPO", "double SFT + GRPO"}
    assert all(main[row] == transfer[row] for row in shared)


def test_the_rows_of_a_dish_share_one_start_and_its_demonstrations() -> None:
    cfg = config.compose("run_experiment", ["experiment=single_turn_main"])
    recipe = config.build(cfg.experiment)
    words = {job.row: job.words for job in recipe.jobs(recipe.scales["laptop"], cfg) if " SFT" in job.row}
    runs = {row: config.compose("train", [*given, "seed=0", "run_dir=x"]) for row, given in words.items()}
    for dish in ("cheeseburger", "double"):
        rows = {row: run for row, run in runs.items() if row.startswith(f"{dish} SFT")}
        starts = {config.build(run.warmstart).forecast(run, config.build(run.env))["hash"] for run in rows.values()}
        assert len(rows) == 4
        assert len(starts) == 1
        assert {run.rollout.pool for run in rows.values()} == {run.warmstart.pool for run in rows.values()} == {200}
        assert {float(run.rollout.get("noise", 0.0)) for run in rows.values()} == {0.0}
        assert {float(run.learner.lr) for run in rows.values()} == {3e-4}
        assert {run.steps for row, run in rows.items() if row != f"{dish} SFT"} == {120}
