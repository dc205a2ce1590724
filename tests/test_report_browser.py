"""The report in a real browser: it draws, and nothing in it runs or is fetched."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrl.cli import main
from tests.browser import browser
from tests.report_runs import a_run, solved

__all__ = ["browser"]
HOSTILE = (
    "<script>document.title='x'</script><img src=x onerror=\"document.title='x'\"><style>body{display:none}</style>"
)


def test_the_page_in_a_browser(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for env in ("webshop", "robotouille"):
        for seed in (0, 1):
            a_run(tmp_path / env / f"grpo{seed}", method="grpo", env=env, seed=seed, values=solved(20 + seed, seed))
            more = {"env": {"word": HOSTILE}}
            a_run(tmp_path / env / f"odd{seed}", method="grpo", env=env, seed=seed, values=solved(9, seed), more=more)
    monkeypatch.setattr(sys, "argv", ["agentrl"])
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), f"out={tmp_path / 'out'}", "report.draws=200"])
    page = (tmp_path / "out" / "report.html").as_uri()
    wrong: list[str] = []
    tab = browser.new_page(viewport={"width": 1200, "height": 1600})
    tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
    tab.on("request", lambda one: one.url == page or wrong.append(f"request: {one.url}"))
    tab.goto(page)
    found, picture = tab.content(), tab.screenshot()
    tab.close()
    assert wrong == []
    assert re.search(r"<title>agentrl report: success of 2 methods in 2 environments</title>", found)
    assert (
        found.count("<svg") == 4 + 2 * 3
    )  # curves and profiles of two environments; an interval for each method's mean
    assert found.count('<figure class="table"') >= 8
    assert not re.search(r"<(script|img)\b", found)
    assert found.count("<style") == found.count("<style>") + found.count('<style type="text/css">') > 0
    assert "<style>body{display" not in found
    assert len(picture) > 40_000  # an empty page of this size takes 8 kB
