"""Find configs and compose them: ours, the plug-ins', the person's own, those of a run that goes on.

Importing this module registers the packages of plug-ins with Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

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

from agentrl.config.nodes import Config, first_line, keys, load
from agentrl.errors import ConfigError

_HERE = Path(__file__).resolve().parents[1]
CONF = next((folder for folder in (_HERE / "conf", _HERE.parent / "conf") if folder.is_dir()), _HERE / "conf")
#: what a resumed run may change
RESUMABLE = ("steps", "log", "checkpoint", "device", "parallel", "watchdog", "guards", "resume")


class PluginConfigs(SearchPathPlugin):
    """Append the conf package of every installed ``agentrl.conf`` entry point to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for point in entry_points(group="agentrl.conf"):
            search_path.append(provider=point.name, path=f"pkg://{point.value}")


Plugins.instance().register(PluginConfigs)


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
    return {*keys(cfg), *(key for key in groups if " " not in key)}.difference(filled)


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
        raise ConfigError(f"{error.full_key or 'config'}: {first_line(error)}") from None


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
