"""``agentrl play`` with a scripted person at the keyboard."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from agentrl import cli, play_env
from agentrl.config import compose
from agentrl.errors import ConfigError

CONF = Path(__file__).parent / "conf"


def played(monkeypatch: pytest.MonkeyPatch, typed: str, *words: str) -> dict[str, Any]:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    return play_env.play(compose("play", ["env=colours", *words], config_dir=CONF))


def test_a_whole_episode_by_number_and_by_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """train-0 shows red, whose answer is green: the second of the listed actions."""
    got = played(monkeypatch, "2\ngreen\nnever read\n")
    shown = capsys.readouterr().out
    assert got == {
        "task": "train-0",
        "turns": 2,
        "return": 1.0,
        "success": True,
        "over": True,
        "reward_parts": {},
    }
    assert "goal of train-0" in shown
    assert "red" in shown
    assert "2  green" in shown
    assert shown.count("reward +0.5") == 2
    assert "over after 2 turns" in shown


@pytest.mark.parametrize(
    ("typed", "turns"), [("", 0), ("quit\n", 0), ("\n\n9\n0\nquit\n", 0), ("blue\n", 1), ("> 3\n", 1)]
)
def test_leaving_early(
    typed: str, turns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    got = played(monkeypatch, typed)
    assert (got["turns"], got["over"], got["success"]) == (turns, False, False)
    shown = capsys.readouterr().out
    assert f"left after {turns} turns" in shown
    assert ("there are 4 numbered actions" in shown) == ("9" in typed)


def test_task_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    assert played(monkeypatch, "", "split=test", "task=test-2")["task"] == "test-2"
    with pytest.raises(ConfigError, match=r"task=test-9: the test split has no such task; did you mean 'test-"):
        played(monkeypatch, "", "split=test", "task=test-9")
    with pytest.raises(ConfigError, match=r"split=tset: no such split; did you mean 'test'\?"):
        played(monkeypatch, "", "split=tset")


def test_the_parts_of_the_reward_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("<answer>[red]nobody knows[/red]</answer>\n"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["play", "env=long_qa", "env.size=500"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert "part coverage" in shown
    assert "https://" not in shown.split("Question:")[0]


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert play_env._clean("a\x1b[31mb\nc\u202e") == "a\N{REPLACEMENT CHARACTER}[31mb\nc\N{REPLACEMENT CHARACTER}"
