"""Small random models and tokenizers in the formats of the families that agentrl names in conf/model.

The templates are ours: they use the control tokens of each family and keep its manners (trimming, no system
role, thinking), which is what agentrl has to cope with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from agentrl.model import Pretrained

TEXT = [
    "click the red hat item1 item2 | price 35.5",
    "search[blue wool scarf]\n\nResults: page 1",
    "naïve café ✓ 東京",
] * 20
# Words with the space before them, single digits, runs of signs, line breaks by themselves.
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

CHATML = """
{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe of use.<|im_end|>\n' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

THINKING = """
{%- set last = namespace(user=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' and loop.index0 > last.user %}
{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}
{%- if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""

TURNS = """{{ bos_token }}
{%- for m in messages %}
{%- if m.role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""

HEADERS = """{{ bos_token }}
{%- for m in messages %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

# family: (template, control tokens, end of text, beginning of text)
FAMILIES = {
    "qwen2.5": (CHATML, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "<|im_end|>", None),
    "qwen3": (THINKING, ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"], "<|im_end|>", None),
    "gemma2": (TURNS, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<eos>", "<bos>"),
    "llama3": (HEADERS, ["<|bos|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"], "<|eot_id|>", "<|bos|>"),
}


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A tiny byte-level tokenizer with the family's control tokens and template."""
    template, control, eos, bos = FAMILIES[family]
    plain = [word for word in control if "think" in word]  # one token each, but no control tokens: as in Qwen3
    control = [word for word in control if word not in plain]
    raw = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes])
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=control, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    raw.add_tokens([AddedToken(word, special=False, normalized=False) for word in plain])
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos, bos_token=bos, pad_token=control[0])
    made.chat_template = template
    return made


def save_model(family: str, folder: Path, **changes: Any) -> Path:
    """A random model of some ten thousand weights with its tokenizer, in Hugging Face layout."""
    import torch
    import transformers as hf

    classes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "qwen2.5": (hf.Qwen2Config, hf.Qwen2ForCausalLM, {"tie_word_embeddings": True}),
        "qwen3": (hf.Qwen3Config, hf.Qwen3ForCausalLM, {"tie_word_embeddings": True, "head_dim": 16}),
        "gemma2": (hf.Gemma2Config, hf.Gemma2ForCausalLM, {"head_dim": 8, "sliding_window": 16}),
        "llama3": (hf.LlamaConfig, hf.LlamaForCausalLM, {"tie_word_embeddings": False}),
    }
    config, model, own = classes[family]
    tok = tokenizer(family)
    size = {
        "vocab_size": len(tok), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1,
        "eos_token_id": tok.eos_token_id,
    }  # fmt: skip
    torch.manual_seed(0)
    model(config(**{**size, **own, **changes})).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def pretrained(path: Path | str, **changes: Any) -> Pretrained:
    """Settings that hold a small model for the tests: float32, all weights learn."""
    from agentrl.model import Pretrained

    settings: dict[str, Any] = {
        "path": str(path), "view": "text", "dtype": "float32", "attention": "sdpa", "thinking": False,
        "action_tokens": 8, "context_tokens": 64, "gradient_checkpointing": False,
        "lora_rank": 0, "lora_alpha": 4, "lora_targets": ["q_proj", "v_proj"],
    }  # fmt: skip
    return Pretrained(**settings | changes)
