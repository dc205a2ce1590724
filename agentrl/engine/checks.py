"""What every engine refuses, in the same words: requests it has no room for, weights of another model, talk beside a
stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import torch

from agentrl.engine.base import Arriving, Request
from agentrl.errors import EngineError

SAME = "learner and engine must be built from the same model"


class Closable(Protocol):
    """The part of a stream that says whether it is over."""

    closed: bool


def require_room(request: Request, context: int, knob: str) -> None:
    """Raises EngineError where an engine with so much ``context`` (tokens) cannot serve the request; ``knob``: what to
    do about ``model.context_tokens``."""
    length, more = len(request.prompt_ids), request.max_tokens
    if length == 0 or more < 1:
        raise EngineError(f"engine: got a prompt of {length} tokens and max_tokens={more}, expected at least 1 of each")
    if length + more > context:
        raise EngineError(
            f"engine: prompt of {length} tokens and max_tokens={more} exceed the engine's context of {context}; "
            f"{knob} model.context_tokens, lower model.action_tokens, or use context=window"
        )


def require_quiet(stream: Closable | None, who: str) -> None:
    """Raises EngineError while ``who`` serves a stream: nothing else can be asked of it then."""
    if stream is not None and not stream.closed:
        raise EngineError(f"engine: {who} a stream of requests; close it before anything else is asked of it")


def fitting(
    weights: Iterable[tuple[str, torch.Tensor]], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights, detached, as they come. Raises EngineError on an unknown, double or misshapen one, and at the end
    on a missing one."""
    missing = dict(shapes)
    for name, tensor in weights:
        _strike(missing, name, tuple(tensor.shape))
        yield name, tensor.detach()
    _require_none(missing)


def checked(
    weights: Iterable[tuple[str, torch.Tensor]], shapes: Mapping[str, tuple[int, ...]]
) -> Iterable[tuple[str, torch.Tensor]]:
    """As :func:`fitting`, but errors come before the first weight does: weights that come one by one are judged by what
    was announced, all others are gathered first."""
    if not isinstance(weights, Arriving):
        return list(fitting(weights, shapes))
    missing = dict(shapes)
    for name, shape in weights.shapes.items():
        _strike(missing, name, shape)
    _require_none(missing)
    return fitting(weights, shapes)


def _strike(missing: dict[str, tuple[int, ...]], name: str, came: tuple[int, ...]) -> None:
    shape = missing.pop(name, None)
    if shape is None:
        raise EngineError(f"engine: weight '{name}' is unknown to the engine's model or came twice; {SAME}")
    if shape != came:
        raise EngineError(f"engine: weight '{name}' came with shape {came}, expected {tuple(shape)}; {SAME}")


def _require_none(missing: Mapping[str, tuple[int, ...]]) -> None:
    if missing:
        raise EngineError(
            f"engine: {len(missing)} weight(s) did not come, the first is '{next(iter(missing))}'; {SAME}"
        )
