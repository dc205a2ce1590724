"""Configs: every YAML names its class's fields, problems come all at once, plug-ins are found, runs are resumed."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from agentrl import config
from agentrl.config import CONF, build, check, compose, load, plain, resumed, save, targets
from agentrl.errors import ConfigError

COMMANDS = (
    "export", "new", "train", "eval", "sft", "env_tool", "play", "serve_retriever", "run_experiment", "plan", "report",
    "view", "show", "run_sweep", "run_wandb_sweep",
)  # fmt: skip
IN_TRAIN = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "debug", "local")
)
INSIDE = {"summarizer": "reward=judge", "client": "judge=vllm"}  # groups that only another choice has -> that choice
GAPS = {  # values that a person must give (???)
    "model": "model.path=somewhere",
    "engine=openai": "engine.model=far",
    "env=gym": "env.id=far",
    "env=verifiers": "env.id=far",
}


@cache
def with_choice(override: str) -> config.Config:
    group, _, choice = override.partition("=")
    if group in INSIDE:
        holder = INSIDE[group].partition("=")[0]
        cfg = compose("train", [INSIDE[group], f"{group}@{holder}.{group}={choice}"])
        return config.changed(cfg, {group: cfg[holder][group]})
    if group in ("sweep", "launcher"):
        return compose("run_sweep", [override])
    return compose("train", [override, *(gap for begin, gap in GAPS.items() if override.startswith(begin))])


@cache
def shipped(name: str) -> config.Config:
    return compose(name)


@pytest.mark.parametrize("override", IN_TRAIN)
def test_yaml_names_exactly_the_fields_of_its_class(override: str) -> None:
    group = override.split("=")[0]
    cfg = with_choice(override)
    nodes = list(targets(cfg[group], group))
    assert nodes, f"{override} names no class"
    for path, node in nodes:
        module, _, name = node["_target_"].rpartition(".")
        cls = getattr(import_module(module), name)
        expected = {field.name for field in fields(cls) if field.init}
        assert set(node) - {"_target_"} == expected, path
        build(node)


@pytest.mark.parametrize("name", COMMANDS)
def test_shipped_configs_have_no_problem(name: str) -> None:
    check(shipped(name))


def test_top_level_words_are_all_read() -> None:
    """Every plain word of every config is a word of the schema, and every word of the schema is in some config."""
    used: set[str] = set()
    for name in COMMANDS:
        words = [str(key) for key in shipped(name)]
        used |= {word for word in words if not isinstance(shipped(name)[word], config.Config)}
    assert used == {field.name for field in fields(config.Words)}


def read_names(folder: Path) -> set[str]:
    """Attribute names that appear in the sources."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    return set(re.findall(r"\.([a-z_][a-z0-9_]*)", text))


def test_every_key_is_read_by_something() -> None:
    """A field that no code ever names is a dead option."""
    known = read_names(CONF.parent / "agentrl")
    unread = {
        f"{path}.{key}"
        for override in IN_TRAIN
        for path, node in targets(with_choice(override))
        for key in node
        if key != "_target_" and key not in known
    }
    assert not unread


@dataclass(frozen=True)
class Paper:
    clip_low: float
    clip_high: float
    kl_coef: float
    names: list[str]

    def __post_init__(self) -> None:
        if self.kl_coef < 0:
            raise ValueError(f"kl_coef: got {self.kl_coef}, expected at least 0")


def make(**values: Any) -> config.Config:
    full = {"clip_low": 0.2, "clip_high": 0.28, "kl_coef": 0.0, "names": ["a"], **values}
    given = {key: value for key, value in full.items() if value != "absent"}
    return config.Config({"method": {"_target_": f"{__name__}.Paper", **given}})


@pytest.fixture(autouse=True)
def _importable() -> None:
    sys.modules.setdefault(__name__, sys.modules[Paper.__module__])


def test_all_problems_of_a_node_at_once() -> None:
    cfg = make(clip_lov=0.1, clip_high="abc", kl_coef="absent", clip_low="${nope}")
    with pytest.raises(ConfigError) as error:
        check(cfg)
    text = str(error.value)
    assert text.startswith("config: 4 problems:")
    for line in (
        "method.clip_lov: unknown; did you mean 'clip_low'?",
        "method.clip_high: Value 'abc' of type 'str' could not be converted to Float",
        "method.kl_coef: missing",
        "method.clip_low: Interpolation key 'nope' not found",
    ):
        assert line in text


def test_range_checks_are_part_of_the_check() -> None:
    with pytest.raises(ConfigError, match=r"method: kl_coef: got -1.0, expected at least 0"):
        check(make(kl_coef=-1))


def test_build_gives_the_object() -> None:
    assert build(make(clip_low=1).method) == Paper(1.0, 0.28, 0.0, ["a"])


def test_a_class_that_cannot_be_imported_is_a_problem() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.at\.All cannot be imported: ModuleNotFoundError"):
        check(config.Config({"method": {"_target_": "nowhere.at.All"}}))


def test_words_are_typed_and_bounded() -> None:
    with pytest.raises(ConfigError) as error:
        check(config.Config({"steps": "x", "seed": -1, "stepsz": 2, "device": "tpu"}))
    text = str(error.value)
    assert "steps: Value 'x'" in text
    assert "seed: got -1, expected at least 0" in text
    assert "stepsz: unknown; did you mean 'steps'?" in text
    assert "device: Invalid value 'tpu', expected one of [auto, cpu, cuda]" in text


def test_a_plug_in_adds_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_pkg" / "conf" / "method"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "theirs.yaml").write_text("defaults: [grpo, _self_]\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", "their_pkg.conf", "agentrl.conf")
    monkeypatch.setattr(config.composing, "entry_points", lambda group: [point] if group == "agentrl.conf" else [])
    cfg = compose("train", ["method=theirs"])
    assert cfg.choices.method == "theirs"
    assert cfg.method == compose("train", ["method=grpo"]).method


def test_another_folder_adds_a_method(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [grpo, _self_]\n")
    assert compose("train", ["method=mine"], config_dir=tmp_path).choices.method == "mine"
    with pytest.raises(ConfigError, match="--config-dir: there is no folder"):
        compose("train", config_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "words",
    [
        ["method=ppo", "env=tool_planning", "seed=3"],
        ["env=webshop", "+reward@eval.scores.x=judge", "log=[files]", "method=rltr"],
        ["seed=4", "method=grpo", "~warmstart", "+method.more=1"],
    ],
)
def test_what_tests_compose_is_what_hydra_composes(words: list[str], tmp_path: Path) -> None:
    """A folder that no other test has takes the long way round tests/once.py."""
    words = [*words, "run_dir=here"]
    for _ in range(2):
        assert compose("train", words) == compose("train", words, config_dir=tmp_path)


def test_saved_configs_read_back(tmp_path: Path) -> None:
    cfg = compose("train", ["seed=3"])
    save(cfg, tmp_path / "config.yaml")
    assert plain(load(tmp_path / "config.yaml")) == plain(cfg)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def resume(run: Path, *overrides: str) -> config.Config:
    given: Sequence[str] = [f"resume={run}", *overrides]
    return resumed(compose("train", given), given)


def test_a_resumed_run_keeps_its_settings(tmp_path: Path) -> None:
    save(compose("train", ["seed=3", "method=grpo", "method.clip_high=0.3", "steps=8"]), tmp_path / "config.yaml")
    cfg = resume(tmp_path, "steps=20", "checkpoint.every=5", "log=files")
    assert (cfg.seed, cfg.choices.method, cfg.method.clip_high) == (3, "grpo", 0.3)
    assert (cfg.steps, cfg.checkpoint.every, list(cfg.log)) == (20, 5, ["files"])
    assert cfg.resume == cfg.run_dir == str(tmp_path)
    assert resume(tmp_path).steps == 8
    check(cfg)


def test_a_resumed_run_refuses_other_changes(tmp_path: Path) -> None:
    save(compose("train"), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"keeps its settings, got method\.clip_high, seed; only steps"):
        resume(tmp_path, "seed=4", "method.clip_high=0.3")


def test_resuming_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/nothing: there is no such folder; give the folder of a run"):
        resume(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"config\.yaml: there is no such file"):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("run_experiment", "experiment scale seeds rows workers gpus launcher out dry_run"),
        ("run_sweep", "sweep sweep_file launcher workers gpus run_dir dry_run"),
        ("run_wandb_sweep", "sweep sweep_file launcher workers gpus run_dir dry_run wandb"),
    ],
)
def test_the_words_of_many_runs_are_those_of_their_yaml(name: str, own: str) -> None:
    assert config.words_of(name) == set(own.split())
