"""Environments of the verifiers package play as they do there.

With the package installed (done with 0.1.9 and 0.1.14) these tests play its own classes, and compare with its own
rollouts; else a stand-in of ours that keeps the same contract (``verifiers_stand_in``).
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import importlib.util
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import build, check, compose
from agentrl.envs.check import check_env
from agentrl.envs.verifiers.episode import _no_client
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.panel import require_disjoint
from agentrl.types import Message
from tests.envs import verifiers_stand_in

REAL = importlib.util.find_spec("verifiers") is not None

WORLD = '''
import asyncio, time
import verifiers as vf
from datasets import Dataset

async def right(completion, answer):
    await asyncio.sleep(0)
    return float(text(completion[-1]) == answer)

def short(completion):
    return float(len(text(completion[-1])) < 5)

def turns(state):
    return float(len(state["trajectory"]))

def text(message):
    return message["content"]

def rows(count, start=0):
    made = [{"question": f"What is {n} plus 1?", "answer": str(n + 1)} for n in range(start, start + count)]
    return Dataset.from_list(made)

class Guess(vf.MultiTurnEnv):
    """Guess the answer: told higher or lower."""

    async def setup_state(self, state):
        state["asked"] = 0
        return state

    async def env_response(self, messages, state):
        said = text(messages[-1])
        state["asked"] += 1
        if said == "break":
            raise vf.InfraError("the machine is gone")
        if said == "crash":
            raise ValueError("a bug")
        if said == "sleep":
            await asyncio.sleep(30)
        if said == "block":
            time.sleep(3)
        number, wanted = int(said) if said.isdigit() else -1, int(state["answer"])
        if number == wanted:
            state["final_env_response"] = [{"role": "user", "content": "right"}]
            return state["final_env_response"]
        told = "higher" if number < wanted else "lower"
        return [{"role": "user", "content": f"{told} ({state['asked']})"}]

async def guessed(state):
    return float(state.get("final_env_response") is not None)

async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

def load_environment(kind="single", count=60, held=0, copies=1):
    data = rows(count)
    data = Dataset.from_list(list(data) * copies)
    more = {"eval_dataset": rows(held, count - 2)} if held else {}
    more |= {"system_prompt": "Answer with a number."}
    if kind == "group":
        return vf.EnvGroup([load_environment("guess"), load_environment("single", count=70)], env_names=["a", "b"])
    if kind == "guess":
        rubric = vf.Rubric(funcs=[guessed, turns], weights=[1.0, -0.1])
        return Guess(dataset=data, rubric=rubric, max_turns=6, **more)
    if kind == "tools":
        return vf.ToolEnv(tools=[add], dataset=data, rubric=vf.Rubric(funcs=[right, turns], weights=[1.0, 0.0]), **more)
    return vf.SingleTurnEnv(dataset=data, rubric=vf.Rubric(funcs=[right, short], weights=[1.0, 0.25]), **more)
'''


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sum_world.py").write_text(WORLD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sum_world", raising=False)
    if not REAL:
        monkeypatch.setitem(sys.modules, "verifiers", verifiers_stand_in)


def env(*words: str) -> Any:
    return build(compose("env_tool", ["env=verifiers", "env.id=sum-world", *words]).env)


def started(*words: str) -> Any:
    world = env(*words)
    return world.start(world.tasks("train")[0])


def all_panels(world: Any) -> list[Any]:
    return [task for split in ("train", "val", "test") for task in world.tasks(split)]


def answer(episode: Any) -> int:
    return int(episode.observation[0].content.split()[2]) + 1


def say(episode: Any, text: str) -> Any:
    return episode.step(Message("assistant", text))


def test_one_turn_is_scored_by_the_rubric() -> None:
    episode = started()
    assert episode.goal == (Message("system", "Answer with a number."),)
    step = say(episode, str(answer(episode)))
    assert (step.reward, step.done, step.observation) == (1.25, True, ())
    assert step.info["reward_parts"] == {"right": 1.0, "short": 0.25}
    wrong = say(started(), "it is far more than that")
    assert (wrong.reward, wrong.info["reward_parts"]) == (0.0, {"right": 0.0, "short": 0.0})
    again = say(episode, "more")
    assert (again.done, again.parsed, again.reward) == (True, False, 0.0)


def test_several_turns_with_a_state() -> None:
    episode = started("+env.kwargs.kind=guess")
    wanted = answer(episode)
    assert say(episode, str(wanted + 1)).observation == (Message("user", "lower (1)"),)
    fork = env("+env.kwargs.kind=guess").restore(episode.snapshot())
    for one in (episode, fork):
        assert say(one, str(wanted - 1)).observation == (Message("user", "higher (2)"),)
        end = say(one, str(wanted))
        assert end.observation == (Message("user", "right"),)
        assert (end.done, end.reward) == (True, pytest.approx(0.7))  # 1 - 0.1 for each of three turns
        assert end.info["reward_parts"] == pytest.approx({"guessed": 1.0, "turns": -0.3})
        assert end.info["stopped"]


def test_the_last_turn_is_scored_whoever_ends() -> None:
    """The environment's own limit is 6 turns; ours may be less."""
    for words, turns in (([], 6), (["env.max_turns=4"], 4)):
        episode = started("+env.kwargs.kind=guess", *words)
        steps = [say(episode, "0") for _ in range(turns)]
        assert [step.done for step in steps] == [False] * (turns - 1) + [True]
        assert steps[-1].reward == pytest.approx(-0.1 * turns)


def test_tools_are_offered_called_and_answered() -> None:
    episode = started("+env.kwargs.kind=tools")
    (tool,) = episode.tools
    assert tool["function"]["name"] == "add"
    assert set(tool["function"]["parameters"]["properties"]) == {"a", "b"}
    wanted = answer(episode)
    call = '<tool_call>{"name": "add", "arguments": {"a": %d, "b": 1}}</tool_call>'
    step = say(episode, "Let me add.\n" + call % (wanted - 1))
    assert (step.done, step.observation) == (False, (Message("tool", str(wanted)),))
    wrong = say(episode, '<tool_call>{"name": "nothing", "arguments": {}}</tool_call>')
    assert wrong.observation[0].role == "tool"
    end = say(episode, str(wanted))
    assert (end.done, end.reward, end.info["metrics"]["turns"]) == (True, 1.0, 3.0)
    assert end.info["reward_parts"] == {"right": 1.0}


def test_json_is_no_call_where_no_tools_are_offered() -> None:
    episode = started()
    assert say(episode, '{"name": "add", "arguments": {"a": 1}}').info["metrics"]["short"] == 0.0


def test_it_keeps_the_contract() -> None:
    for kind in ("single", "guess", "tools"):
        assert check_env(env(f"+env.kwargs.kind={kind}"), tasks=2) == []


def test_panels_are_disjoint_and_follow_the_content_of_the_rows() -> None:
    once, twice = env(), env("+env.kwargs.copies=2")
    require_disjoint(once)
    assert len(all_panels(once)) == 60
    assert [task.id for task in twice.tasks("train")] == [task.id for task in once.tasks("train")]
    same = env("+env.kwargs.held=2")  # both are training prompts: no set for evaluation at all
    assert [task.id for task in same.tasks("test")] == [task.id for task in once.tasks("test")]
    held = env("+env.kwargs.held=30")  # two of its thirty prompts are training prompts, too
    require_disjoint(held)
    assert [len(held.tasks("train")), len(held.tasks("val")) + len(held.tasks("test"))] == [60, 28]
    assert len(env("+env.kwargs.held=30", "env.test_tasks=3").tasks("test")) == 3


CALL = '<tool_call>{"name": "add", "arguments": {"a": 3, "b": 1}}</tool_call>'


@pytest.mark.skipif(not REAL, reason="the verifiers package is not installed")
@pytest.mark.parametrize(
    ("kind", "said"), [("single", ["5"]), ("guess", ["0", "99", "0", "1", "2", "3"]), ("tools", [CALL, CALL, "4"])]
)
def test_plays_equal_the_rollouts_of_the_package(kind: str, said: list[str]) -> None:
    """Its own ``rollout``, whose model says the same: equal conversations, scores and rewards."""
    world = env(f"+env.kwargs.kind={kind}")
    for task in world.tasks("test")[:3]:
        episode, conversation = world.start(task), []
        for text in said:
            step = say(episode, text)
            conversation += [("assistant", "" if text == CALL else text)]
            conversation += [(message.role, message.content) for message in step.observation]
            if step.done:
                break
        state = asyncio.run(rollout(world.original, world._rows[task.data["row"]], iter(said)))
        theirs = [(message["role"], message["content"] or "") for message in state["completion"]]
        assert conversation == theirs
        assert (step.done, step.reward, step.info["metrics"]) == (True, state["reward"], state["metrics"])


@pytest.mark.skipif(not REAL, reason="the verifiers package is not installed")
def test_of_a_group_the_right_one_plays() -> None:
    world = env("+env.kwargs.kind=group")
    ends = [say(world.start(task), "0") for task in all_panels(world)[:20]]
    scored = [set(step.info["reward_parts"]) for step in ends if step.done]
    assert 0 < len(scored) < 20, "both must play"
    assert all(parts == {"right", "short"} for parts in scored)


async def rollout(env: Any, row: Any, said: Any) -> Any:
    """A rollout of the package with a model that says what it is told to."""

    async def create(*_: Any, **__: Any) -> Any:
        text = next(said)
        given = {"name": "add", "arguments": json.dumps({"a": 3, "b": 1})}
        message: dict[str, Any] = {"role": "assistant", "content": "" if text == CALL else text}
        if hasattr(types, "Response"):  # 0.1.14
            calls = [{"id": "c", **given}] if text == CALL else None
            told = {**message, "tool_calls": calls, "finish_reason": "stop", "is_truncated": False}
            return types.Response.model_validate({"id": "r", "created": 0, "model": "m", "message": told})
        calls = [{"id": "c", "type": "function", "function": given}] if text == CALL else None
        choice = {"index": 0, "finish_reason": "stop", "message": {**message, "tool_calls": calls}}
        made = {"id": "r", "created": 0, "model": "m", "object": "chat.completion", "choices": [choice]}
        return types.ChatCompletion.model_validate(made)

    types = importlib.import_module("verifiers.types")
    env.get_model_response = create
    client = _no_client(type(env))
    state = await env.rollout(copy.deepcopy(row), client, "m", None)
    if hasattr(types, "Response"):
        await env.rubric.score_rollout(state)
    else:
        await env.rubric.score_rollout(state, score_sem=asyncio.Semaphore(1))
    return state


def test_what_fails_below_the_environment_earns_no_credit() -> None:
    for word, says in (("break", "the machine is gone"), ("crash", r"Guess raised ValueError \(a bug\)")):
        with pytest.raises(EnvError, match=says):
            say(started("+env.kwargs.kind=guess"), word)


def test_a_deadline_holds_for_what_waits_and_for_what_blocks() -> None:
    world = env("+env.kwargs.kind=guess", "env.timeout_s=0.5")
    for word in ("sleep", "block"):
        episode = world.start(world.tasks("train")[0])
        before = time.monotonic()
        with pytest.raises(EnvError, match=r"longer than env.timeout_s=0.5 seconds"):
            say(episode, word)
        assert time.monotonic() - before < 2.5, "it waited for the environment"
        episode.close()
        other = world.start(world.tasks("train")[0])
        assert say(other, "0").observation == (Message("user", "higher (1)"),)
    world.close()
    world.close()


def test_stops_stay_ours_and_threads_may_load() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(say(started(), "5").done))
    thread.start()
    thread.join()
    assert found == [True]
    started().close()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"env\.id=nowhere: verifiers cannot load it"):
        build(compose("env_tool", ["env=verifiers", "env.id=nowhere"]).env).tasks("train")
    with pytest.raises(ConfigError, match="colour"):
        env("+env.kwargs.colour=red").tasks("train")
    with pytest.raises(DataError, match=r"the rows of sum-world leave no \w+ tasks"):
        all_panels(env("+env.kwargs.count=1"))
    with pytest.raises(ConfigError, match=r"env\.timeout_s"):
        env("env.timeout_s=0").tasks("train")
    with pytest.raises(ConfigError, match=r"env\.id: missing"):
        check(compose("env_tool", ["env=verifiers"]))
    monkeypatch.setitem(sys.modules, "verifiers", type(sys)("verifiers"))  # 0.4 is another package
    with pytest.raises(ConfigError, match="has no load_environment"):
        env().tasks("train")
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(ConfigError, match="the package is not installed"):
        env().tasks("train")
