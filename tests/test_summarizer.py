"""Answers from calls: the offline stand-in, a client's words, an engine as a client, and tool_planning's references."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.completeness import Call
from agentrl.engine.base import Request
from agentrl.engine.client import EngineClient
from agentrl.engine.scripted import ScriptedEngine
from agentrl.envs.tool_planning import ToolPlanning
from agentrl.judges import Rules as Judge
from agentrl.summarizer import UNKNOWN, Rules, Written, plain, prompt
from agentrl.types import Message, Messages, Task
from tests.families import FAMILIES, save_model
from tests.test_model import pretrained

TASK = Task("t", "test", "f", {"query": "How warm is Oslo?"})
OSLO = Call("weather", {"city": "Oslo"}, {"celsius": 12})
FAILED = Call("weather", {"city": "Olso"}, {"error": "no such city"}, ok=False)


@pytest.mark.parametrize(
    ("value", "text"), [(7.5, "7.5"), (12, "12"), (0.1 + 0.2, "0.3"), ("Oslo", "Oslo"), (True, "done")]
)
def test_values_in_words(value: object, text: str) -> None:
    assert plain(value) == text


def test_the_offline_summarizer_reads_off_the_last_result_or_invents() -> None:
    assert Rules(invents=False).answer(TASK, [OSLO, FAILED]) == "The answer is 12."
    assert Rules(invents=False).answer(TASK, [FAILED]) == UNKNOWN
    invented = Rules(invents=True).answer(TASK, [])
    assert invented == Rules(invents=True).answer(TASK, [FAILED])
    assert invented.removeprefix("The answer is ").removesuffix(".").isdecimal()


def test_a_written_answer_is_asked_for_with_all_calls_and_results() -> None:
    seen: list[Messages] = []

    class Client:
        def complete(self, messages: Messages) -> str:
            seen.append(messages)
            return "  Twelve degrees. "

    assert Written(Client()).answer(TASK, [OSLO, FAILED]) == "Twelve degrees."
    text = seen[0][-1].content
    for part in ("How warm is Oslo?", "Call 1: weather", '"celsius": 12', "Call 2 (failed)", "no such city"):
        assert part in text
    assert "No call was made." in prompt(TASK, [])[-1].content
    assert len(prompt(TASK, [Call("search", {}, "x" * 10_000)])[-1].content) < 3000


def test_an_engine_completes_conversations(tmp_path: Path) -> None:
    chat = pretrained(save_model(next(iter(FAMILIES)), tmp_path)).chat()
    asked: list[Request] = []

    def reply(request: Request) -> str:
        asked.append(request)
        return "12 degrees"

    client = EngineClient(ScriptedEngine(chat, reply), chat, max_tokens=20)
    messages = (Message("user", "How warm?"),)
    assert client.complete(messages) == "12 degrees"
    assert client.complete(messages) == "12 degrees"
    assert asked[0] == asked[1]
    assert asked[0].prompt_ids == chat.render(messages)
    assert Written(client).answer(TASK, [OSLO]) == "12 degrees"


def test_a_complete_plan_summarised_offline_is_the_reference() -> None:
    env = ToolPlanning(view="compact", size=300, val=5, test=40)
    expert = env.expert(0.0, 0)
    for task in env.tasks("test"):
        episode = env.start(task)
        while not episode.step(expert(episode)).done:
            pass
        answer = Rules(invents=False).answer(task, episode.state.calls)
        assert answer == f"The answer is {task.data['reference']}."
        assert Judge().verdict(task.data["query"], task.data["reference"], answer).score == 1.0
    env.close()
