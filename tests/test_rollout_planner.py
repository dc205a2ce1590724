"""Replies cut at the answer tag, and the best of several demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from agentrl import config
from agentrl.chat import Window
from agentrl.completeness import Exact
from agentrl.engine.base import Completion, Request, Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.envs.base import Episode, Expert
from agentrl.errors import ConfigError, EnvError
from agentrl.rollout.base import Stage
from agentrl.rollout.independent import Independent
from agentrl.rollout.planner import Cutting, Planner
from agentrl.rollout.rejection import Rejection, Teacher
from agentrl.types import Message
from tests.families import FAMILIES, save_model
from tests.test_model import pretrained
from tests.test_rollout import stage
from tests.toy import ANSWER, Colours, save_toy_model
from tests.toy_run import toy_config, toy_train

LIMITS = {"max_turns": 2, "action_tokens": 2, "context_tokens": 32, "max_failed": 0.1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy"))


def cut(chat: Any, text: str, tag: str = "<answer>") -> Completion:
    """What is left of a reply whose every token has its own logprob."""

    class Fixed:
        def generate(self, requests: Any, sampling: Sampling) -> list[Completion]:
            ids = chat.encode_action(Message("assistant", text))
            return [Completion(ids, tuple(-float(i) for i in range(len(ids))), "stop", 3)]

    (one,) = Cutting(Fixed(), chat, tag).generate([Request((), 0, 99)], Sampling())  # type: ignore[arg-type]
    return one


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cut_is_the_shortest_prefix_that_says_the_tag(family: str, tmp_path: Path) -> None:
    chat = pretrained(save_model(family, tmp_path)).chat()
    for before in ("", "I know enough. ", "<think>stop at <answer>?</think>\n", "a<b "):
        whole = chat.encode_action(Message("assistant", f"{before}<answer> Oslo, 12 degrees </answer>"))
        found = cut(chat, f"{before}<answer> Oslo, 12 degrees </answer>")
        size = len(found.ids)
        assert found.ids == whole[:size]
        assert found.logprobs == tuple(-float(i) for i in range(size))
        assert (found.finish, found.version) == ("stop", 3)
        assert size < len(whole)
        texts = [chat.tokenizer.decode(list(whole[:n])) for n in (size - 1, size)]
        said = [text.partition("</think>")[2] if "<think>" in before else text for text in texts]
        assert "<answer>" not in said[0]
        assert "<answer>" in said[1]


def test_replies_without_the_tag_or_with_it_in_a_thought_stay_whole(tmp_path: Path) -> None:
    chat = pretrained(save_model(next(iter(FAMILIES)), tmp_path)).chat()
    for text in ("", "no tag", "< answer>", "<think>then <answer> x", "<think>a</think> b", "ends with <answer"):
        whole = chat.encode_action(Message("assistant", text))
        assert cut(chat, text).ids == whole, text


def test_a_planner_s_plays_are_cut_before_environment_and_record_see_them(model: Path) -> None:
    chat = stage(model).chat
    engine = ScriptedEngine(chat, lambda _request: "green red gold")
    one = Stage(Colours(), engine, chat, Window(0))
    words = {"group_size": 2, "temperature": 1.0, "pool": 0, **LIMITS, "action_tokens": 4}
    plain = Independent(**words).play(one, Colours().tasks("train")[:1], seed=0, step=0)
    planned = Planner(**words, stop_text="red").play(one, Colours().tasks("train")[:1], seed=0, step=0)
    assert {t.action.content for p in plain[0].trajectories for t in p.turns} == {"green red gold"}
    for p in planned[0].trajectories:
        for t in p.turns:
            assert (t.action.content, len(t.action_ids), len(t.logprobs), t.finish) == ("green red", 2, 2, "stop")
    with pytest.raises(ConfigError, match="stop_text"):
        Planner(**words, stop_text="")


@dataclass(frozen=True)
class Moody(Colours):
    """An expert that errs by noise: it repeats the question."""

    def expert(self, noise: float, seed: int) -> Expert:
        import random

        rng = random.Random(seed)

        def act(episode: Episode) -> Message:
            colour = episode.task.data["colour"]
            return Message("assistant", colour if rng.random() < noise else ANSWER[colour])

        return act


def rejection(**changes: Any) -> Rejection:
    settings = {
        "teacher": Teacher.expert, "samples": 4, "noise": 0.5, "slips": 0.0, "checker": Exact(), "only_success": False,
        "pool": 0, "temperature": 1.0, **LIMITS,
    }  # fmt: skip
    return Rejection(**{**settings, **changes})


def test_the_best_of_the_demonstrations_is_kept(model: Path) -> None:
    env = Moody()
    one, tasks = stage(model, env), env.tasks("train")
    rates = []
    for samples in (1, 2, 4, 16):
        groups = rejection(samples=samples).play(one, tasks, seed=0, step=0)
        assert [g.task for g in groups] == list(tasks)
        assert {g.spent.episodes for g in groups} == {samples}
        assert all(len(g.trajectories) == 1 for g in groups)
        rates.append(sum(g.trajectories[0].success for g in groups) / len(groups))
    assert rates == sorted(rates)
    assert rates[0] < 0.6 < rates[-1] == 1.0
    kept = rejection(samples=1, only_success=True).play(one, tasks, seed=0, step=0)
    assert len(kept) == round(rates[0] * 8)
    assert all(g.trajectories[0].success for g in kept)
    again = rejection().play(one, [tasks[3]], seed=0, step=7)
    assert again[0].trajectories == rejection().play(one, tasks, seed=0, step=0)[3].trajectories


def test_ties_go_to_fewer_mistakes_then_fewer_calls() -> None:
    from tests.rewards.test_completeness import a_call, a_play

    need = {"requirements": [{"id": "a", "any": [{"tool": "search", "open": True}]}]}
    wasteful = a_play(a_call("search", q=1), a_call("news", q=2), data=need)
    repeating = a_play(a_call("search", q=1), a_call("search", q=1), data=need)
    failing = a_play(a_call("search", q=1), a_call("search", ok=False, q=2), data=need)
    lean = a_play(a_call("search", q=1), data=need)
    lazy = a_play(data=need)
    mute = a_play(a_call("search", q=1), data=need, answers=False)
    order = sorted((mute, lazy, failing, repeating, wasteful, lean), key=rejection()._rank)
    assert order[:2] == [lean, wasteful]
    assert order[2:4] in ([failing, repeating], [repeating, failing])
    assert set(map(id, order[4:])) == {id(mute), id(lazy)}


def test_the_policy_may_teach_itself_and_failures_are_left_out(model: Path) -> None:
    one = stage(model)
    (group, *_) = rejection(teacher=Teacher.policy, samples=8).play(one, Colours().tasks("train")[:2], seed=1, step=0)
    assert group.spent.episodes == 8
    (play,) = group.trajectories
    assert all(len(t.logprobs) == len(t.action_ids) > 0 for t in play.turns)
    broken = stage(model, Colours(fails=True))
    with pytest.raises(EnvError, match="8 of 8 episodes failed"):
        rejection().play(broken, Colours().tasks("train")[:2], seed=0, step=0)
    assert rejection(max_failed=1.0).play(broken, Colours().tasks("train")[:2], seed=0, step=0) == []
    with pytest.raises(ConfigError, match="samples: got 0"):
        rejection(samples=0)


def test_a_warm_start_by_rejection_has_a_place_of_its_own(model: Path, tmp_path: Path) -> None:
    words = ["warmstart.steps=4", "warmstart.tasks_per_step=4", f"warmstart.folder={tmp_path}/warm", "eval.samples=1"]
    result = toy_train(model, tmp_path / "run", "method=grpo", "warmstart=rejection", *words, "steps=1")
    start = result["facts"]["warmstart"]
    assert (start["steps"], start["found"]) == (4, False)
    text = (Path(start["path"]) / "config.yaml").read_text()
    assert "agentrl.rollout.rejection.Rejection" in text
    hashes = set()
    for more in (["warmstart=sft"], ["warmstart=rejection"], ["warmstart=rejection", "checker=noisy"],
                 ["warmstart=rejection", "warmstart.samples=8"]):  # fmt: skip
        cfg = toy_config(model, tmp_path, [*more, *words, "method=grpo"])
        hashes.add(config.build(cfg.warmstart).forecast(cfg, config.build(cfg.env))["hash"])
    assert len(hashes) == 4
    assert start["hash"] in hashes


def test_sft_takes_rejected_demonstrations(model: Path, tmp_path: Path) -> None:
    result = toy_train(model, tmp_path, "method=sft", "rollout=rejection", "rollout.samples=2", "steps=2")
    assert result["episodes"] == 2 * 8 * 2


def test_the_rejection_knows_all_that_the_warm_start_hands_over() -> None:
    from agentrl.warmstart import RejectionStart

    needed = {f.name for f in fields(Rejection)} - {"teacher"}
    assert needed <= {f.name for f in fields(RejectionStart)}
    assert replace(rejection(), noise=0.0).noise == 0.0
