"""Find configs, compose them, check them all at once, build objects from them.

YAML holds the numbers, a frozen dataclass holds names, types and range checks, and ``_target_`` joins the two: the
dataclass *is* the schema. A plug-in adds its own YAML with one entry point of the group ``agentrl.conf`` that names
its conf package. Importing this module registers those packages with Hydra.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from enum import StrEnum
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from agentrl.errors import ConfigError

Config = DictConfig

_HERE = Path(__file__).resolve().parent
CONF = next((folder for folder in (_HERE / "conf", _HERE.parent / "conf") if folder.is_dir()), _HERE / "conf")
#: what a resumed run may change
RESUMABLE = ("steps", "log", "checkpoint", "device", "parallel", "watchdog", "guards", "resume")


class PluginConfigs(SearchPathPlugin):
    """Append the conf package of every installed ``agentrl.conf`` entry point to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for point in entry_points(group="agentrl.conf"):
            search_path.append(provider=point.name, path=f"pkg://{point.value}")


Plugins.instance().register(PluginConfigs)


class Device(StrEnum):
    """Where tensors live; ``auto`` takes a GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Scale(StrEnum):
    """Of an experiment: the bundled worlds and the tiny model, or what the paper had."""

    laptop = "laptop"
    paper = "paper"


@dataclass(frozen=True)
class Words:
    """The top-level words of the command line and their types; each config uses some of them."""

    steps: int = 1
    tasks_per_step: int = 1
    max_staleness: int = 0
    seed: int = 0
    seconds: float = 1.0
    device: Device = Device.auto
    run_dir: str = ""
    resume: str | None = None
    golden: str | None = None
    split: str = "train"
    task: str | None = None
    run: str | None = None
    also: list[str] = field(default_factory=list)
    play: str | None = None
    colour: str = "mask"
    open: bool = True
    runs: list[str] = field(default_factory=list)
    gpus: int = 0
    corpus: str = ""
    port: int = 0
    scale: Scale = Scale.laptop
    seeds: list[int] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    workers: int = 0
    out: str = ""
    dry_run: bool = False
    extra: list[str] = field(default_factory=list)
    command: str = "train"
    sweep_file: str | None = None
    name: str | None = None
    folder: str | None = None
    step: int | None = None
    merge: bool = True
    dtype: str = ""

    def __post_init__(self) -> None:
        least = {"steps": 0, "tasks_per_step": 1, "seed": 0, "seconds": 0.1}
        if self.max_staleness not in (0, 1):
            raise ValueError(f"max_staleness: got {self.max_staleness}, expected 0 or 1 batch")
        wrong = [(name, low) for name, low in least.items() if getattr(self, name) < low]
        if wrong:
            raise ValueError(
                "\n".join(f"{name}: got {getattr(self, name)}, expected at least {low}" for name, low in wrong)
            )


@contextmanager
def hydra_session(config_dir: str | Path | None = None) -> Iterator[Hydra]:
    """Hydra over our configs, the plug-ins' and those of ``config_dir``; the previous global state is put back."""
    before, before_config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    search_path = create_config_search_path(str(CONF))
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir: there is no folder {folder}; give an existing one")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    try:
        yield Hydra.create_main_hydra2(task_name="agentrl", config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = before
        HydraConfig.instance().cfg = before_config


def compose(name: str, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The resolved config ``conf/<name>.yaml`` with ``overrides``: what a command's job is given."""
    with hydra_session(config_dir) as hydra:
        full = compose_full(hydra, name, overrides)
        HydraConfig.instance().set_config(full)
        with open_dict(full):
            del full["hydra"]
        resolve(full)
    return full


def config_dir() -> Path | None:
    """The folder that the command line in progress named as --config-dir."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    return next((Path(source.path) for source in sources if source.provider == "command-line"), None)


def words_of(name: str) -> set[str]:
    """The first parts of the words that a person may give the config ``conf/<name>.yaml``: its own keys and groups."""
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(cfg, DictConfig)
    groups = [str(key) for entry in cfg.defaults if isinstance(entry, DictConfig) for key in entry]
    filled = ("defaults", "choices", "hydra", "command", "extra")  # by Hydra and the command line
    return {*_keys(cfg), *(key for key in groups if " " not in key)}.difference(filled)


def overridden() -> list[str]:
    """The dotted keys that the command line in progress gives."""
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    return [word.partition("=")[0].lstrip("+~") for word in words]


def compose_full(hydra: Hydra, name: str, overrides: Sequence[str]) -> Config:
    """The composed config with its ``hydra`` node and unresolved interpolations. Raises Hydra's own exceptions, and
    ConfigError on a file that is no YAML."""
    try:
        return hydra.compose_config(
            config_name=name,
            overrides=list(overrides),
            run_mode=RunMode.RUN,
            with_log_configuration=False,
            from_shell=False,
        )
    except YAMLError as error:
        raise ConfigError(f"no YAML: {' '.join(str(error).split())}; mend the file") from None


def resolve(cfg: Config) -> None:
    """Replace every interpolation by its value, in place. Raises ConfigError."""
    try:
        OmegaConf.resolve(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {_first_line(error)}") from None


def check(cfg: Config, only: Collection[str] | None = None) -> None:
    """Raise ConfigError listing every problem of the config (or of the top-level keys in ``only``)."""
    found = list(problems(cfg, only))
    if found:
        raise ConfigError(listing(found))


def listing(found: Sequence[str]) -> str:
    """Problems as one message."""
    return "\n  ".join([f"config: {len(found)} problem{'s' * (len(found) > 1)}:", *found])


def problems(cfg: Config, only: Collection[str] | None = None) -> Iterator[str]:
    """One line for each unknown word, unknown key, missing value, wrong type and refused value."""
    yield from _word_problems(cfg)
    for path, node in targets(cfg):
        if only is None or path.split(".")[0] in only:
            lines = list(_node_problems(path, node))
            yield from lines or _build_problems(path, node)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Config]]:
    """Every node that names a class, with its dotted path. Nodes inside lists are not walked."""
    if isinstance(node, DictConfig) and not node._is_none():
        if "_target_" in node:
            yield path, node
        for key in _keys(node):
            if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
                yield from targets(node[key], f"{path}.{key}" if path else key)


def build(node: Config) -> Any:
    """Build the object that ``node._target_`` names from its own fields. Raises ConfigError with all its problems."""
    path = str(node._get_full_key(None)) or "config"
    if "_target_" not in node:
        raise ConfigError(f"{path}: names no class; begin its YAML with _target_: module.Class")
    nodes = list(targets(node, path))
    found = [line for place, part in nodes for line in _node_problems(place, part)]
    found = found or [line for place, part in nodes for line in _build_problems(place, part)]
    if found:
        raise ConfigError(listing(found))
    return _construct(node)


def resumed(cfg: Config, overrides: Sequence[str]) -> Config:
    """The config of the run ``cfg.resume``, changed by ``overrides`` of words in ``RESUMABLE`` (``log`` and
    ``parallel`` as a whole).

    Raises ConfigError if there is no such run, or if ``overrides`` change anything else.
    """
    folder = Path(cfg.resume)
    saved = load(folder / "config.yaml")
    given = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    given = {key for key in given if not key.startswith(("hydra.", "hydra/"))}
    refused = sorted(key for key in given if key.split(".")[0] not in RESUMABLE)
    if refused:
        raise ConfigError(
            f"resume={folder}: a resumed run keeps its settings, got {', '.join(refused)}; only {', '.join(RESUMABLE)} "
            "may change. Leave the others out, or start a new run."
        )
    with open_dict(saved):
        for name in ("watchdog", "guards", "parallel"):  # a run of a version without one
            if name not in saved:
                saved[name] = cfg[name]
        for key in given:
            if (group := key.split(".")[0]) in ("log", "parallel"):
                saved[group] = cfg[group]
            else:
                OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
        saved.resume = saved.run_dir = str(folder)
    return saved


def save(cfg: Config, path: Path) -> None:
    """Write a config as YAML, resolved, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(OmegaConf.to_yaml(cfg, resolve=True))
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def load(path: Path) -> Config:
    """Read a config written by :func:`save`. Raises ConfigError when there is none."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: there is no such folder; give the folder of a run")
    if not path.is_file():
        raise ConfigError(
            f"{path}: there is no such file; expected the config.yaml of a run's folder (a run that was ended while it "
            "was set up has none: give its own command again)"
        )
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path}: not a config (expected key: value lines)")
    return cfg


def plain(cfg: Config) -> dict[str, Any]:
    """A config as resolved plain dicts, lists and values."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def node(values: Mapping[str, Any]) -> Config:
    """A config of plain values."""
    return OmegaConf.create(dict(values))


def at(cfg: Config, key: str) -> Any:
    """The value at a dotted key."""
    return OmegaConf.select(cfg, key)


def changed(cfg: Config, values: Mapping[str, Any]) -> Config:
    """A resolved copy in which the values or whole nodes at dotted keys are other ones."""
    copy = OmegaConf.create(plain(cfg))
    for key, value in values.items():
        OmegaConf.update(copy, key, value, merge=False)
    return copy


def nearest(word: str, known: Collection[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them."""
    near = get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"


def _word_problems(cfg: Config) -> Iterator[str]:
    known = [field.name for field in fields(Words)]
    given = [key for key in _keys(cfg) if not OmegaConf.is_dict(cfg._get_node(key))]
    schema = _schema(Words)
    for key in given:
        if key in known:
            yield from _value_problems("", key, cfg, schema)
        else:
            yield f"{key}: unknown; {nearest(key, known)}"
    try:
        OmegaConf.to_object(schema)
    except (OmegaConfBaseException, ValueError) as error:
        yield from str(error).splitlines()


def _node_problems(path: str, node: Config) -> Iterator[str]:
    try:
        cls = _locate(node._target_)
    except Exception as error:  # a plug-in's module may fail in any way when imported
        hint = "; install its package, or give its folder as --config-dir" if isinstance(error, ImportError) else ""
        yield (
            f"{path}._target_: {node._target_} cannot be imported: {type(error).__name__}: {_first_line(error)}{hint}"
        )
        return
    if not is_dataclass(cls):
        yield f"{path}._target_: {node._target_} is not a dataclass; its fields are the schema of its YAML"
        return
    try:
        schema = _schema(cls)
    except OmegaConfBaseException as error:
        yield f"{path}._target_: {node._target_} cannot be a schema: {_first_line(error)}"
        return
    known = [field.name for field in fields(cls) if field.init]
    for key in _keys(node):
        if key != "_target_" and key not in known:
            yield f"{path}.{key}: unknown; {nearest(key, known)}"
    for name in known:
        if name in node or OmegaConf.is_missing(schema, name):
            yield from _value_problems(path, name, node, schema)


def _value_problems(path: str, name: str, node: Config, schema: Config) -> Iterator[str]:
    """Put one value into the schema; a line for what it refuses."""
    full = f"{path}.{name}" if path else name
    try:
        if name not in node or OmegaConf.is_missing(node, name):
            yield f"{full}: missing; give {full}=VALUE"
        else:
            schema.merge_with({name: node[name]})  # unlike an assignment, it fills records inside of records
    except OmegaConfBaseException as error:
        yield f"{full}: {_first_line(error)}"


def _build_problems(path: str, node: Config) -> Iterator[str]:
    """The class's own range checks, which fire when the object is made."""
    try:
        _construct(node)
    except _BrokenPart:
        return
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        text = _first_line(error)
        yield text if text.startswith(f"{path}.") else f"{path}: {text}"


class _BrokenPart(ConfigError):
    """A node cannot be built because a part of it cannot; the part is reported by itself."""


def _construct(node: Config) -> Any:
    """The object of a node. A field whose value names a class is a part: built first, handed over as it is."""
    cls = _locate(node._target_)
    parts = {key: _part(node[key]) for key in _keys(node) if _names_class(node, key)}
    values = {key: value for key, value in node.items() if key != "_target_" and key not in parts}
    merged: Any = OmegaConf.merge(_schema(cls), values)
    if not parts:
        return OmegaConf.to_object(merged)
    simple = {key: merged[key] for key in _keys(merged) if key not in parts}
    return cls(**{key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in simple.items()}, **parts)


def _names_class(node: Config, key: str) -> bool:
    """Is the value of ``key`` a part, or parts by name?"""
    value = node[key]
    if not isinstance(value, DictConfig) or value._is_none():
        return False
    return "_target_" in value or (len(value) > 0 and all(_names_class(value, name) for name in _keys(value)))


def _part(node: Config) -> Any:
    if "_target_" not in node:
        return {name: _part(node[name]) for name in _keys(node)}
    try:
        return _construct(node)
    except Exception as error:  # as _node_problems: whatever a class does when it is made
        raise _BrokenPart(_first_line(error)) from None


def _keys(node: Config) -> list[str]:
    return [str(key) for key in node]


def _locate(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _schema(cls: Any) -> Config:
    schema: Config = OmegaConf.structured(cls)
    OmegaConf.set_readonly(schema, False)  # a frozen dataclass gives a read-only schema
    return schema


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
