"""What the Summarizer is given: the query and everything the planner did, with what the tools answered.

In RLTR the Planner is trained on its calls alone; another model, the Summarizer, writes the answer from this text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentrl.completeness import Call, calls_of
from agentrl.types import Task, Trajectory


def transcript(trajectory: Trajectory) -> str:
    """The play as text: the query, then every call with its result, in order."""
    return transcript_of(trajectory.task, calls_of(trajectory))


def transcript_of(task: Task, calls: Sequence[Call]) -> str:
    """The same for a task and the calls made for it."""
    lines = [f"Query: {query}" for query in task.data.get("queries", (task.data["query"],))]
    for number, call in enumerate(calls, 1):
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        lines += [f"Call {number}: {call.tool} {arguments}", f"Result {number}: {_text(call.result)}"]
    return "\n".join(lines if calls else [*lines, "No call was made."])


def _text(result: object) -> str:
    return json.dumps(result, ensure_ascii=False)
