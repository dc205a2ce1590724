"""The tokenizer of the tiny base model: every byte and every word of the small worlds is one token.

Byte-level, without merges: a word that stands in the vocabulary (with its leading space, or bare at the start of a
line) is one token, everything else falls back to bytes, so any text survives the round trip. Beside
the bundled shop it holds words of worlds to come (SQL, kitchens, tools) and spare tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agentrl.envs.webshop.words import OPTION_NAMES, OPTION_VALUES, TITLE_WORDS

PAD, ACT, END = "<pad>", "<act>", "<end>"
PAD_ID, ACT_ID = 0, 1
SPARE = 64


def _list(words: str) -> list[str]:
    return words.split()


SHOP = _list(
    "want with under home results for item item1 item2 item3 item4 seen more end none chosen done search click "
    "next prev back buy"
)
TASKS = _list(
    "copy find line pair of is which has count less first last key get same other yes no ask answer word price"
)
SQL = _list(
    "select from where group by having order limit join on as and or not in like between sum avg min max distinct "
    "asc desc left right inner outer union intersect except null exists case when then else table column show "
    "describe tables insert update delete create drop database rows row error name id year age city country title "
    "student students teacher teachers course courses singer singers concert stadium car cars model maker owner "
    "flight flights airport airline employee employees shop shops product products department salary date number "
    "type value player players team teams song songs book books author submit query result"
)
KITCHEN = _list(
    "move pick place stack unstack cook cut fry boil fill serve wait robot station stove board fryer sink pot pan "
    "bread bun lettuce tomato onion cheese patty chicken potato water soup egg meat carrot pepper apple fish rice "
    "top bottom empty full holding at is on raw cooked chopped fried boiled clear nothing done goal sandwich "
    "burger"
)
TOOLS = _list(
    "tool call think plan step weather time distance add subtract multiply divide convert currency translate "
    "email calendar calculate map route news stock send read write open close list lookup start stop finish code "
    "run file user send message ticket book hotel restaurant who what where why how many much name from to "
    "between the a an it if then true false left right up down go take put use look turn"
)
LATER = _list(  # words that views of worlds came to need once the base was trained: they took the first spare tokens
    "capital population founded leader mayor birthplace born profession spouse published genre form venue winner "
    "table1 table2 table3 table4 table5 board1 stove1 fryer1 sink1 board2 item5 item6 item7 photo"
)
PUNCTUATION = _list("| , . : ; = + - * / < > ( ) [ ] { } ? ! ' \" _ # % & @")

TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "<act>{{ message['content'] }}<end>\n{% else %}{{ message['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<act>{% endif %}"
)
WORD = r" ?\p{L}+\p{N}?| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]|\s"


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of bytes, in byte order."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    table = {byte: chr(byte) for byte in kept} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def words() -> list[str]:
    """All whole-word tokens, as text, in the order of their ids: spaced forms first, then bare ones (line starts)."""
    plain = [*TITLE_WORDS, *OPTION_NAMES, *OPTION_VALUES, *SHOP, *TASKS, *SQL, *KITCHEN, *TOOLS, *PUNCTUATION]
    numbers = [str(number) for number in range(101)]
    spaced = [" " + word for word in [*plain, *numbers]]
    bare = [*SHOP, *TASKS, *SQL, *KITCHEN, *TOOLS, *numbers[10:]]
    return [word for word in dict.fromkeys([*spaced, *bare]) if len(word) > 1]


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, made from the word lists alone."""
    vocabulary = {token: index for index, token in enumerate([PAD, ACT, END, *_byte_alphabet()])}
    for word in words():
        vocabulary.setdefault(word.replace(" ", "Ġ"), len(vocabulary))
    for spare in range(SPARE):
        word = f"Ġ{LATER[spare]}" if spare < len(LATER) else f"<spare{spare}>"
        vocabulary[word] = len(vocabulary)
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, ACT, END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=16384,
    )


def save(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template inside)."""
    build().save_pretrained(folder, save_jinja_files=False)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2))
