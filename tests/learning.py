"""Small things the tests of methods and learner share: methods from their YAML, plays made by hand, a tiny policy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.batch import Outputs
from agentrl.learner import Learner
from agentrl.types import Group, Message, Stop, Task, Trajectory, Turn

CONF = Path(__file__).parents[1] / "conf"
VOCABULARY = 23


def values(group: str, name: str) -> dict[str, Any]:
    """The values of a YAML with those it inherits from its own group."""
    node = yaml.load((CONF / group / f"{name}.yaml").read_text(), Loader=_Loader)
    parents = [entry for entry in node.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    merged: dict[str, Any] = {}
    for parent in parents:
        merged |= values(group, parent)
    return merged | node


class _Loader(yaml.SafeLoader):
    """YAML as OmegaConf reads it: 1e-6 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def make(group: str, name: str, **changes: Any) -> Any:
    """The object of conf/<group>/<name>.yaml, with changes."""
    node = values(group, name) | changes
    cls = get_object(node.pop("_target_"))
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), node))


def method(name: str, **changes: Any) -> Any:
    return make("method", name, **changes)


def turn(prompt: Sequence[int], action: Sequence[int], logprobs: Sequence[float] | None = None, **more: Any) -> Turn:
    given = tuple(-1.0 for _ in action) if logprobs is None else tuple(logprobs)
    return Turn(tuple(prompt), tuple(action), given, Message("assistant", ""), (), **more)


def play(turns: Sequence[Turn] = (), reward: float = 0.0, task: str = "t", member: int = 0, **more: Any) -> Trajectory:
    more.setdefault("stop", Stop.done)
    return Trajectory(Task(task, "train", task), member, tuple(turns), reward=reward, **more)


def group(rewards: Sequence[float], task: str = "t", tokens: int = 2) -> Group:
    """Plays of one turn each with these rewards."""
    plays = [play([turn((1, 2), range(3, 3 + tokens))], r, task, i) for i, r in enumerate(rewards)]
    return Group(plays[0].task, tuple(plays))


def random_groups(seed: int, tasks: int = 3, size: int = 4, window: bool = False) -> list[Group]:
    """Plays of one to three turns with random tokens, lengths and rewards; the first group's rewards are all equal."""
    rng = random.Random(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, VOCABULARY) for _ in range(rng.randint(low, high)))

    groups = []
    for t in range(tasks):
        first = some(2, 6)
        plays = []
        for m in range(size):
            prompt, turns = first, []
            for _ in range(rng.randint(1, 3)):
                action = some(1, 4)
                turns.append(turn(prompt, action, [rng.uniform(-4, -1) for _ in action]))
                prompt = some(2, 7) if window else prompt + action + some(1, 5)
            plays.append(play(turns, 0.5 if t == 0 else rng.random(), f"t{t}", m))
        groups.append(Group(plays[0].task, tuple(plays)))
    return groups


class TinyPolicy:
    """The part of a policy that the learner sees, written plainly: whole logits, no chunks."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=2, initializer_range=0.3, **sizes)
        self.model = Qwen2ForCausalLM(config).to(dtype).eval()

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    def parameters(self) -> Any:
        return self.model.parameters()

    def train(self) -> None:
        self.model.train()

    def eval(self) -> None:
        self.model.eval()

    def shares(self, longest: int) -> bool:
        return False

    def reference(self) -> TinyPolicy:
        copy = TinyPolicy()
        copy.model.load_state_dict(self.model.state_dict())
        return copy

    def outputs(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        loss_mask: torch.Tensor,
        temperature: float,
        chunk_tokens: int,
        critic: Any = None,
    ) -> Outputs:
        given = {"input_ids": input_ids, "attention_mask": attention_mask.long(), "output_hidden_states": True}
        whole = self.model(**given)
        logits = whole.logits[:, :-1]
        logs = torch.log_softmax(logits / temperature, -1)
        logprobs = logs.gather(-1, input_ids[:, 1:, None]).squeeze(-1)
        entropy = -(logs.exp() * logs).sum(-1)
        pad = torch.zeros(len(input_ids), 1)
        answers = [logprobs, entropy]
        if critic is not None:
            answers.append(critic(whole.hidden_states[-1][:, :-1].flatten(0, 1)).view_as(logprobs))
        return Outputs(*(torch.cat([pad, x], 1) * loss_mask for x in answers))

    def flat(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.parameters()])


def learner(policy: TinyPolicy | None = None, steps: int = 10, temperature: float = 1.0, **changes: Any) -> Learner:
    changes = {"lr": 1e-2, "minibatches": 1, "mismatch_limit": 0.0, "max_grad_norm": 1e9} | changes
    config = make("learner", "full", **changes)
    return config.build(policy or TinyPolicy(), temperature=temperature, steps=steps, seed=0)


def with_true_logprobs(groups: Sequence[Group], policy: TinyPolicy, temperature: float = 1.0) -> list[Group]:
    """The groups as if ``policy`` had sampled them: each turn with its own logprobs."""

    def own(t: Turn) -> Turn:
        ids = torch.tensor([t.prompt_ids + t.action_ids])
        mask = torch.zeros_like(ids, dtype=torch.bool)
        mask[0, len(t.prompt_ids) :] = True
        with torch.no_grad():
            out = policy.outputs(ids, torch.ones_like(mask), mask, temperature, 0)
        return replace(t, logprobs=tuple(out.logprobs[0, len(t.prompt_ids) :].tolist()))

    return [
        replace(g, trajectories=tuple(replace(p, turns=tuple(map(own, p.turns))) for p in g.trajectories))
        for g in groups
    ]
