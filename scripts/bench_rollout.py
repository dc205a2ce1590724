"""What a rollout makes of its engine: lockstep beside flowing, environments quick and slow, prefix cache on and off.

WebShop and the bundled model, one thread; medians of ratios within one round, the works of a round side by side.

share:   sampled tokens per processor second of a whole rollout / of its engine alone, asked for the same requests "at
         once", or "as many" at a time as there are plays (sorted: equal prompts of different turns are read once)
engine:  share of a rollout's processor time that its engine's calls take
tail:    sampled tokens per second, flowing / lockstep, where one action in twenty takes ``--slow`` seconds, or each a
         lognormal time of the same mean (wall clock: sleeping takes no processor)
cache:   vLLM flowing, a growing history in the prompts: processor seconds without its prefix cache / with it
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agentrl import config
from agentrl.engine.base import Completion, Request, Sampling, in_parts
from agentrl.rollout.base import Stage
from agentrl.rollout.independent import Independent
from agentrl.seeds import derive

SCHEDULES = {
    "lockstep": [],
    "flowing": ["schedule=flowing", "schedule.env_threads=0"],
    "flowing, threads": ["schedule=flowing"],
}


class Recording:
    """An engine that keeps what it was asked, call by call."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.calls: list[Sequence[Request]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.calls.append(requests)
        answers: list[Completion] = self._engine.generate(requests, sampling)
        return answers


class Sleepy:
    """An environment whose every action takes the time that ``seconds`` draws, by task and turn alone."""

    def __init__(self, env: Any, seconds: Callable[[random.Random], float]) -> None:
        self._env = env
        self._seconds = seconds
        self.success_return = env.success_return

    def start(self, task: Any) -> Any:
        episode = self._env.start(task)
        step, rng = episode.step, random.Random(derive(0, task.id))

        def slow(action: Any) -> Any:
            time.sleep(self._seconds(rng))
            return step(action)

        return Open(episode, slow)


class Open:
    """An episode with another ``step``."""

    def __init__(self, episode: Any, step: Any) -> None:
        self._episode = episode
        self.step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._episode, name)


@contextmanager
def stage_of(*words: str) -> Iterator[Stage]:
    cfg = config.compose("train", ["env=webshop", "device=cpu", *words])
    source = config.build(cfg.model)
    engine = config.build(cfg.engine).start(source, "cpu")
    try:
        yield Stage(config.build(cfg.env), engine, source.chat(), config.build(cfg.context))
    finally:
        engine.close()


def widened(width: int, folder: str) -> list[str]:
    """Words that choose a random model with the bundled one's tokenizer, ``width`` wide and 8 layers deep."""
    source = config.build(config.compose("train", ["env=webshop"]).model)
    shape = source.module("cpu", torch.float32).config.to_dict()
    shape |= {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 8, "head_dim": 64}
    shape |= {"num_attention_heads": width // 64, "num_key_value_heads": width // 64, "layer_types": None}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape)).save_pretrained(folder)
    source.chat().tokenizer.save_pretrained(folder)
    limits = ["model.view=compact", "model.action_tokens=16", "model.context_tokens=1024"]
    return ["model=local", f"model.path={folder}", "context=window", *limits]


def schedules() -> dict[str, Any]:
    return {name: config.build(config.compose("train", words).schedule) for name, words in SCHEDULES.items()}


def rollout(words: Sequence[str], group_size: int, max_turns: int) -> Independent:
    cfg = config.compose("train", list(words))
    return Independent(
        group_size=group_size, temperature=1.0, max_turns=max_turns, action_tokens=cfg.model.action_tokens,
        context_tokens=cfg.model.context_tokens, max_failed=0.0, pool=0,
    )  # fmt: skip


def forget(stage: Stage) -> None:
    """Empty vLLM's prefix cache, as every push of weights does."""
    llm = getattr(stage.engine, "_llm", None)
    if llm is not None:
        llm.reset_prefix_cache()


Work = Callable[[int], int]
Rounds = list[dict[str, float]]


def rounds(repeats: int, works: dict[str, Work], clock: Callable[[], float]) -> Rounds:
    """Tokens per second of each work in each round; ``work(round)`` gives its tokens. A round before warms up; every
    second one goes through them backwards."""
    found: Rounds = []
    for number in range(repeats + 1):
        speeds = {}
        for name, work in list(works.items())[:: 1 if number % 2 else -1]:
            begin = clock()
            tokens = work(number)
            speeds[name] = tokens / (clock() - begin)
        found.append(speeds)
    return found[1:]


def told(found: Rounds, base: str) -> dict[str, Any]:
    """Median speeds, and median ratios to the work ``base`` of the same round."""
    names = list(found[0])
    return {
        "tokens_per_s": {name: round(statistics.median(one[name] for one in found)) for name in names},
        "ratio": {
            name: round(statistics.median(one[name] / one[base] for one in found), 3) for name in names if name != base
        },
    }


def play(stage: Stage, one: Independent, tasks: Sequence[Any], schedule: Any) -> Work:
    def work(repeat: int) -> int:
        forget(stage)
        groups = one.play(replace(stage, schedule=schedule), tasks, seed=repeat, step=0)
        return sum(group.spent.tokens for group in groups)

    return work


def share(stage: Stage, one: Independent, tasks: Sequence[Any], repeats: int) -> dict[str, Any]:
    """Rollouts beside their engine alone."""
    asked = []
    for repeat in range(repeats + 1):
        recording = Recording(stage.engine)
        one.play(replace(stage, engine=recording), tasks, seed=repeat, step=0)  # type: ignore[arg-type]
        asked.append(recording.calls)

    def raw(calls: Callable[[list[Sequence[Request]]], list[Sequence[Request]]]) -> Work:
        def work(repeat: int) -> int:
            forget(stage)
            sampling = Sampling(1.0, stage.chat.stop_ids)
            return sum(
                len(answer.ids) for call in calls(asked[repeat]) for answer in stage.engine.generate(call, sampling)
            )

        return work

    def plain(calls: list[Sequence[Request]]) -> list[Request]:
        return [request for call in calls for request in call]

    def as_many(calls: list[Sequence[Request]]) -> list[Sequence[Request]]:
        requests = plain(calls)
        return [[requests[i] for i in part] for part in in_parts(requests, len(tasks) * one.group_size)]

    alone = {"at once": raw(lambda calls: [plain(calls)]), "as many": raw(as_many)}
    works = {name: play(stage, one, tasks, schedule) for name, schedule in schedules().items()}
    found = rounds(repeats, {**alone, **works}, time.process_time)
    return (
        {"tokens_per_s": told(found, "at once")["tokens_per_s"]}
        | {
            f"share of {base}": {name: ratio for name, ratio in told(found, base)["ratio"].items() if name in works}
            for base in alone
        }
        | {"engine": {name: engine_share(stage, one, tasks, kind, repeats) for name, kind in schedules().items()}}
    )


def engine_share(stage: Stage, one: Independent, tasks: Sequence[Any], schedule: Any, repeats: int) -> float:
    """Median share of a rollout's processor time that its engine's calls take."""
    spent = 0.0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **given: Any) -> Any:
            nonlocal spent
            begin = time.thread_time()
            answer = call(*args, **given)
            spent += time.thread_time() - begin
            return answer

        return run

    def stream(sampling: Sampling) -> Any:
        opened = stage.engine.stream(sampling)
        return SimpleNamespace(advance=timed(opened.advance), close=opened.close)

    engine: Any = SimpleNamespace(generate=timed(stage.engine.generate), stream=stream)
    work, shares = play(replace(stage, engine=engine), one, tasks, schedule), []
    for repeat in range(repeats + 1):  # the first warms up
        forget(stage)
        spent, begin = 0.0, time.process_time()
        work(repeat)
        shares.append(spent / (time.process_time() - begin))
    return round(statistics.median(shares[1:]), 3)


def tail(stage: Stage, one: Independent, tasks: Sequence[Any], repeats: int, slow: float) -> dict[str, Any]:
    """Flowing beside lockstep where environments are slow now and then."""
    mean = slow / 20
    shapes: dict[str, Callable[[random.Random], float]] = {
        "one in twenty": lambda rng: slow if rng.random() < 0.05 else 0.0,
        "lognormal": lambda rng: mean * rng.lognormvariate(-0.5, 1.0),
    }
    found = {}
    for shape, seconds in shapes.items():
        sleepy = replace(stage, env=Sleepy(stage.env, seconds))  # type: ignore[arg-type]
        kinds = {name: schedule for name, schedule in schedules().items() if name != "flowing"}
        works = {name: play(sleepy, one, tasks, kind) for name, kind in kinds.items()}
        found[shape] = told(rounds(repeats, works, time.perf_counter), "lockstep")
    return found


def cache(one: Callable[[Sequence[str]], Independent], tasks: int, repeats: int) -> dict[str, Any]:
    """vLLM with and without its prefix cache, one engine after the other, the same plays."""
    found = {}
    for name, value in (("off", "false"), ("on", "true")):
        words = ["engine=vllm", "context=history", f"engine.prefix_cache={value}"]
        with stage_of(*words) as stage:
            work = play(stage, one(words), stage.env.tasks("train")[:tasks], schedules()["flowing"])
            found[name] = [each["work"] for each in rounds(repeats, {"work": work}, time.process_time)]
    return told([{"off": a, "on": b} for a, b in zip(found["off"], found["on"], strict=True)], "off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--turns", type=int, default=8, help="most actions of an episode")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=0, help="a random model so wide, its shares alone (0: tiny)")
    parser.add_argument("--slow", type=float, default=0.2, help="seconds of a slow action")
    parser.add_argument("--engines", nargs="+", default=["torch", "vllm"], choices=["torch", "vllm"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"episodes": args.tasks * args.group_size}
    with tempfile.TemporaryDirectory() as folder:
        words = widened(args.width, folder) if args.width else []
        result |= measured(args, words)
    print(json.dumps(result))


def measured(args: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in args.engines:
        one = rollout(words, args.group_size, args.turns)
        with stage_of(f"engine={name}", *words) as stage:
            tasks = stage.env.tasks("train")[: args.tasks]
            result[name] = share(stage, one, tasks, args.repeats)
            if args.width:
                continue
            result[name]["tail"] = tail(stage, one, tasks[: args.tasks // 2], max(args.repeats // 2, 1), args.slow)
    if "vllm" in args.engines and not args.width:
        result["prefix_cache"] = cache(lambda own: rollout(own, args.group_size, args.turns), args.tasks, args.repeats)
    return result


if __name__ == "__main__":
    main()
