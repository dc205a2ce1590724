"""What the page is made of, and the commands that make it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.chat import Chat
from agentrl.cli import main
from agentrl.viewer import view as module
from agentrl.viewer.pack import Packed, Packer, number
from agentrl.viewer.page import digest, page
from agentrl.viewer.text import visible
from tests.viewer.made import many, play, run_of, turn


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def packed(plays: list[dict[str, Any]]) -> Packed:
    packer = Packer()
    for line in plays:
        packer.add(line)
    return packer.finish(None)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def test_signs_by_hand() -> None:
    assert visible("a\tb\nc\r\nd") == "a\tb\nc\nd"
    assert visible("\x1b[2J\x00\r\x7f") == "␛[2J␀␍␡"
    assert visible("\u202egnp.exe\u2066\u200b") == "⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+200B⟩"
    assert visible("\ud800 \x9b31m") == "⟨U+D800⟩ ⟨U+009B⟩31m"
    assert visible("👩\u200d🚀 שלום 中文") == "👩\u200d🚀 שלום 中文"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_is_left_to_obey(text: str) -> None:
    seen = visible(text)
    assert visible(seen) == seen
    seen.encode()  # half a surrogate pair would not go
    assert all(char in "\n\t" or ord(char) >= 0x20 for char in seen)
    assert not re.search("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", seen)


def test_blocks_hold_the_plays() -> None:
    plays = many()
    found = packed(plays)
    index = unpacked(found.blocks["index"])
    assert found.head["plays"] == len(plays) == 48
    assert [index["tasks"][i] for i in index["task"]] == [line["task"] for line in plays]
    assert [index["stops"][i] for i in index["stop"]] == [line["stop"] for line in plays]
    assert index["reward"] == [line["reward"] for line in plays]
    assert index["tokens"][:4] == [3, 5, 7, 3]
    texts = unpacked(found.blocks["text0"])
    assert len(texts) == len(set(texts)) == found.head["texts"]
    first = unpacked(found.blocks["plays0"])[0]
    assert texts[first["turns"][0]["a"]] == "search colour0"
    assert [(role, texts[ref]) for role, ref in first["turns"][0]["o"]] == [("user", "page 1 of shop 0")]
    begin, end = index["ends"][1], index["ends"][2]
    assert {texts[ref] for ref in index["refs"][begin:end]} == {
        "search colour2", "page 1 of shop 0", "buy", "sold", "want thing 0",
    }  # fmt: skip


def test_many_blocks() -> None:
    """Plays and texts that fill several blocks stand where the head says."""
    plays = [play(group=i, turns=[turn(said=f"{i} " + "x" * 30_000)]) for i in range(150)]
    found = packed(plays)
    assert [len(unpacked(found.blocks[f"plays{i}"])) for i in range(3)] == [64, 64, 22]
    starts = found.head["textStarts"]
    texts = [unpacked(found.blocks[f"text{i}"]) for i in range(len(starts))]
    assert len(texts) == 5
    assert starts == [sum(len(block) for block in texts[:i]) for i in range(len(texts))]


def test_a_prompt_is_kept_once() -> None:
    """A prompt that goes on from the tokens so far is kept from there; one that begins anew as a whole."""
    first = turn(prompt_ids=[5, 6], ids=(7, 8))
    grown = turn(prompt_ids=[5, 6, 7, 8, 9], ids=(10,))
    anew = turn(prompt_ids=[5, 9], ids=(11,))
    turns = unpacked(packed([play(turns=[first, grown, anew])]).blocks["plays0"])[0]["turns"]
    assert [line["p"] for line in turns] == [[0, [5, 6]], [4, [9]], [0, [5, 9]]]


def test_numbers_of_tokens() -> None:
    """Equal ones are one number, what is not finite is none, what does not fit the tokens is left out."""
    line = turn(logprobs=[-0.5, -0.5, -0.5], advantages=[float("nan"), 1.0, float("inf")], entropies=[0.1])
    found = packed([play(turns=[line])])
    one = unpacked(found.blocks["plays0"])[0]["turns"][0]
    assert one["l"] == -0.5
    assert one["d"] == [None, 1.0, None]
    assert "h" not in one
    assert found.head["scales"] == {"l": 0.5, "d": 1.0}
    assert number(None) is None


def test_pieces_say_what_the_tokens_say() -> None:
    chat = Chat.load("bundled:tiny")
    ids = list(chat.encode_action(module_message("search slim red mug")))
    assert "".join(chat.pieces(ids)) == "search slim red mug<end>"
    assert chat.pieces([-1, 10**6]) == ["", ""]


def module_message(text: str) -> Any:
    from agentrl.types import Message

    return Message("assistant", text)


def test_the_policy_names_this_script_and_style() -> None:
    text = page(packed(many()), {"run": "</script><b>", "about": {}, "untold": ""}, "<i>title")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(scripts) == 1
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy == (
        f"default-src 'none'; script-src '{digest(scripts[0])}'; style-src '{digest(style)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    assert "<title>&lt;i&gt;title</title>" in text
    assert "</script><b>" not in text
    assert not re.search(r"""(src|href)\s*=\s*["']|@import|url\(|innerHTML|eval\(""", text)


def test_view_writes_and_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = run_of(tmp_path / "method=grpo,seed=0", many())
    opened: list[str] = []
    monkeypatch.setattr(module.webbrowser, "open", opened.append)
    monkeypatch.setattr(module, "has_screen", lambda: False)
    assert run("view", str(folder)) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(folder / "trajectories.html"))
    assert not opened
    monkeypatch.setattr(module, "has_screen", lambda: True)
    before = (folder / "trajectories.html").read_bytes()
    assert run("view", str(folder)) == 0
    assert opened == [(folder / "trajectories.html").as_uri()]
    assert (folder / "trajectories.html").read_bytes() == before
    assert run("view", str(folder), "open=false", f"out={tmp_path / 'new' / 'page.html'}") == 0
    assert (tmp_path / "new" / "page.html").is_file()
    assert len(opened) == 1


def test_a_model_that_is_gone(tmp_path: Path, capsys: Any) -> None:
    config = f'model: {{path: "{tmp_path}/gone"}}\n'
    folder = run_of(tmp_path / "run", many(), config)
    assert run("view", str(folder), "open=false") == 0
    assert "tokens are shown as numbers: model.path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["view"], "run: not given; name a run's folder"),
        (["view", "nowhere"], "nowhere: there is no such folder"),
        (["view", "empty"], "empty/trajectories.jsonl: holds no play"),
        (["view", "damaged"], "damaged/trajectories.jsonl, line 2: not JSON"),
        (["show", "other"], "other/trajectories.jsonl, line 1: a play without group, task"),
        (["show", "good", "step=9"], "step=9: no play fits; this run has 48 plays of the steps 1 to 3"),
        (["show", "good", "colour=entrpy"], "colour=entrpy: no such colouring; did you mean 'entropy'?"),
        (["show", "good", "plai=1"], "plai"),
    ],
)
def test_mistakes(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "good", many())
    run_of(tmp_path / "empty", [])
    damaged = run_of(tmp_path / "damaged", many())
    lines = (damaged / "trajectories.jsonl").read_text().splitlines()
    (damaged / "trajectories.jsonl").write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]) + "\n")
    (run_of(tmp_path / "other", []) / "trajectories.jsonl").write_text('{"step": 1}\n')
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", many())
    with (folder / "trajectories.jsonl").open("a") as file:
        file.write('{"step": 4, "gro')
    assert run("view", str(folder), "open=false") == 0
