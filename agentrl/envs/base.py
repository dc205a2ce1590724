"""What an environment is: two small classes of plain functions over messages.

``Env`` is built once and owns the shared read-only data; ``Episode`` is one play of one task.
No tokens, no torch: a person who has read this page can write one. ``agentrl env check`` explains
every breach of the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from agentrl.types import Message, Messages, Split, Task


@dataclass(frozen=True, slots=True)
class Step:
    """The environment's answer to one action.

    ``parsed``: the action followed the environment's grammar (it may still have been useless).
    ``info``: anything else worth recording; ``info["reward_parts"]`` names the parts of a final reward. At the end of
    an episode that asks for an answer in words, ``info["answer"]`` is that answer (None: none was given) and
    ``info["golds"]`` are the texts that it may equal.
    """

    observation: Messages
    reward: float = 0.0
    done: bool = False
    parsed: bool = True
    info: Mapping[str, Any] = field(default_factory=dict)


class Episode(Protocol):
    """One play of one task: started once, never reset, never reused.

    Under ``schedule=flowing`` different episodes step at once, in threads: what they share must bear that.
    """

    @property
    def task(self) -> Task: ...

    @property
    def goal(self) -> Messages:
        """What stays true all episode long (system rules, the instruction). Shown at every turn by `window`."""
        ...

    @property
    def observation(self) -> Messages:
        """What the policy sees before its first action, without the goal."""
        ...

    def step(self, action: Message) -> Step:
        """Play one assistant message. An invalid action is data, not an exception."""
        ...

    def actions(self) -> Sequence[str]:
        """Some valid actions in the current state as text (all of them where they can be listed)."""
        ...

    def snapshot(self) -> Any:
        """An immutable, picklable state from which ``Env.restore`` makes an equal episode."""
        ...

    def close(self) -> None: ...


Expert = Callable[[Episode], Message]


def offered(episode: Episode) -> Sequence[Mapping[str, Any]]:
    """The tools an episode offers (none unless it has ``tools``), fixed all episode long.

    Each is ``{"type": "function", "function": {"name", "description", "parameters": a JSON schema}}``; prompts show
    them in the template's own form, calls come in ``Message.tool_calls``, results go back as messages of role ``tool``.
    """
    tools: Sequence[Mapping[str, Any]] = getattr(episode, "tools", ())
    return tools


@runtime_checkable
class Env(Protocol):
    """A family of tasks, built once from ``conf/env/<name>.yaml``."""

    @property
    def success_return(self) -> float:
        """An episode succeeds when its return (sum of step rewards) reaches this."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What a result must name to be comparable: data set, mode, view, seeds, compat switches (JSON-able)."""
        ...

    def tasks(self, split: Split) -> Sequence[Task]: ...

    def start(self, task: Task) -> Episode: ...

    def restore(self, state: Any) -> Episode: ...

    def expert(self, noise: float, seed: int) -> Expert:
        """A player that knows the goal; ``noise`` in [0, 1] makes it err. Raises EnvError where there is none."""
        ...

    def close(self) -> None: ...


class FieldsTravel:
    """For environments that load their world when it is first needed: only the fields of the dataclass are pickled, and
    another process loads its own world."""

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
