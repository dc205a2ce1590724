"""Time to a reward: whole training runs of ours beside TRL's GRPOTrainer, on a task that both can do.

The task has one turn. States on the paths of an environment's expert are the prompts, a reply earns 1 where it is the
expert's action and 0 elsewhere (``rollout=single_turn``, ``reward=expert_match``). Both sides start from the same
weights and see the same states in the same tokens (checked); rewards of TRL's replies come from our functions. Equal:
group size, replies in a batch, one AdamW step a batch with the same rate, betas and clipping, temperature 1, the same
limit of tokens, no KL, the token mean of the whole batch, advantages over the sample deviation of the group + 1e-4.

ours: the real loop (:func:`agentrl.loop.one_batch`), with its logs and the proof of each push of weights.
TRL:  ``GRPOTrainer.train()`` with transformers' ``generate``, gradient checkpointing and all logging off; the width of
its micro-batches is --micro. Its states come in epochs, ours at random out of those of each batch's tasks.

Clock: from the first batch on, processor seconds of one thread on a CPU, seconds on a GPU. Loading weights and playing
the expert come before it. The time to a reward ends with the batch whose reward, averaged with the four before it,
reaches it. Who goes first alternates with the seeds. Afterwards both policies are measured by the same held-out panel.
A hub model on a GPU (not run yet): --device cuda --model qwen3_0_6b --lr 1e-6 --micro 16
--words engine=vllm --trl use_vllm=true
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from agentrl import config
from agentrl.bundled import locate
from agentrl.chat import Chat
from agentrl.loop import one_batch, push
from agentrl.panel import panel
from agentrl.rewards.expert_match import said
from agentrl.rollout.single_turn import SingleTurn, State
from agentrl.rollout.supply import TaskOrder
from agentrl.run import player, training_run

GROUP, LAST = 8, 5  # replies to a state; batches over which a reward is averaged


@dataclass(frozen=True)
class Curve:
    """What a training run showed: seconds since its begin and mean reward, batch by batch."""

    seconds: list[float]
    rewards: list[float]

    def means(self) -> list[float]:
        """Mean reward of each few batches."""
        parts = [self.rewards[begin : begin + LAST] for begin in range(0, len(self.rewards), LAST)]
        return [round(statistics.fmean(part), 3) for part in parts]

    def until(self, reward: float) -> float | None:
        """Seconds to a reward, averaged over the last batches; None: never reached."""
        for end in range(LAST, len(self.rewards) + 1):
            if statistics.fmean(self.rewards[end - LAST : end]) >= reward:
                return self.seconds[end - 1]
        return None


def composed(args: argparse.Namespace, seed: int, folder: Path) -> config.Config:
    words = [
        "method=single_turn", "method.kl_coef=0", "method.std_ddof=1", "method.std_eps=1e-4", "log=files",
        f"env={args.env}", f"model={args.model}", f"device={args.device}", "context=window", "rollout.noise=0",
        f"rollout.pool={args.pool}", f"rollout.group_size={GROUP}", f"tasks_per_step={args.states}",
        f"steps={args.steps}", "learner.minibatches=1", "learner.schedule=constant", f"learner.lr={args.lr}",
        f"eval.tasks={args.tasks}", "eval.before=false", f"seed={seed}", f"run_dir={folder}", *args.words,
    ]  # fmt: skip
    cfg = config.compose("train", words)
    config.check(cfg)
    return cfg


def clock(device: str) -> Callable[[], float]:
    """Seconds since now."""

    def now() -> float:
        if not device.startswith("cuda"):
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    begin = now()
    return lambda: now() - begin


def ours(cfg: config.Config, rollout: SingleTurn, kept: Path) -> Curve:
    """Our run; ``rollout`` knows its states already."""
    run = training_run(cfg)
    run.rollout = rollout
    curve = Curve([], [])
    try:
        push(run)
        since = clock(str(cfg.device))
        while run.step < run.steps:
            one_batch(run)
            curve.seconds.append(since())
            curve.rewards.append(run.metrics["rollout/reward"])
        run.policy.save(kept)
        run.log.close({})
        return curve
    finally:
        run.close()


def theirs(
    cfg: config.Config, args: argparse.Namespace, states: Sequence[State], chat: Chat, folder: Path, kept: Path
) -> Curve:
    """TRL's run."""
    import datasets
    import transformers
    import trl

    learner, gpu = cfg.learner, str(cfg.device).startswith("cuda")
    rows = args.states * GROUP
    settings = {
        "output_dir": str(folder), "seed": int(cfg.seed), "use_cpu": not gpu, "bf16": gpu, "report_to": "none",
        "logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True, "max_steps": int(cfg.steps),
        "learning_rate": learner.lr, "lr_scheduler_type": "constant", "optim": "adamw_torch_fused",
        "adam_beta1": learner.beta1, "adam_beta2": learner.beta2, "weight_decay": learner.weight_decay,
        "max_grad_norm": learner.max_grad_norm, "per_device_train_batch_size": args.micro,
        "gradient_accumulation_steps": rows // args.micro, "num_generations": GROUP, "beta": 0.0, "loss_type": "dapo",
        "epsilon": cfg.method.clip_low, "epsilon_high": cfg.method.clip_high, "scale_rewards": "group",
        "max_completion_length": cfg.model.action_tokens, "temperature": cfg.rollout.temperature, "top_p": 1.0,
        "top_k": 0, "gradient_checkpointing": False, "model_init_kwargs": {"dtype": "float32"},
        "chat_template_kwargs": {"enable_thinking": bool(cfg.model.thinking)},
    }  # fmt: skip
    settings |= {name: yaml.safe_load(value) for name, value in (pair.split("=", 1) for pair in args.trl)}
    curve = Curve([], [])

    def right(completion_ids: Sequence[Sequence[int]], expert: Sequence[str], **_: Any) -> list[float]:
        found = [float(said(chat.message(tuple(ids))) == e) for ids, e in zip(completion_ids, expert, strict=True)]
        curve.rewards.append(statistics.fmean(found))
        return found

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.since = clock(str(cfg.device))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            curve.seconds.append(self.since())

    prompts = [[{"role": m.role, "content": m.content} for m in state.shown] for state in states]
    told = datasets.Dataset.from_dict({"prompt": prompts, "expert": [state.expert for state in states]})
    trainer = trl.GRPOTrainer(locate(cfg.model.path), right, trl.GRPOConfig(**settings), told, callbacks=[Watch()])
    same = [list(ids) for ids in trainer._tokenize_prompts(prompts)[0]] == [list(s.prompt_ids) for s in states]
    assert same, "TRL renders these messages to other tokens than we do: nothing would be compared"
    assert set(trainer.eos_token_ids) == set(chat.stop_ids), (trainer.eos_token_ids, chat.stop_ids)
    trainer.train()
    trainer.model.save_pretrained(kept)
    return curve


class Examiner:
    """The same held-out panel for everyone: whole episodes, and single states of their tasks."""

    def __init__(self, cfg: config.Config) -> None:
        self._player = player(cfg)
        stage = self._player.stage
        self._rollout: SingleTurn = replace(config.build(cfg.rollout), group_size=1)
        self._reward = config.build(cfg.reward)
        tasks = panel(stage.env, "test", int(cfg.eval.tasks)).tasks
        self._states = [s.task for task in tasks for s in self._rollout.states(stage, task)]
        self._version = 0

    def __call__(self, folder: Path | None) -> dict[str, float]:
        """Of the weights in a folder (None: those that training begins with)."""
        one = self._player
        if folder is not None:
            one.policy.restore(folder)
            self._version += 1
        one.engine.load(one.policy.named_weights(), self._version)
        blocks = one.evaluate.run(one.stage, one.panel, 0).blocks
        groups = self._reward.score(self._rollout.play(one.stage, self._states, seed=0, step=0), 0, 1)
        match = statistics.fmean(play.reward for group in groups for play in group.trajectories)
        return {"match": match, **{f"success, {name}": block["success"] for name, block in blocks.items()}}

    def known(self, cfg: config.Config) -> tuple[SingleTurn, list[State]]:
        """A run's rollout, its expert's plays played, and their states."""
        rollout: SingleTurn = config.build(cfg.rollout)
        order = TaskOrder(self._player.stage.env.tasks("train"), int(cfg.seed), rollout.pool)
        return rollout, [s for task in order.draw(len(order)) for s in rollout.states(self._player.stage, task)]

    @property
    def chat(self) -> Chat:
        return self._player.policy.chat

    def close(self) -> None:
        self._player.close()


def compared(curves: Sequence[dict[str, Curve]], rewards: Sequence[float]) -> list[dict[str, Any]]:
    """Seconds of both sides to each reward and for all batches, seed by seed; the medians of their ratios."""

    def line(name: str, taken: Callable[[Curve], float | None]) -> dict[str, Any]:
        times = {side: [taken(pair[side]) for pair in curves] for side in ("ours", "trl")}
        ratios = [t / o for o, t in zip(times["ours"], times["trl"], strict=True) if o is not None and t is not None]
        shown = {side: [None if t is None else round(t, 1) for t in found] for side, found in times.items()}
        return {"until": name, **shown, "trl/ours": [round(r, 1) for r in ratios]} | (
            {"median": round(statistics.median(ratios), 1)} if ratios else {}
        )

    lines = [line(f"reward {reward:g}", lambda curve, r=reward: curve.until(r)) for reward in rewards]  # type: ignore[misc]
    return [*lines, line("all batches", lambda curve: curve.seconds[-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="robotouille")
    parser.add_argument("--model", default="tiny", help="a choice of conf/model; all its weights learn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--states", type=int, default=16, help="in a batch, eight replies each")
    parser.add_argument("--pool", type=int, default=200, help="training tasks whose states are learned from")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--micro", type=int, default=32, help="replies in a micro-batch of TRL")
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rewards", type=float, nargs="+", default=[0.6, 0.65, 0.7, 0.75])
    parser.add_argument("--words", nargs="*", default=[], help="further words of our config")
    parser.add_argument("--trl", nargs="*", default=[], help="further settings of TRL's GRPOConfig, name=value")
    args = parser.parse_args()
    if not args.device.startswith("cuda"):
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        trial(args, Path(name))


def trial(args: argparse.Namespace, folder: Path) -> None:
    examiner = Examiner(composed(args, args.seeds[0], folder / "panel"))
    print(json.dumps({"before": examiner(None)}), flush=True)
    pairs = []
    for place, seed in enumerate(args.seeds):
        cfg = composed(args, seed, folder / f"ours{seed}")
        pair: dict[str, Curve] = {}
        rollout, states = examiner.known(cfg)
        for side in ("ours", "trl") if place % 2 == 0 else ("trl", "ours"):
            kept = folder / f"{side}{seed}_model"
            if side == "ours":
                pair[side] = ours(cfg, rollout, kept)
            else:
                pair[side] = theirs(cfg, args, states, examiner.chat, folder / f"trl{seed}", kept)
            told: dict[str, Any] = {"seed": seed, "side": side, "seconds": round(pair[side].seconds[-1], 1)}
            told["rewards"] = pair[side].means()
            print(json.dumps(told | examiner(kept)), flush=True)
        pairs.append(pair)
    examiner.close()
    for line in compared(pairs, args.rewards):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
