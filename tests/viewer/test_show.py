"""``agentrl show``: the right plays, and no order from a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from agentrl.cli import main
from agentrl.viewer.show import COLOURS, _Sheet
from tests.viewer.made import many, play, run_of, turn


def shown(capsys: Any, *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["show", *words])
    assert not stop.value.code
    return str(capsys.readouterr().out)


def test_lists_and_single_plays(tmp_path: Path, capsys: Any) -> None:
    folder = str(run_of(tmp_path / "run", many()))
    everything = shown(capsys, folder)
    assert "and 8 more" in everything
    one = shown(capsys, folder, "step=2", "task=shop/1")
    assert [line.split()[0] for line in one.splitlines()[1:5]] == ["2.1.0", "2.1.1", "2.1.2", "2.1.3"]
    assert "agentrl show" in one
    whole = shown(capsys, folder, "play=2.1.2")
    assert "want thing 1" in whole
    assert "> search red<end>" in whole
    assert whole.count("\nturn ") == 3
    assert "sold" in whole
    assert "2.1.3" in whole.partition("its group")[2]
    assert "the environment failed: the shop is closed" in shown(capsys, folder, "play=1.1.1")


def test_a_stranger_gives_no_orders(tmp_path: Path, capsys: Any) -> None:
    orders = "\x1b[2J\x1b]0;mine\x07 \u202egnp \x9b31m [bold red]loud[/] :smile: \ud800 \r"
    line = play(
        task=f"task {orders}",
        stop=f"done{orders}",
        reward_parts={orders: 1.0},
        error=orders,
        turns=[turn(action=orders, said=orders + "y" * 5000, ids=(1, 10**7), logprobs=[], advantages=[])],
    )
    folder = str(run_of(tmp_path / "run", [line, play(member=1)]))
    for words in (["play=1.0.0"], []):
        out = shown(capsys, folder, *words)
        assert not {char for char in out if ord(char) < 0x20 and char not in "\n\t"}
        assert not set(out) & {"\x7f", "\x9b", "\u202e", "\ud800"}
        assert "␛[2J␛]0;mine␇ ⟨U+202E⟩gnp ⟨U+009B⟩31m [bold red]loud[/] :smile: ⟨U+D800⟩ ␍" in out
    assert "⟨10000000⟩" in shown(capsys, folder, "play=1.0.0")
    assert "more characters" in shown(capsys, folder, "play=1.0.0")


@pytest.mark.parametrize(
    ("colour", "styles"),
    [
        ("mask", ["blue", "blue", "blue"]),
        ("advantage", ["green", "", "red"]),
        ("logprob", ["", "yellow", "bold red"]),
        ("gap", ["", "yellow", "dark_orange"]),
        ("entropy", ["", "", ""]),
    ],
)
def test_colours_by_hand(colour: str, styles: list[str]) -> None:
    printed: list[Text] = []

    class Paper:
        def print(self, text: Text) -> None:
            printed.append(text)

    line = turn(learner_logprobs=[-0.01001, -0.501, -4.05])
    _Sheet(Paper(), None, COLOURS[colour])._turn(line, 1)  # type: ignore[arg-type]
    found = {printed[1].plain[span.start : span.end]: str(span.style) for span in printed[1].spans}
    assert [found.get(f"⟨{token}⟩", "") for token in line["action_ids"]] == styles
