"""The words by which conf/method/vspo.yaml chooses what the paper leaves open."""

from __future__ import annotations

from enum import StrEnum, auto


class Spread(StrEnum):
    """The sigma of V: standard deviation or variance."""

    std = auto()
    var = auto()


class Ceiling(StrEnum):
    """R_max: ``one``, the highest attainable reward, or the best of the ``group``."""

    one = auto()
    group = auto()


class Replace(StrEnum):
    """Which groups give way: ``none``, those of zero advantage (``zero_adv``), or also those of ``low_value``."""

    none = auto()
    zero_adv = auto()
    low_value = auto()


class Draw(StrEnum):
    """Replacements are drawn ``by_value`` or ``at_random``."""

    by_value = auto()
    at_random = auto()


class Source(StrEnum):
    """Replacements come from this ``batch``, or also from a ``buffer`` of recent ones."""

    batch = auto()
    buffer = auto()
