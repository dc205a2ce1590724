"""Review a command line before anything runs: every mistake of it at once, each with the nearest valid name.

Hydra stops at the first mistake. Here each override is looked at by itself (syntax, group, choice, key); the good
ones are composed and the nodes they touch are checked by type; the union is reported. Nothing is imported for a
node that the command line leaves alone, so that the answer comes in about a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agentrl.config import Config, compose_full, hydra_session, nearest, problems
from agentrl.errors import ConfigError

Compose = Callable[..., Config]  # words -> what they compose to
WIDE = ("experiment", "debug", "local")  # groups whose YAML may set anything


@dataclass
class Review:
    """What was found: ``problems``, and for each good override the list of single choices it stands for."""

    problems: list[str] = field(default_factory=list)
    good: list[list[str]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)


def review(name: str, overrides: Sequence[str], *, multirun: bool = False, config_dir: Path | None = None) -> list[str]:
    """Every problem of the command line, one line each; empty when it composes and its nodes fit their classes.

    Args:
        name: the config, as ``train`` for conf/train.yaml.
        overrides: words of the command line without flags.
        multirun: several values of a key are a sweep; each of them is reviewed.
        config_dir: a folder of further YAML (``--config-dir``).
    """
    with hydra_session(config_dir) as hydra:
        if _good_as_it_stands(hydra, name, overrides):
            return []
        found = Review()
        compose = cache(lambda *words: compose_full(hydra, name, words))
        keys = _read_groups(hydra, compose, overrides, multirun, found)
        try:
            cfg = compose(*(choices[0] for choices in found.good))
        except (HydraException, OmegaConfBaseException) as error:
            found.problems.append(_plain(error))
            return found.problems
        for override in keys:
            _read_key(hydra, cfg, override, multirun, found)
        lines = dict.fromkeys(found.problems)
        for choice in _one_at_a_time(found.good):
            lines |= dict.fromkeys(_composed(compose, choice, found.touched))
        return list(lines)


def _good_as_it_stands(hydra: Hydra, name: str, overrides: Sequence[str]) -> bool:
    """One look at a whole command line that changes what is there: most have no mistake, and to compose takes long."""
    try:
        parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
        if any(one.is_sweep_override() or one.is_add() or one.is_force_add() or one.is_delete() for one in parsed):
            return False
        cfg = compose_full(hydra, name, overrides)
    except (HydraException, OmegaConfBaseException):
        return False
    touched: set[str] = set()
    for one in parsed:
        if not one.is_hydra_override():
            touched |= _touched(one, bool(hydra.config_loader.get_group_options(one.key_or_group)))
    return not _at_nodes(cfg, touched)


def _touched(override: Override, group: bool) -> set[str]:
    """The nodes that an override changes; of a group that may set anything, all."""
    if group:
        return {"*"} if override.key_or_group in WIDE else {override.key_or_group}
    return {override.key_or_group.split(".")[0]}


@dataclass(frozen=True, slots=True)
class Combination:
    """One job of a sweep: all its words, and of those that the sweep varies ``(key, value)``."""

    words: tuple[str, ...]
    varied: tuple[tuple[str, str], ...]


def combinations(overrides: Sequence[str], config_dir: Path | None = None) -> list[Combination]:
    """Every combination of the values that the words give, the last word varying fastest. Raises ConfigError."""
    with hydra_session(config_dir) as hydra:
        parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
        endless = [str(override.input_line) for override in parsed if override.is_interval_sweep()]
        if endless:
            raise ConfigError(
                f"{endless[0]}: a range has no end of values; list some (a,b,c), or give a search space: sweep=NAME"
            )
        choices = [[(override, text) for text in _single(override)] for override in parsed]
    return [
        Combination(
            tuple(text for _, text in chosen),
            tuple(
                (override.key_or_group, text.partition("=")[2])
                for override, text in chosen
                if override.is_sweep_override()
            ),
        )
        for chosen in itertools.product(*choices)
    ]


def _read_groups(
    hydra: Hydra, compose: Compose, overrides: Sequence[str], multirun: bool, found: Review
) -> list[Override]:
    """Sort out syntax errors and group choices; give back the overrides of single keys."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    keys = []
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except (OverrideParseException, HydraException):
            found.problems.append(f"{text}: not an override; write key=value, and quote values with special characters")
            continue
        if override.is_hydra_override():
            found.good.append([text])
        elif hydra.config_loader.get_group_options(override.key_or_group):
            _read_choice(hydra, compose, override, multirun, found)
        else:
            keys.append(override)
    return keys


def _read_choice(hydra: Hydra, compose: Compose, override: Override, multirun: bool, found: Review) -> None:
    group, text = override.key_or_group, str(override.input_line)
    known = hydra.config_loader.get_group_options(group, results_filter=ObjectType.CONFIG)
    used = _groups(hydra, compose())
    if group not in used:  # a choice made before may have brought groups of its own
        with suppress(HydraException, OmegaConfBaseException):
            used = _groups(hydra, compose(*(choices[0] for choices in found.good)))
    if group not in used and not override.is_add():
        found.problems.append(f"{text}: this command has no group {group}; its groups: {', '.join(used)}")
        return
    wrong = [choice for choice in _names(override) if choice not in known]
    if wrong:
        found.problems += [
            f"{group}={choice}: no such {group}; {_lies(group, choice) or nearest(choice, known)}" for choice in wrong
        ]
    elif override.is_sweep_override() and not multirun:
        found.problems.append(f"{text}: several choices are a sweep; add -m, or choose one")
    else:
        found.good.append(_single(override))
        found.touched |= _touched(override, True)


def _lies(group: str, choice: str) -> str:
    """What to add where a choice lies in a folder here that nobody named, as `agentrl new` writes it."""
    for folder in (".", choice):
        if Path(folder, group, f"{choice}.yaml").is_file():
            return f"{Path(folder, group, choice)}.yaml is here: add --config-dir {folder}"
    return ""


def _read_key(hydra: Hydra, cfg: Config, override: Override, multirun: bool, found: Review) -> None:
    text, path = str(override.input_line), override.key_or_group
    top = path.split(".")[0]
    problem = _unknown(cfg, path)
    adds = override.is_add() or override.is_force_add()
    if "/" in path:
        found.problems.append(f"{path}: unknown group; {nearest(path, _groups(hydra, cfg))}")
    elif problem and not adds:
        found.problems.append(problem)
    elif problem and top not in cfg:
        found.problems.append(f"{text}: nothing reads {top}; {nearest(top, _words(cfg))}")
    elif override.is_sweep_override() and not multirun:
        found.problems.append(f"{text}: several values are a sweep; add -m, or quote the value")
    else:
        found.good.append(_single(override))
        found.touched |= _touched(override, False)


def _unknown(cfg: Config, path: str) -> str:
    """A sentence about the first part of a dotted path that the config does not have; empty if it has them all."""
    node: Any = cfg
    done: list[str] = []
    for part in path.split("."):
        if not isinstance(node, DictConfig):
            where = ".".join(done)
            return f"{path}: unknown; {where} is a single value" if not OmegaConf.is_list(node) else ""
        if part not in list(node):  # a key without a value is not `in` its node
            known = _words(node)
            full = ".".join([*done, part])
            return f"{full}: unknown; {nearest(part, known)}"
        done.append(part)
        node = node._get_node(part)
    return ""


def _groups(hydra: Hydra, cfg: Config) -> list[str]:
    """The groups a config takes a choice of."""
    names = {str(key).split("@")[0] for key in cfg.hydra.runtime.choices if not str(key).startswith("hydra/")}
    return sorted(name for name in names if hydra.config_loader.get_group_options(name))


def _words(node: Config) -> list[str]:
    return [str(key) for key in node if key not in ("hydra", "_target_")]


def _names(override: Override) -> list[str]:
    """The group choices an override names (a list of choices counts each)."""
    if override.is_sweep_override():
        values: Iterator[Any] = iter(override.sweep_iterator()) if override.is_discrete_sweep() else iter(())
    else:
        values = iter([override.value()])
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [str(item) for item in flat if item is not None]


def _single(override: Override) -> list[str]:
    """The override once for each of its values."""
    text = str(override.input_line)
    if not override.is_discrete_sweep():
        return [] if override.is_interval_sweep() else [text]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _one_at_a_time(good: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The first of every choice, then each further one with the others left at their first: a sum, not a product."""
    first = [choices[0] for choices in good if choices]
    yield first
    filled = [choices for choices in good if choices]
    for index, choices in enumerate(filled):
        for choice in choices[1:]:
            yield [*first[:index], choice, *first[index + 1 :]]


def _composed(compose: Compose, overrides: Sequence[str], touched: set[str]) -> list[str]:
    """Problems of one composed config, at the nodes that the command line touched."""
    try:
        cfg = compose(*overrides)
    except (HydraException, OmegaConfBaseException) as error:
        return [_plain(error)]
    return _at_nodes(cfg, touched)


def _at_nodes(cfg: Config, touched: set[str]) -> list[str]:
    """Problems at these nodes of a composed config, which is used up."""
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return list(problems(cfg, None if "*" in touched else touched))


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())
