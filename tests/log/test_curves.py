"""Learning curves of a comparison: who has a line, who has dots, and when there is nothing to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentrl.log import curves as module
from agentrl.log.curves import curves


def a_run(folder: Path, values: list[float], method: str = "grpo", after: float | None = None) -> Path:
    folder.mkdir(parents=True)
    lines = [{"step": 2 * i, "rollout/success": value} for i, value in enumerate(values, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = {} if after is None else {"after": {"sampled": {"success": after, "return": 2 * after}}}
    (folder / "summary.json").write_text(json.dumps({"method": method, "eval": results}))
    return folder


def test_lines_and_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn: list[tuple[list[float], list[float], str]] = []
    plot = Axes.plot

    def noted(self: Axes, x: Any, y: Any, style: str = "-", **more: Any) -> Any:
        drawn.append((list(x), list(y), style))
        return plot(self, x, y, style, **more)

    monkeypatch.setattr(Axes, "plot", noted)
    monkeypatch.setattr(module, "WINDOW", 2)
    arms = {
        "GRPO": [a_run(tmp_path / "a", [0.2, 0.4, 0.6], after=0.7), a_run(tmp_path / "b", [0.4, 0.6, 0.8], after=0.5)],
        "SFT": [a_run(tmp_path / "c", [0.9, 0.9, 0.9], "sft", after=0.1)],
        "start": [a_run(tmp_path / "d", [], after=0.3)],
        "missing": [],
    }
    assert curves(arms, "rollout/success", tmp_path / "p.png", "a title of more words than fit into one line of " * 3)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    lines = [(x, [round(value, 9) for value in y]) for x, y, style in drawn if style == "-" and x]
    assert lines == [
        ([2, 4, 6], [0.2, 0.3, 0.5]),
        ([2, 4, 6], [0.4, 0.5, 0.7]),
        ([2, 4, 6], [0.3, 0.4, 0.6]),
    ]
    assert [y for x, y, style in drawn if style == "o" and x] == [[0.7, 0.5], [0.1], [0.3]]


def test_nothing_to_draw(tmp_path: Path) -> None:
    arms = {"SFT": [a_run(tmp_path / "a", [0.9], "sft", after=0.1)], "start": [a_run(tmp_path / "b", [], after=0.3)]}
    assert not curves(arms, "rollout/success", tmp_path / "p.png", "nothing")
    assert not (tmp_path / "p.png").exists()
