"""One query being planned: calls are made and answered until the planner says ``<answer>``.

State is the tuple of calls made so far and little else, so snapshots cost nothing. A message must hold either
calls, all of which can be read, or the answer tag; anything else is not parsed and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from agentrl import toolcalls
from agentrl.answers import OPENING
from agentrl.completeness import Call, Match, match
from agentrl.envs.base import Step
from agentrl.envs.tool_planning import answers, compact
from agentrl.envs.tool_planning.answers import MANNERS
from agentrl.envs.tool_planning.schemas import TOOLS
from agentrl.envs.tool_planning.transcript import transcript_of
from agentrl.envs.tool_planning.world import Outcome, World
from agentrl.types import Message, Messages, Task, ToolCall

MOST_CALLS = 16  # in one message; more are not parsed
MANY = f"At most {MOST_CALLS} calls may stand in one message."


class Tools(Protocol):
    """What runs calls: the bundled world, or simulated results."""

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class State:
    """All that changes in an episode."""

    calls: tuple[Call, ...] = ()
    turn: int = 0  # of the user, in tasks of several
    failed: bool = False  # the last action did nothing useful
    last: str = ""  # the last call as text, for repeats


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """From which ``ToolPlanning.restore`` makes an equal episode."""

    task: Task
    state: State


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an action says: calls, or that all is done (with ``said`` in words of the compact view), or nothing
    (``wrong`` says why)."""

    calls: tuple[ToolCall, ...] = ()
    answers: bool = False
    said: str | None = None
    wrong: str = ""
    malformed: int = 0


class PlanningEpisode:
    """One play. ``world`` is None where results are simulated; ``compact_view`` and ``answers`` need it."""

    __slots__ = ("_tools", "answers", "compact_view", "score", "state", "task", "world")

    def __init__(
        self, task: Task, tools: Tools, world: World | None, compact_view: bool, score: str, answers: bool = False
    ) -> None:
        self.task = task
        self.world = world
        self.compact_view = compact_view
        self.score = score
        self.answers = answers
        self.state = State()
        self._tools = tools

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Schemas of the tools on offer; the compact view shows none."""
        if self.compact_view:
            return ()
        return [TOOLS[tool] if isinstance(tool, str) else tool for tool in self.task.data["tools"]]

    @property
    def goal(self) -> Messages:
        if self.compact_view:
            return (Message("user", self.task.data["short"]),)
        return (Message("system", MANNERS[self.answers].rules),)

    @property
    def observation(self) -> Messages:
        """The query before the first action."""
        if self.compact_view:
            return (Message("user", self._shown()),)
        return (Message("user", self.queries[self.state.turn]),)

    @property
    def queries(self) -> Sequence[str]:
        """What the user says, turn by turn (most tasks have one)."""
        return list(self.task.data.get("queries", (self.task.data["query"],)))

    def matched(self) -> Match:
        """The calls so far against the requirements."""
        return match(self.task.data["requirements"], self.state.calls)

    def step(self, action: Message) -> Step:
        """Play one message.

        ``info``: ``calls`` (as ``completeness.Call``), ``matched`` and ``needed`` requirements, ``invalid`` and
        ``repeated`` calls (equal to the call just before), ``malformed`` calls; at the end ``reward_parts``, and
        ``answer`` where it was given in words of the compact view.
        """
        meant = self._read(action)
        if meant.answers:
            return self._answer(meant.said)
        made, shown, repeated = self._run(meant.calls)
        failed = bool(meant.wrong) or any(not call.ok for call in made)
        self.state = replace(self.state, calls=(*self.state.calls, *made), failed=failed)
        found = self.matched()
        info = {
            "calls": [asdict(call) for call in made],
            "matched": len(found.pairs),
            "needed": found.needed,
            "invalid": sum(not call.ok for call in made),
            "repeated": repeated,
            "malformed": meant.malformed,
        }
        if self.compact_view:
            observation: Messages = (Message("user", self._shown()),)
        else:
            observation = shown or (Message("user", meant.wrong),)
        return Step(observation, parsed=not meant.wrong, info=info)

    def actions(self) -> Sequence[str]:
        """Calls of what is in view, and the end."""
        if self.world is None:
            required = [expert_call(requirement, self.matched()) for requirement in self.task.data["requirements"]]
            return [*(toolcalls.write((call,)) for call in required if call is not None), OPENING]
        listed = compact.actions(self.task, self.state.calls, self.world)
        if self.compact_view:
            return [*listed[:-1], self.hasty()]
        meant = [compact.parse(text, self.task, self.state.calls, self.world) for text in listed]
        return [*(toolcalls.write((call,)) for call in meant if isinstance(call, ToolCall)), self.hasty()]

    def hasty(self) -> str:
        """The action that ends the episode now, whatever is missing."""
        if not self.answers:
            return "answer" if self.compact_view else OPENING
        return answers.hasty(self.task, self.state.calls, self.world if self.compact_view else None)

    def right(self) -> str:
        """The action that ends a complete episode."""
        if not self.answers:
            return self.hasty()
        return answers.right(self.task, self.state.calls, self.matched(), self.world if self.compact_view else None)

    def snapshot(self) -> EpisodeState:
        return EpisodeState(self.task, self.state)

    def close(self) -> None:
        """Nothing to free: the sandbox is the environment's."""

    def _read(self, action: Message) -> Meaning:
        if self.compact_view and self.world is not None:
            words = action.content.split()
            if self.answers and words[:1] == ["answer"]:
                return Meaning(answers=True, said=answers.told(words[1:], self.state.calls, self.world))
            meant = compact.parse(action.content, self.task, self.state.calls, self.world)
            if meant is None:
                return Meaning(wrong=MANNERS[self.answers].mute)
            return Meaning(answers=True) if isinstance(meant, str) else Meaning((meant,))
        read = toolcalls.read(action.content)
        calls = read.calls or action.tool_calls
        if OPENING in action.content:
            both = MANNERS[self.answers].both
            return Meaning(wrong=both, malformed=read.malformed) if calls or read.malformed else Meaning(answers=True)
        if read.malformed or not calls:
            return Meaning(wrong=MANNERS[self.answers].mute, malformed=read.malformed)
        return Meaning(calls) if len(calls) <= MOST_CALLS else Meaning(wrong=MANY, malformed=len(calls))

    def _run(self, calls: Sequence[ToolCall]) -> tuple[list[Call], Messages, int]:
        """Execute calls; gives them as recorded, the tools' messages, and how many repeat the call before."""
        made: list[Call] = []
        shown: list[Message] = []
        repeated, last = 0, self.state.last
        for call in calls:
            outcome = self._outcome(call)
            made.append(Call(call.name, outcome.arguments, outcome.result, outcome.ok, self.state.turn))
            text = json.dumps([call.name, outcome.arguments], sort_keys=True)
            repeated += text == last
            last = text
            shown.append(Message("tool", json.dumps(outcome.result, ensure_ascii=False)))
        self.state = replace(self.state, last=last)
        return made, tuple(shown), repeated

    def _outcome(self, call: ToolCall) -> Outcome:
        names = self.task.data["tools"]
        if self.world is not None and call.name not in names:
            error = f"there is no tool '{call.name[:60]}'; expected one of {', '.join(names)}"
            return Outcome(call.arguments, {"error": error}, False)
        return self._tools.call(call.name, call.arguments)

    def _answer(self, said: str | None) -> Step:
        """The end of the user's turn, and after the last one of the episode."""
        found = self.matched()
        info: dict[str, Any] = {"calls": [], "matched": len(found.pairs), "needed": found.needed}
        info |= {"invalid": 0, "repeated": 0, "malformed": 0}
        if self.state.turn + 1 < len(self.queries):
            self.state = replace(self.state, turn=self.state.turn + 1, failed=False)
            return Step(self.observation, info=info)
        parts = {"loose": float(found.loose), "strict": float(found.strict), "partial": found.partial}
        kind = self.score if self.score != "auto" else "strict" if self.task.data.get("strict") else "loose"
        if self.compact_view:
            closing: Messages = (Message("user", "done"),)
        else:
            closing = (Message("user", transcript_of(self.task, self.state.calls)),)
        told = {} if said is None else {"answer": said}
        return Step(closing, parts[kind], True, info={**info, **told, "reward_parts": parts})

    def _shown(self) -> str:
        assert self.world is not None
        return compact.observe(self.state.calls, self.state.failed, self.world)


def expert_call(requirement: Mapping[str, Any], found: Match) -> ToolCall | None:
    """The call that meets a requirement now; None while what it refers to is not there."""
    from agentrl.completeness.matching import MISSING, resolve

    arguments = resolve(requirement["call"]["arguments"], found.reads)
    return None if arguments is MISSING else ToolCall(requirement["call"]["tool"], arguments)
