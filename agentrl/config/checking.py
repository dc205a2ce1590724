"""Check configs all at once, and build the objects that they name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agentrl.config.nodes import Config, first_line, keys, nearest
from agentrl.config.words import Words
from agentrl.errors import ConfigError


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
        for key in keys(node):
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


def _word_problems(cfg: Config) -> Iterator[str]:
    known = [field.name for field in fields(Words)]
    given = [key for key in keys(cfg) if not OmegaConf.is_dict(cfg._get_node(key))]
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
            f"{path}._target_: {node._target_} cannot be imported: {type(error).__name__}: {first_line(error)}{hint}"
        )
        return
    if not is_dataclass(cls):
        yield f"{path}._target_: {node._target_} is not a dataclass; its fields are the schema of its YAML"
        return
    try:
        schema = _schema(cls)
    except OmegaConfBaseException as error:
        yield f"{path}._target_: {node._target_} cannot be a schema: {first_line(error)}"
        return
    known = [field.name for field in fields(cls) if field.init]
    for key in keys(node):
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
        yield f"{full}: {first_line(error)}"


def _build_problems(path: str, node: Config) -> Iterator[str]:
    """The class's own range checks, which fire when the object is made."""
    try:
        _construct(node)
    except _BrokenPart:
        return
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        text = first_line(error)
        yield text if text.startswith(f"{path}.") else f"{path}: {text}"


class _BrokenPart(ConfigError):
    """A node cannot be built because a part of it cannot; the part is reported by itself."""


def _construct(node: Config) -> Any:
    """The object of a node. A field whose value names a class is a part: built first, handed over as it is."""
    cls = _locate(node._target_)
    parts = {key: _part(node[key]) for key in keys(node) if _names_class(node, key)}
    values = {key: value for key, value in node.items() if key != "_target_" and key not in parts}
    merged: Any = OmegaConf.merge(_schema(cls), values)
    if not parts:
        return OmegaConf.to_object(merged)
    simple = {key: merged[key] for key in keys(merged) if key not in parts}
    return cls(**{key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in simple.items()}, **parts)


def _names_class(node: Config, key: str) -> bool:
    """Is the value of ``key`` a part, or parts by name?"""
    value = node[key]
    if not isinstance(value, DictConfig) or value._is_none():
        return False
    return "_target_" in value or (len(value) > 0 and all(_names_class(value, name) for name in keys(value)))


def _part(node: Config) -> Any:
    if "_target_" not in node:
        return {name: _part(node[name]) for name in keys(node)}
    try:
        return _construct(node)
    except Exception as error:  # as _node_problems: whatever a class does when it is made
        raise _BrokenPart(first_line(error)) from None


def _locate(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _schema(cls: Any) -> Config:
    schema: Config = OmegaConf.structured(cls)
    OmegaConf.set_readonly(schema, False)  # a frozen dataclass gives a read-only schema
    return schema
