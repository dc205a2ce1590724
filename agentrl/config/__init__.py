"""Find configs, compose them, check them all at once, build objects from them.

YAML holds the numbers, a frozen dataclass holds names, types and range checks, and ``_target_`` joins the two: the
dataclass *is* the schema. A plug-in adds its own YAML with one entry point of the group ``agentrl.conf`` that names
its conf package. Importing this package registers those packages with Hydra.
"""

from agentrl.config.checking import build, check, listing, problems, targets
from agentrl.config.composing import (
    CONF,
    RESUMABLE,
    compose,
    compose_full,
    config_dir,
    hydra_session,
    overridden,
    resolve,
    resumed,
    words_of,
)
from agentrl.config.nodes import Config, at, changed, load, nearest, node, plain, save
from agentrl.config.words import Device, Scale, Words

__all__ = [
    "CONF",
    "RESUMABLE",
    "Config",
    "Device",
    "Scale",
    "Words",
    "at",
    "build",
    "changed",
    "check",
    "compose",
    "compose_full",
    "config_dir",
    "hydra_session",
    "listing",
    "load",
    "nearest",
    "node",
    "overridden",
    "plain",
    "problems",
    "resolve",
    "resumed",
    "save",
    "targets",
    "words_of",
]
