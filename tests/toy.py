"""A world that every method must solve on a CPU in seconds, and a model small enough for it.

Each task shows a colour; the right answer is another colour (a fixed permutation). Two turns: the first
answer is acknowledged, the second ends the episode; each right one pays a half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.envs.base import Episode, Expert, Step
from agentrl.types import Message, Messages, Split, Task

COLOURS = ("red", "green", "blue", "gold")
ANSWER = dict(zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True))


@dataclass(frozen=True)
class Colours:
    """The schema of tests/conf/env/colours.yaml."""

    max_turns: int = 2
    fails: bool = False  # every episode raises: for the tests of failed episodes
    success_return = 1.0

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"env": "colours"}

    def tasks(self, split: Split) -> Sequence[Task]:
        number = {"train": 8, "val": 4, "test": 4}[split]
        return [Task(f"{split}-{i}", split, f"{split}-{i}", {"colour": COLOURS[i % 4]}) for i in range(number)]

    def start(self, task: Task) -> ColoursEpisode:
        return ColoursEpisode(task, self.fails)

    def restore(self, state: Any) -> ColoursEpisode:
        task, fails, turn, right = state
        return ColoursEpisode(task, fails, turn, right)

    def expert(self, noise: float, seed: int) -> Expert:
        def act(episode: Episode) -> Message:
            return Message("assistant", ANSWER[episode.task.data["colour"]])

        return act

    def close(self) -> None: ...


class ColoursEpisode:
    def __init__(self, task: Task, fails: bool, turn: int = 0, right: int = 0) -> None:
        self.task, self.turn, self.right, self.fails = task, turn, right, fails

    @property
    def goal(self) -> Messages:
        return (Message("user", self.task.data["colour"]),)

    @property
    def observation(self) -> Messages:
        return ()

    def step(self, action: Message) -> Step:
        if self.fails:
            raise RuntimeError("the shop is on fire")
        words = action.content.split()
        self.turn += 1
        right = words[:1] == [ANSWER[self.task.data["colour"]]]
        self.right += right
        return Step((Message("user", "again"),), 0.5 * right, self.turn >= 2, parsed=bool(words))

    def actions(self) -> Sequence[str]:
        return COLOURS

    def snapshot(self) -> Any:
        return (self.task, self.fails, self.turn, self.right)

    def close(self) -> None: ...


def save_toy_model(folder: Path, seed: int = 0) -> Path:
    """A random Llama of a few thousand parameters with a word tokenizer, in Hugging Face layout."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<act>", "<end>", "<unk>", *COLOURS, "again"]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=["<act>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<act> {{ m.content }}<end>\n"
        "{% else %}{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}<act>{% endif %}"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
