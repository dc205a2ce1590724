"""Hydra reads a YAML and merges one choice of groups once for all tests; single keys it sets each time.

To compose takes a seventh of a second, and the tests do it some two thousand times: a quarter of their time.
"""

from __future__ import annotations

from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra._internal import config_loader_impl as loader
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import Overrides

HERE = Path(__file__).resolve().parent
STILL = {str(HERE.parent / "conf"), str(HERE / "conf"), "hydra.conf", ""}  # where no test changes a file


def install(patch: pytest.MonkeyPatch) -> None:
    """From now on, in this process."""
    load, order, merge = (
        FileConfigSource.load_config,
        loader.create_defaults_list,
        ConfigLoaderImpl._compose_config_from_defaults_list,
    )
    read: dict[Any, Any] = {}
    ordered: dict[Any, Any] = {}
    merged: dict[int, Any] = {}

    def load_once(self: FileConfigSource, config_path: str) -> Any:
        if self.path not in STILL:
            return load(self, config_path)
        key = (self.provider, self.path, config_path)
        if key not in read:
            read[key] = load(self, config_path)
        return deepcopy(read[key])

    def order_once(repo: Any, config_name: str, overrides_list: list[Any], **more: Any) -> Any:
        def made() -> Any:
            return order(repo=repo, config_name=config_name, overrides_list=overrides_list, **more)

        places = tuple(source.path for source in repo.get_sources())
        if not STILL.issuperset(places):
            return made()
        keys = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        groups = tuple(one.input_line for one in overrides_list if not any(one is key for key in keys))
        wanted = (places, config_name, groups, *more.items())
        if wanted not in ordered:
            ordered[wanted] = made()
            merged[id(ordered[wanted].defaults)] = None
        found = copy(ordered[wanted])
        found.config_overrides = keys
        return found

    def merge_once(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
        if id(defaults) not in merged:
            return merge(self, defaults, repo)
        if merged[id(defaults)] is None:
            merged[id(defaults)] = merge(self, defaults, repo)
        return deepcopy(merged[id(defaults)])

    patch.setattr(FileConfigSource, "load_config", load_once)
    patch.setattr(loader, "create_defaults_list", order_once)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once)
