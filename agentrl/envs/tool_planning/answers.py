"""Answers: who writes them, what those of the compact view say, and what the expert writes.

A *planner* ends with the tag alone (`answer` in the compact view): somebody else writes the answer. With
``env.answers=true`` the policy is *end to end*: its last action carries the answer, in the text view
``<answer>The answer is 23.</answer>``, in the compact one a label, a short name or a word::

    > answer item3          what the result item3 says: 23, Jarundwick, done
    > answer velvet bun     that place          > answer 23

Whether the answer is right is not the environment's business: the return counts calls. A judge compares it with
``task.data["reference"]`` (reward=judge). The expert's mistakes are those of a hasty writer: it answers with the last
result it has, and without one it makes up a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.answers import CLOSING, OPENING
from agentrl.completeness import Call, Match
from agentrl.envs.tool_planning import compact
from agentrl.envs.tool_planning.world import World
from agentrl.seeds import derive
from agentrl.summarizer import Rules, plain, value_of
from agentrl.types import Task

INVENTED = 101  # numbers from 0 on that are made up; the small ones, which the compact view has words for
CALLS = """Call the tools until every fact that the question needs was looked up and every computation that it needs \
was run. Take nothing from memory and compute nothing in your head: it must come from a tool. Several independent \
calls may go into one message; a call that needs an earlier result waits for it. Make no call that is not needed."""
PLAN = f"""You plan how a question is answered with tools; somebody else writes the answer from what they say.
{CALLS}
When nothing is missing, write {OPENING} alone and nothing behind it."""
WHOLE = f"""You answer a question with tools.
{CALLS}
When nothing is missing, write the answer in one sentence between {OPENING} and {CLOSING}, and nothing behind it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """The words of the text view: its rules, and how an action ends the episode (``asked``)."""

    rules: str
    asked: str

    @property
    def mute(self) -> str:
        """To a message that holds neither calls nor an answer."""
        return f"Your message held neither a tool call that can be read nor {self.asked}. Call a tool, or write " + (
            self.asked.removesuffix(" alone")
        )

    @property
    def both(self) -> str:
        """To a message that holds both."""
        return f"Write {self.asked}, in a message without calls, after you have read the last result."


MANNERS = {
    False: Manner(PLAN, f"{OPENING} alone"),
    True: Manner(WHOLE, f"{OPENING}, your answer and {CLOSING}"),
}


def told(words: Sequence[str], calls: Sequence[Call], world: World) -> str:
    """What the words of a compact answer say: a labelled result, a thing's full name, or the words as they are."""
    text = " ".join(words)
    labelled = next((item.call for item in compact.items(calls, world) if item.label == text), None)
    if labelled is not None:
        value = value_of(labelled.result)
        return "" if value is None else plain(value)
    entity = world.encyclopedia.find(text)
    return text if entity is None else entity.name


def right(task: Task, calls: Sequence[Call], found: Match, world: World | None) -> str:
    """The action that answers with the result of the last requirement; ``world``: in words of the compact view."""
    last = str(task.data["requirements"][-1]["id"])
    if world is None:
        return f"{OPENING}The answer is {plain(value_of(found.reads[last]))}.{CLOSING}"
    return _pointing(calls[found.pairs[last]], task, calls, world)


def hasty(task: Task, calls: Sequence[Call], world: World | None) -> str:
    """The action that answers with the last result, or with an invention that follows from the task alone."""
    if world is None:
        return f"{OPENING}{Rules(invents=True).answer(task, calls)}{CLOSING}"
    last = next((call for call in reversed(calls) if call.ok), None)
    return _pointing(last, task, calls, world)


def _pointing(call: Call | None, task: Task, calls: Sequence[Call], world: World) -> str:
    label = next((item.label for item in compact.items(calls, world) if item.call == call), None)
    return f"answer {derive(0, 'invented', task.id) % INVENTED if label is None else label}"
